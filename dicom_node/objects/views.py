"""What the masks of a cine have in common: over all of its frames, and over runs of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inference.on_disk import in_turn, let_go

Mask = NDArray[np.bool_]


def still_views(*masks: Mask) -> Iterator[slice]:
    """The runs of frames in which each of the masks (n, h, w) stays the same, in their order."""
    start, frames = 0, len(masks[0])
    for frame in range(1, frames + 1):
        if frame == frames or any(not np.array_equal(mask[frame], mask[start]) for mask in masks):
            yield slice(start, frame)
            start = frame
        let_go(*masks)


def always(mask: Mask) -> Mask:
    """(h, w) what is True in every frame of the mask (n, h, w)."""
    common = np.ones(mask.shape[1:], np.bool_)
    for (frame,) in in_turn(mask):
        common &= frame
    return common


def ever(mask: Mask) -> Mask:
    """(h, w) what is True in some frame of the mask (n, h, w)."""
    found = np.zeros(mask.shape[1:], np.bool_)
    for (frame,) in in_turn(mask):
        found |= frame
    return found


def frames_with_some(mask: Mask) -> list[int]:
    """The frames, from 0, in which something of the mask (n, h, w) is True."""
    return [index for index, (frame,) in enumerate(in_turn(mask)) if frame.any()]
