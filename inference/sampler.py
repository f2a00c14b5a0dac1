"""From noise to one draw of the residual."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

#: A denoiser with its condition bound: (noisy (n, 1, h, w), sigma (n,)) -> clean estimate (n, 1, h, w).
Denoiser = Callable[[Tensor, Tensor], Tensor]

#: Noise levels that the denoiser is trained for; at the highest the input tells nothing.
SIGMA_MIN, SIGMA_MAX = 0.02, 40.0
#: First and last noise level of a draw, and how they crowd towards the last (EDM, equation 5), chosen on the
#: validation pairs for few steps (docs/decisions/0016).
DRAW_FROM, DRAW_TO, RHO = 20.0, SIGMA_MIN, 4.0


def sigmas(steps: int) -> Tensor:
    """The noise levels of a draw, falling, with a final 0: (steps + 1,) (EDM, equation 5)."""
    ramp = torch.linspace(0, 1, steps)
    low, high = DRAW_TO ** (1 / RHO), DRAW_FROM ** (1 / RHO)
    return torch.cat([(high + ramp * (low - high)) ** RHO, torch.zeros(1)])


def sample(denoiser: Denoiser, noise: Tensor, hidden: Tensor, steps: int) -> Tensor:
    """One draw of the residual by DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): `steps` network evaluations.

    Each step takes the slope from two estimates, this one's and the one's before, so that few steps do not
    contract the draws towards the mean as Euler's do (docs/decisions/0016).
    noise: (n, 1, h, w) of standard normal values; hidden: (n, 1, h, w), 1 where the picture is hidden: only
    there does noise live, as Palette keeps known pixels in the noisy input.
    """
    levels = sigmas(steps).to(noise.device)
    x = levels[0] * noise * hidden
    before, step_before = x, 0.0
    for index, (now, after) in enumerate(pairwise(levels)):
        estimate = denoiser(x, now.expand(len(x))) * hidden
        if after == 0:
            return estimate
        step = float((now / after).log())
        ahead = estimate
        if index > 0:
            ahead = estimate + step / (2 * step_before) * (estimate - before)
        x = after / now * x + (1 - after / now) * ahead
        before, step_before = estimate, step
    return x
