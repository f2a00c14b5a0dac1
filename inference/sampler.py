"""From noise to one draw of the residual, or straight to its best estimate."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

#: A denoiser with its condition bound: (noisy (n, 1, h, w), sigma (n,)) -> clean estimate (n, 1, h, w).
Denoiser = Callable[[Tensor, Tensor], Tensor]

SIGMA_MIN, SIGMA_MAX, RHO = 0.02, 40.0, 5.0


def sigmas(steps: int) -> Tensor:
    """The noise levels of a draw, falling, with a final 0: (steps + 1,) (EDM, equation 5)."""
    ramp = torch.linspace(0, 1, steps)
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    return torch.cat([(high + ramp * (low - high)) ** RHO, torch.zeros(1)])


def sample(denoiser: Denoiser, noise: Tensor, hidden: Tensor, steps: int) -> Tensor:
    """One draw of the residual by Heun's method (EDM, algorithm 1): 2 * steps - 1 network evaluations.

    noise: (n, 1, h, w) of standard normal values; hidden: (n, 1, h, w), 1 where the picture is hidden: only
    there does noise live, as Palette keeps known pixels in the noisy input.
    """
    levels = sigmas(steps).to(noise.device)
    x = levels[0] * noise * hidden
    for now, after in pairwise(levels):
        slope = (x - denoiser(x, now.expand(len(x))) * hidden) / now
        predicted = x + (after - now) * slope
        if after > 0:
            slope_after = (predicted - denoiser(predicted, after.expand(len(x))) * hidden) / after
            predicted = x + (after - now) * 0.5 * (slope + slope_after)
        x = predicted
    return x


def best_estimate(denoiser: Denoiser, hidden: Tensor) -> Tensor:
    """The posterior mean of the residual by one network evaluation.

    At the highest noise level the input tells nothing, so the optimal denoiser (EDM, equation 3 and appendix B.3)
    is the mean of the residual given the condition.
    """
    x = torch.zeros_like(hidden)
    return denoiser(x, torch.full((len(x),), SIGMA_MAX, device=x.device)) * hidden
