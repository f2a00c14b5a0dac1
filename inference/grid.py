"""Between a frame's own pixels and the 256x256 that the networks work on.

A picture that was enlarged gives the small one when it is reduced again: what bicubic interpolation loses of the finest
detail of the grid is enlarged and added, once (back-projection, Irani & Peleg 1991, section 3; docs/decisions/0040).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference.network import FRAME_SIDE


def reduced(pictures: Tensor) -> Tensor:
    """(n, 1, h, w) to (n, 1, 256, 256), with antialiasing, as PIL's bilinear does."""
    return F.interpolate(pictures, (FRAME_SIDE, FRAME_SIDE), mode="bilinear", antialias=True)


def enlarged(pictures: Tensor, size: tuple[int, ...]) -> Tensor:
    """(n, 1, 256, 256) to (n, 1, h, w)."""
    large = F.interpolate(pictures, size, mode="bicubic")
    if min(size) <= FRAME_SIDE:
        return large
    lost = pictures - reduced(large)
    return large + F.interpolate(lost, size, mode="bicubic")


def without_weave(pictures: Tensor) -> Tensor:
    """A best estimate (n, 1, h, w) with little left of the weave of the networks' 4x4 patches.

    Each pixel takes a little of its neighbours (1, 2, 1 in both directions): of finer detail an estimate knows nothing
    (docs/decisions/0044).
    """
    row = torch.tensor([0.25, 0.5, 0.25], device=pictures.device)
    weights = (row[:, None] * row)[None, None]
    # Grey levels in half precision would show as steps.
    with torch.autocast(pictures.device.type, enabled=False):
        return F.conv2d(F.pad(pictures.float(), (1, 1, 1, 1), mode="replicate"), weights)
