"""A training of a small VAE over four steps, to be launched in several processes; each tells what it did.

    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 tests/small_training.py PAIRS OUT STOP

Beside OUT each process writes OUT-0.json, OUT-1.json: the numbers of the batches that it drew, a number of its noise,
and the digest of its weights at the end. A batch from number STOP on ends the process with an error.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

# Launched as a file, it does not have the project's root on its path.
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from accelerate import PartialState

from training.examples import Batch, Examples
from training.loop import Material, train
from training.pairs import read_pairs
from training.settings import TrainingSettings
from training.train import vae_task

SETTINGS = TrainingSettings(steps=4, batch=1, warm_up=1, validate_every=2, seed=3, mixed_precision="no")


def main(data: Path, out: Path, stop: int) -> None:
    drawn: list[int] = []
    draw = Examples.batch

    def noted(self: Examples, step: int, size: int) -> Batch:
        if step >= stop:
            raise SystemExit(f"stopped at batch {step}")
        drawn.append(step)
        return draw(self, step, size)

    Examples.batch = noted  # type: ignore[method-assign]
    task = vae_task(SETTINGS, (16, 16, 32, 32))
    learnt = []

    def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        learnt[:] = [model]
        return task.loss(model, batch)

    material = Material(training=read_pairs(data, "train"), validation=read_pairs(data, "val"), projections=None)
    train(replace(task, loss=loss), material, SETTINGS, out)
    digest = hashlib.sha256()
    for tensor in learnt[0].state_dict().values():
        digest.update(tensor.numpy().tobytes())
    told = {"drawn": drawn, "noise": torch.initial_seed(), "weights": digest.hexdigest()}
    out.with_name(f"{out.name}-{PartialState().process_index}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
