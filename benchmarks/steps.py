"""What a draw is worth by its number of network evaluations, on the validation pairs with the shipped weights.

Everything but that number is as in `fullfield evaluate`, finding the aperture included. A true posterior sampler's
hidden error is twice that of the `mean`, which takes no evaluation of Palette: far under that, a draw has collapsed
towards the mean, as the one of a single evaluation must.

python -m benchmarks.steps PAIRS
"""

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from inference import reconstruct
from inference.reconstruct import SAMPLE_STEPS, Reconstructor
from inference.reconstruction import Mode
from training.evaluate import evaluate
from training.pairs import read_pairs

_STEPS = (1, 2, 3, 4, 5, 6, 8)


def main() -> None:
    """Print a line for each number of evaluations."""
    if len(sys.argv) != 2:
        print("Usage: python -m benchmarks.steps PAIRS")
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    pairs = read_pairs(Path(sys.argv[1]), "val")
    reconstructor = Reconstructor.load("fullfield", "cpu")
    print(f"{len(pairs)} pairs, thesis protocol; the product draws in {SAMPLE_STEPS} evaluations")
    print("evaluations     MSE    SSIM  spectrum  MSE over the mean's  s a frame")
    for steps in _STEPS:
        # An admin cannot choose this number, so nothing in the product takes it as an argument.
        with patch.object(reconstruct, "SAMPLE_STEPS", steps):
            figures = evaluate(pairs, reconstructor)
        if steps == _STEPS[0]:
            print(_line("mean", "mean", figures, 1.0))
        print(_line(f"{steps}", "sample", figures, figures["sample_over_mean_mse"]))


def _line(title: str, mode: Mode, figures: dict[str, Any], ratio: float) -> str:
    thesis = figures["thesis"][mode]
    return (
        f"{title:>11}  {thesis['mse']['mean']:.4f}  {thesis['ssim']['mean']:.3f}  {figures['spectrum'][mode]:8.3f}  "
        f"{ratio:19.2f}  {figures['seconds_per_frame'][mode]:9.2f}"
    )


if __name__ == "__main__":
    main()
