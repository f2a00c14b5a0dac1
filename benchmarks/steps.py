"""What a draw is worth by its number of network evaluations, on the validation pairs: the teacher's, and the product's.

The teacher is the Palette that the product's was distilled from, `palette.safetensors` of the folder of their
training; it draws by its solver of many steps. Everything else is as in `fullfield evaluate`, finding the aperture
included. A true posterior sampler's hidden error is twice that of the `mean`, which takes no evaluation of Palette:
far under that, a draw has collapsed towards the mean, as the one of a single evaluation must.

python -m benchmarks.steps PAIRS TEACHER
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from inference import reconstruct
from inference.palette import Palette
from inference.reconstruct import SAMPLE_STEPS, Reconstructor
from inference.reconstruction import Mode
from inference.sampler import Denoiser
from inference.weights import PALETTE_CHANNELS, read_weights
from training.evaluate import evaluate
from training.pairs import read_pairs
from training.solver import TEACHER_STEPS, solve

_STEPS = (1, 2, 3, 4, 5, 6, 8)


def main() -> None:
    """Print a line for each number of evaluations."""
    if len(sys.argv) != 3:
        print("Usage: python -m benchmarks.steps PAIRS TEACHER")
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    pairs = read_pairs(Path(sys.argv[1]), "val")
    product = Reconstructor.load("fullfield", "cpu")
    teacher = _with(product, Path(sys.argv[2]))
    print(f"{len(pairs)} pairs, thesis protocol; the product was distilled from {TEACHER_STEPS} evaluations")
    print(" evaluations     MSE    SSIM  spectrum  MSE over the mean's  s a frame")
    figures = evaluate(pairs, product)
    print(_line("mean", "mean", figures, 1.0))
    print(_line(f"product, {SAMPLE_STEPS}", "sample", figures, figures["sample_over_mean_mse"]))
    for steps in _STEPS:

        def drawn(denoiser: Denoiser, noise: Tensor, hidden: Tensor, steps: int = steps) -> Tensor:
            return solve(denoiser, noise, hidden, steps)[-1]

        # An admin cannot choose the sampler, so nothing in the product takes it as an argument.
        with patch.object(reconstruct, "sample", drawn):
            figures = evaluate(pairs, teacher)
        print(_line(f"teacher, {steps}", "sample", figures, figures["sample_over_mean_mse"]))


def _with(product: Reconstructor, teacher: Path) -> Reconstructor:
    palette = Palette(PALETTE_CHANNELS)
    read_weights(palette, teacher)
    return Reconstructor(replace(product.weights, palette=palette.eval()), product.device)


def _line(title: str, mode: Mode, figures: dict[str, Any], ratio: float) -> str:
    thesis = figures["thesis"][mode]
    return (
        f"{title:>12}  {thesis['mse']['mean']:.4f}  {thesis['ssim']['mean']:.3f}  {figures['spectrum'][mode]:8.3f}  "
        f"{ratio:19.2f}  {figures['seconds_per_frame'][mode]:9.2f}"
    )


if __name__ == "__main__":
    main()
