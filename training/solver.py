"""From noise to one draw of the residual by a solver of many steps: how the teacher of the shipped Palette draws."""

from itertools import pairwise

import torch
from torch import Tensor

from inference.sampler import LEVELS, Denoiser

#: Noise levels that Palette is trained for; at the highest the input tells nothing.
SIGMA_MIN, SIGMA_MAX = 0.02, 40.0
#: First and last noise level of a draw, and how they crowd towards the last (EDM, equation 5), chosen on the
#: validation pairs for few steps (docs/decisions/0016).
DRAW_FROM, DRAW_TO, RHO = LEVELS[0], SIGMA_MIN, 4.0
#: Steps of the teacher's draw, a network evaluation each, and after how many it is at the student's second level.
TEACHER_STEPS, MIDDLE = 6, 3


def sigmas(steps: int) -> Tensor:
    """The noise levels of a draw, falling, with a final 0: (steps + 1,) (EDM, equation 5)."""
    ramp = torch.linspace(0, 1, steps)
    low, high = DRAW_TO ** (1 / RHO), DRAW_FROM ** (1 / RHO)
    return torch.cat([(high + ramp * (low - high)) ** RHO, torch.zeros(1)])


def solve(denoiser: Denoiser, noise: Tensor, hidden: Tensor, steps: int = TEACHER_STEPS) -> list[Tensor]:
    """One draw of the residual by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): `steps` network evaluations.

    Gives the noisy residual at each of the levels, the last of which is the draw; (n, 1, h, w) each. Each step takes
    the slope from two estimates, this one's and the one's before, so that few steps do not contract the draws towards
    the mean as Euler's do (docs/decisions/0016).
    noise, hidden: as `inference.sampler.sample` takes them.
    """
    levels = sigmas(steps).to(noise.device)
    states = [levels[0] * noise * hidden]
    before, step_before = states[0], 0.0
    for index, (now, after) in enumerate(pairwise(levels)):
        x = states[-1]
        estimate = denoiser(x, now.expand(len(x))) * hidden
        if after == 0:
            return [*states, estimate]
        step = float((now / after).log())
        ahead = estimate
        if index > 0:
            ahead = estimate + step / (2 * step_before) * (estimate - before)
        states.append(after / now * x + (1 - after / now) * ahead)
        before, step_before = estimate, step
    return states
