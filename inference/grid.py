"""Between a frame's own pixels and the 256x256 that the networks work on.

A picture that was enlarged gives the small one when it is reduced again: what bicubic interpolation loses of the finest
detail of the grid is enlarged and added, once (back-projection, Irani & Peleg 1991, section 3; docs/decisions/0040).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from inference.network import FRAME_SIDE, PATCH

#: Side of the squares of patches over which a weave is told from a picture's own detail, in patches.
_WEAVE_SIDE = 9


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


def without_weave(pictures: Tensor, hidden: Tensor) -> Tensor:
    """Pictures (n, 1, 256, 256) without what repeats with the networks' 4x4 patches where they are hidden.

    The fine detail of each pixel of a patch, averaged over the patches around it, is taken away: a picture's own detail
    does not repeat so (docs/decisions/0044). hidden: (n, 1, 256, 256), 1 where the picture is generated.
    """
    # Grey levels in half precision would show as steps.
    with torch.autocast(pictures.device.type, enabled=False):
        pictures, hidden = pictures.float(), hidden.float()
        # The aperture's outline is no weave, nor is what the networks say inside of it.
        inside = -F.max_pool2d(-hidden, 5, 1, 2)
        fine = (pictures - _filtered(pictures, (1, 2, 2, 2, 1))) * inside
        total, number = (_around(F.pixel_unshuffle(part, PATCH)) for part in (fine, inside))
        return pictures - F.pixel_shuffle(total / number.clamp(min=1e-3), PATCH) * hidden


def softened(pictures: Tensor) -> Tensor:
    """An estimate (n, 1, h, w) of which each pixel takes a little of its neighbours, 1-2-1 in both directions.

    Of finer detail an estimate knows nothing, and what of it is there is weave (docs/decisions/0044).
    """
    with torch.autocast(pictures.device.type, enabled=False):
        return _filtered(pictures.float(), (1, 2, 1))


def _filtered(pictures: Tensor, row: tuple[int, ...]) -> Tensor:
    """Weighted by `row`, whose sum counts as 1, in both directions; the border's pixels go on beyond it."""
    weights = torch.tensor(row, dtype=pictures.dtype, device=pictures.device) / sum(row)
    beyond = (len(row) // 2,) * 4
    return F.conv2d(F.pad(pictures, beyond, mode="replicate"), (weights[:, None] * weights)[None, None])


def _around(patches: Tensor) -> Tensor:
    """Means over the squares of `_WEAVE_SIDE` patches around each, of (n, c, h, w)."""
    padded = F.pad(patches, (_WEAVE_SIDE // 2,) * 4, mode="replicate")
    return F.avg_pool2d(padded, _WEAVE_SIDE, stride=1)
