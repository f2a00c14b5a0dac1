"""Between a frame's own pixels and the 256x256 that the networks work on.

A picture that was enlarged gives the small one when it is reduced again: what bicubic interpolation loses of the finest
detail of the grid is enlarged and added, once (back-projection, Irani & Peleg 1991, section 3; docs/decisions/0040).
"""

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
