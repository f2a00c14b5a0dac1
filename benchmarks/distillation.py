"""Whether two evaluations of Palette can do what a draw takes five for: progressive distillation of the weights.

A teacher, the shipped Palette, draws from noise as the product does; the noise, the state after its second step and
the draw are kept. A student, which begins as the teacher, learns to come from the noise to that state in one step, and
from there to the draw in another (Salimans & Ho 2022, section 3; both targets are the clean estimate that the step
needs). No truth is shown to it, so that it may learn from the profile's own prior. Then it is put in the teacher's
place and scored on the validation pairs as `fullfield evaluate` does.

    python -m benchmarks.distillation PAIRS VIEWS -o FOLDER [--draws 3000] [--steps 3000]
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from inference import reconstruct
from inference.network import FRAME_SIDE
from inference.palette import Palette, condition
from inference.precision import autocast
from inference.reconstruct import SAMPLE_STEPS, Reconstructor
from inference.sampler import Denoiser, sample, sigmas
from inference.weights import PALETTE_CHANNELS, write_weights
from training.evaluate import evaluate
from training.examples import Examples
from training.pairs import Pair, read_pairs
from training.settings import TrainingSettings

Sampler = Callable[[Denoiser, Tensor, Tensor, int], Tensor]

_BATCH = 8
#: Steps from one score and file of weights to the next.
_SCORED_EVERY = 500
_LEARNING_RATE, _WARM_UP, _AVERAGE = 2e-4, 100, 0.995
#: The noise level between the student's two steps: where the teacher is after two of its own.
_FIRST, _MIDDLE = (float(level) for level in sigmas(SAMPLE_STEPS)[[0, 2]])
#: What is kept of a draw, each (256, 256).
_KEPT = ("collimated", "aperture", "frames", "mean", "noise", "middle", "drawn")


@dataclass(frozen=True, kw_only=True)
class _Draws:
    """What the teacher drew: (n, 7, 256, 256) float16 on disk, in the order of `_KEPT`."""

    path: Path
    count: int

    def batches(self, seed: int) -> Iterator[dict[str, Tensor]]:
        """Random ones, without end; each (n, 1, 256, 256)."""
        kept = np.load(self.path, mmap_mode="r")
        rng = np.random.default_rng(seed)
        while True:
            rows = np.sort(rng.choice(self.count, _BATCH, replace=False))
            batch = torch.from_numpy(kept[rows].astype(np.float32))
            yield {name: batch[:, i : i + 1] for i, name in enumerate(_KEPT)}


def main() -> None:
    """Draw, distil, and print a line for each score."""
    asked = _asked()
    asked.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    teacher = Reconstructor.load("fullfield", "cpu")
    draws = _drawn(teacher, asked)
    pairs = read_pairs(asked.pairs, "val")
    print("evaluations  distilled for     MSE    SSIM  spectrum  MSE over the mean's  s a frame")
    _score(teacher, f"{SAMPLE_STEPS}", "", pairs)
    student = deepcopy(teacher.weights.palette).train().requires_grad_(True)
    _score(_with(teacher, student), "2", "0 steps", pairs, by=two_steps)
    average = deepcopy(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / _WARM_UP, 0.5 * (1 + np.cos(np.pi * n / asked.steps)))
    )
    for number, batch in zip(range(1, asked.steps + 1), draws.batches(seed=1), strict=False):
        with autocast("cpu"):
            loss = _loss(student, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mean, weight in zip(average.parameters(), student.parameters(), strict=True):
                mean.lerp_(weight, 1 - _AVERAGE)
        if number % _SCORED_EVERY == 0 or number == asked.steps:
            write_weights(average, asked.out / "palette.safetensors")
            _score(_with(teacher, average), "2", f"{number} steps", pairs, by=two_steps)


def two_steps(denoiser: Denoiser, noise: Tensor, hidden: Tensor, _steps: int) -> Tensor:
    """One draw of the student's, in place of `inference.sampler.sample`."""
    x = _FIRST * noise * hidden
    for level, after in ((_FIRST, _MIDDLE), (_MIDDLE, 0.0)):
        estimate = denoiser(x, torch.full((len(x),), level)) * hidden
        x = after / level * x + (1 - after / level) * estimate
    return x


