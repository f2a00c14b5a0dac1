"""Frames for benchmarks of the networks, and how long work on them takes."""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from inference.evidence import Evidence, gather
from inference.network import FRAME_SIDE

RUNS = 5


def frames(count: int) -> Evidence:
    """Some frames of noise with an aperture in the middle."""
    pictures = np.random.default_rng(0).uniform(-1, 1, (count, FRAME_SIDE, FRAME_SIDE)).astype(np.float32)
    apertures = np.zeros(pictures.shape, bool)
    apertures[:, 80:170, 90:180] = True
    return next(gather(lambda start, stop: pictures[start:stop], apertures, apertures, chunk=count))


def seconds(work: Callable[[], object]) -> float:
    """The median time of some runs, after one to warm up."""
    times = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[1:])
