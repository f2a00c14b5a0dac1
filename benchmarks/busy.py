"""Seconds a frame while another process keeps one of two processors busy, by how PyTorch's threads wait for each other.

`ACTIVE` is libgomp's own choice, busy loops; `PASSIVE`, asleep, is what `fullfield` chooses (docs/decisions/0041).
Each in a process of its own, since libgomp reads it once; at rest too, to see what it costs there.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import numpy as np
import torch

from inference.evidence import Evidence, gather
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode

_RUNS = 5
_SIDE = 256
_MODES: tuple[Mode, ...] = ("mean", "sample")


def main() -> None:
    """Print a line for each policy, at rest and beside a busy process."""
    if len(sys.argv) > 1:
        _measure()
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    print(f"{len(cores)} processors; each figure is the median of {_RUNS} runs")
    for beside, state in ((0, "at rest"), (1, "beside a busy process")):
        for policy in ("ACTIVE", "PASSIVE"):
            with _busy(beside):
                command = [sys.executable, "-m", "benchmarks.busy", "measure"]
                surroundings = os.environ | {"OMP_WAIT_POLICY": policy}
                said = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout
            print(f"{state}, {policy}: {said.strip()}")


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """So many processes that compute, each in a session of its own, until the end."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _measure() -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    reconstructor = Reconstructor.load("fullfield", "cpu")
    told = []
    for mode in _MODES:
        times = []
        for _ in range(_RUNS + 1):
            started = time.perf_counter()
            reconstructor.generate(_frame(), mode=mode, seed=0)
            times.append(time.perf_counter() - started)
        told.append(f"{mode} {median(times[1:]):.2f} s a frame")
    print(", ".join(told))


def _frame() -> Evidence:
    """A frame of noise with an aperture in the middle."""
    pictures = np.random.default_rng(0).uniform(-1, 1, (1, _SIDE, _SIDE)).astype(np.float32)
    apertures = np.zeros(pictures.shape, bool)
    apertures[:, 80:170, 90:180] = True
    return next(gather(lambda start, stop: pictures[start:stop], apertures, apertures))


if __name__ == "__main__":
    main()
