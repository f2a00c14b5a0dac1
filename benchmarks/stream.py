"""Frames a second of a stream of 512x512 frames in `sample` mode, the whole way from stored to stored values.

A still cine of 12 bits: evidence of all frames, networks, grain, composite. On a GPU where there is one; everything
beside the networks runs on the processor either way. At least 30 frames a second are wanted of a GPU of the H100 class.
"""

import time
from statistics import median

import numpy as np
import torch

from inference.grey_mapping import GreyMapping
from inference.pixels import Cine
from inference.reconstruct import Reconstructor

_SIDE, _RUNS = 512, 3
_FRAMES = {"cuda": 192, "cpu": 8}


def main() -> None:
    """Print frames a second of the shipped profile."""
    report(Reconstructor.load("fullfield"))


def report(reconstructor: Reconstructor) -> None:
    """Print frames a second, and where the time goes."""
    frames = _FRAMES[reconstructor.device]
    rng = np.random.default_rng(0)
    picture = rng.normal(600, 60, (_SIDE, _SIDE))
    stored = np.stack([picture + rng.normal(0, 25, picture.shape) for _ in range(frames)]).astype(np.uint16)
    apertures = np.zeros(stored.shape, bool)
    apertures[:, 150:360, 140:380] = True
    stored[~apertures] //= 12
    cine = Cine(stored=stored, mapping=GreyMapping.full_range(bits_stored=12))
    for mode in ("mean", "sample"):
        times = []
        for _ in range(_RUNS + 1):
            started = time.perf_counter()
            reconstructor.reconstruct(cine, apertures, "attributes", mode=mode, seed=0)
            times.append(time.perf_counter() - started)
        print(
            f"{reconstructor.device}, {torch.get_num_threads()} threads, {mode}: {frames / median(times[1:]):.1f} "
            f"frames/s of {_SIDE}x{_SIDE} (median of {_RUNS} runs of {frames} frames)"
        )


if __name__ == "__main__":
    main()
