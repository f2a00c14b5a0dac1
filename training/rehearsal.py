"""What a training would do, without doing it: two timed steps, and not a byte written."""

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from training.examples import fold_of
from training.loop import Learner, Material, Task, checkpoint, earlier_run
from training.pairs import Pair
from training.settings import TrainingSettings


def rehearse(
    task: Task, material: Material, settings: TrainingSettings, out: Path, start: Path | None = None
) -> list[str]:
    """Lines that say what would be trained on what, how long it would take, and where it would be written.

    Raises what the training would raise at its first steps.
    """
    learner = Learner(task, material, settings, start)
    run = earlier_run(task.name, settings, start, learner.processes, out)
    first = int(run.history[-1]["step"]) if run.history else 0
    # The first step is a slow one: memory is asked for, and kernels are chosen.
    seconds = min(_step_seconds(learner, step) for step in (0, 1))
    left = timedelta(seconds=round(seconds * (settings.steps - first)))
    parameters = sum(tensor.numel() for tensor in learner.model.parameters())
    device = learner.accelerator.device
    return [
        f"{task.name}: {parameters:,} parameters, " + (f"beginning with {start}" if start else "random at the start"),
        _pairs_told("training", [pair for pair in material.training if fold_of(pair.scene) != task.leave_out]),
        _pairs_told("validation", material.validation),
        _views_told(material.projections),
        f"examples: {_examples_told(task, material)}",
        f"{settings.steps} steps of {settings.batch} pictures, seed {settings.seed}",
        f"processes: {learner.processes}, on {device}, precision {learner.accelerator.mixed_precision}",
        f"{seconds:.2f} s a step: about {left} beside validation" + (f", from step {first} on" if first else ""),
        f"would write {out / task.name}.safetensors and {checkpoint(out, task.name, settings.steps)}",
    ]


def _step_seconds(learner: Learner, step: int) -> float:
    """How long a step takes: the next batch is drawn meanwhile, so it is the slower of both that counts."""
    began = time.perf_counter()
    batch = learner.draw(step)
    drawn = time.perf_counter()
    learner.learn(batch, step)
    return max(drawn - began, time.perf_counter() - drawn)


def _pairs_told(purpose: str, pairs: Sequence[Pair]) -> str:
    return f"pairs for {purpose}: {len(pairs)}, of {len({pair.scene for pair in pairs})} scenes"


def _examples_told(task: Task, material: Material) -> str:
    if task.examples is not None:
        return "drawn by the teacher"
    return "drawn on the way" if material.drawn is None else f"drawn ahead, {material.drawn}"


def _views_told(projections: Path | None) -> str:
    if projections is None:
        return "CT views: none"
    return f"CT views: {len(np.load(projections, mmap_mode='r'))}, a few of them for validation alone"
