"""One draw of the thesis's Palette: from the condition itself, step by step, to a picture."""

from collections.abc import Callable

import torch
from torch import Tensor

from inference.thesis.schedule import Schedule

#: A denoiser: (condition (n, 3, h, w), noisy (n, 3, h, w), gamma (n,)) -> noise (n, 3, h, w).
Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
#: Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def draw(
    denoiser: Denoiser,
    condition: Tensor,
    hidden: Tensor,
    schedule: Schedule,
    noise: Callable[[], Tensor],
    progress: Callable[[float], None] | None = None,
) -> Tensor:
    """One draw of the posterior (Ho et al. 2020, algorithm 2), from the noisiest step to the least.

    condition: (n, 3, h, w), see `texture.condition`, where the draw begins, as in the thesis, and whose known pixels
    are written back after each step; hidden: (n, 1, h, w), 1 = hidden; noise: gives standard normal values that
    broadcast to the condition's shape, anew at each call; progress: is told the share done. Gives (n, 3, h, w).
    """
    y = condition
    for done, step in enumerate(reversed(range(schedule.steps)), start=1):
        estimate = schedule.clean(y, denoiser(condition, y, schedule.gamma[step].to(y).expand(len(y))), step)
        y = schedule.clean_weight[step] * estimate + schedule.noisy_weight[step] * y
        if step:
            y = y + schedule.deviation[step] * noise()
        y = torch.where(hidden.bool(), y, condition)
        if progress is not None:
            progress(done / schedule.steps)
    return y


def to_grey(picture: Tensor) -> Tensor:
    """Three channels (n, 3, h, w) to one grey picture (n, h, w) by the weights of luma."""
    weights = torch.tensor(LUMA, dtype=picture.dtype, device=picture.device)
    return torch.einsum("nchw,c->nhw", picture, weights)
