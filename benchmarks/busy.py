"""Seconds a frame while another process keeps one of two processors busy, by how PyTorch's threads wait for each other.

`ACTIVE` is libgomp's own choice, busy loops; `PASSIVE`, asleep, is what `fullfield` chooses (docs/decisions/0041).
Each in a process of its own, since libgomp reads it once; at rest too, to see what it costs there.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

from benchmarks._frames import RUNS, frames, seconds
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode

_MODES: tuple[Mode, ...] = ("mean", "sample")


def main() -> None:
    """Print a line for each policy, at rest and beside a busy process."""
    if len(sys.argv) > 1:
        _measure()
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    print(f"{len(cores)} processors; each figure is the median of {RUNS} runs")
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
        taken = seconds(partial(reconstructor.generate, frames(1), mode=mode, seed=0))
        told.append(f"{mode} {taken:.2f} s a frame")
    print(", ".join(told))


if __name__ == "__main__":
    main()