def _loss(student: Palette, batch: dict[str, Tensor]) -> Tensor:
    """Squared error of the clean estimates that lead from noise to the state between, and from there to the draw."""
    hidden = 1 - batch["aperture"]
    seen = condition(batch["collimated"], batch["aperture"], batch["frames"], batch["mean"])
    start = _FIRST * batch["noise"] * hidden
    share = _MIDDLE / _FIRST
    first = torch.arange(len(hidden)) % 2 == 0
    rows = first[:, None, None, None]
    x = torch.where(rows, start, batch["middle"])
    target = torch.where(rows, (batch["middle"] - share * start) / (1 - share), batch["drawn"])
    estimate = student(x, torch.where(first, _FIRST, _MIDDLE), seen)
    loss: Tensor = ((estimate.float() - target).square() * hidden).sum() / hidden.sum()
    return loss


@torch.inference_mode()
def _drawn(teacher: Reconstructor, asked: argparse.Namespace) -> _Draws:
    """The teacher's draws on training examples, made unless an earlier run has."""
    path = asked.out / "draws.npy"
    if path.is_file():
        return _Draws(path=path, count=len(np.load(path, mmap_mode="r")))
    examples = Examples(read_pairs(asked.pairs, "train"), asked.views, TrainingSettings(seed=2))
    part = path.with_suffix(".part")
    shape = (asked.draws, len(_KEPT), FRAME_SIDE, FRAME_SIDE)
    kept = np.lib.format.open_memmap(part, "w+", np.float16, shape)
    weights = teacher.weights
    for start in track(range(0, asked.draws, _BATCH), description="drawing", transient=True):
        batch = examples.batch(start // _BATCH, min(_BATCH, asked.draws - start))
        hidden, noise = 1 - batch.aperture, torch.randn_like(batch.full)
        states: list[Tensor] = []
        with autocast("cpu"):
            mean = weights.vae(batch.collimated, batch.aperture, batch.frames).mean.float()
            seen = condition(batch.collimated, batch.aperture, batch.frames, mean)

            def denoiser(x: Tensor, sigma: Tensor, seen: Tensor = seen, states: list[Tensor] = states) -> Tensor:
                states.append(x)
                estimate: Tensor = weights.palette(x, sigma, seen).float()
                return estimate

            drawn = sample(denoiser, noise, hidden, SAMPLE_STEPS)
        parts = (batch.collimated, batch.aperture, batch.frames, mean, noise, states[2], drawn)
        kept[start : start + len(noise)] = torch.cat(parts, dim=1).numpy()
    kept.flush()
    part.replace(path)
    return _Draws(path=path, count=asked.draws)


def _with(teacher: Reconstructor, student: Palette) -> Reconstructor:
    palette = Palette(PALETTE_CHANNELS)
    palette.load_state_dict(student.state_dict())
    return Reconstructor(replace(teacher.weights, palette=palette.eval()), "cpu")


def _score(
    reconstructor: Reconstructor, steps: str, distilled: str, pairs: Sequence[Pair], by: Sampler = sample
) -> None:
    with patch.object(reconstruct, "sample", by):
        figures = evaluate(pairs, reconstructor)
    thesis = figures["thesis"]["sample"]
    print(
        f"{steps:>11}  {distilled:>13}  {thesis['mse']['mean']:.4f}  {thesis['ssim']['mean']:.3f}  "
        f"{figures['spectrum']['sample']:8.3f}  {figures['sample_over_mean_mse']:19.2f}  "
        f"{figures['seconds_per_frame']['sample']:9.2f}",
        flush=True,
    )


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.distillation", description="Distil Palette to two steps.")
    parser.add_argument("pairs", type=Path, metavar="PAIRS")
    parser.add_argument("views", type=Path, metavar="VIEWS")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--draws", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=3000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
