"""From noise to one draw of the residual, in two network evaluations."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

#: A denoiser with its condition bound: (noisy (n, 1, h, w), sigma (n,)) -> clean estimate (n, 1, h, w).
Denoiser = Callable[[Tensor, Tensor], Tensor]

#: Noise levels of a draw, falling to 0: Palette has been distilled to take these steps (docs/decisions/0045).
LEVELS = (20.0, 1.3183, 0.0)
#: Network evaluations of a draw.
SAMPLE_STEPS = len(LEVELS) - 1


def sample(denoiser: Denoiser, noise: Tensor, hidden: Tensor) -> Tensor:
    """One draw of the residual, from the first of `LEVELS` to 0 (DDIM's step, Song et al. 2021, in terms of EDM).

    noise: (n, 1, h, w) of standard normal values; hidden: (n, 1, h, w), 1 where the picture is hidden: only
    there does noise live, as Palette keeps known pixels in the noisy input.
    """
    x = LEVELS[0] * noise * hidden
    for now, after in pairwise(LEVELS):
        estimate = denoiser(x, x.new_full((len(x),), now)) * hidden
        x = after / now * x + (1 - after / now) * estimate
    return x
