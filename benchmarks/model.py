"""Seconds a frame of the profile `fullfield` and of the thesis's sampler, in one run on two cores, at 256x256.

The thesis's sampler takes 1,000 steps of a U-Net of 62.6 million parameters: one step is timed and multiplied, with
random weights, which compute as long as trained ones. Also frames a second by batch, and memory.
"""

import os
import resource
from functools import partial

import numpy as np
import torch

from benchmarks._frames import RUNS, frames, seconds
from inference.network import FRAME_SIDE
from inference.precision import autocast
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode
from inference.thesis.palette import Palette
from inference.thesis.schedule import sampling_schedule

_BATCHES = (1, 2, 4, 8)


def main() -> None:
    """Print seconds, frames a second, memory and the ratio."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with autocast(device):
        precision = "bfloat16" if torch.is_autocast_enabled(device) else "float32"
    print(f"device {device}, {len(cores)} cores, {precision}; each figure is the median of {RUNS} runs")
    reconstructor = Reconstructor.load("fullfield", device)
    by_mode: dict[Mode, float] = {}
    for mode in ("mean", "sample"):
        rates = []
        for batch in _BATCHES:
            taken = seconds(partial(reconstructor.generate, frames(batch), mode=mode, seed=0))
            by_mode[mode] = taken if batch == 1 else by_mode[mode]
            rates.append(f"{batch / taken:.1f} at {batch}")
        print(f"fullfield, {mode}: {by_mode[mode]:.3f} s a frame; frames a second by batch: {', '.join(rates)}")
    finding = seconds(lambda: reconstructor.find_apertures(np.zeros((1, FRAME_SIDE, FRAME_SIDE), np.float32)))
    print(f"fullfield, finding the aperture: {finding:.3f} s a frame")
    print(f"memory with its networks: {_peak_megabytes():.0f} MB at most")
    step, steps = _thesis_step(device), sampling_schedule().steps
    print(f"thesis: {step:.2f} s a step, {steps} steps: {step * steps:.0f} s a frame (steps multiplied, not run)")
    print(f"memory with the thesis's U-Net: {_peak_megabytes():.0f} MB at most")
    print(f"a draw of fullfield is {step * steps / by_mode['sample']:,.0f} times as fast")


def _thesis_step(device: str) -> float:
    """Seconds of one evaluation of the thesis's U-Net, one picture, in the precision that it is published in."""
    network = Palette().eval().to(device)
    condition, noisy = torch.zeros(2, 1, 3, FRAME_SIDE, FRAME_SIDE, device=device)
    gamma = torch.full((1,), 0.5, device=device)
    with torch.inference_mode():
        return seconds(lambda: network(condition, noisy, gamma))


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
