"""Still views: runs of frames of which the same pixels were measured."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def still_views(*masks: NDArray[np.bool_]) -> Iterator[slice]:
    """The runs of frames in which each of the masks (n, h, w) stays the same, in their order."""
    start, frames = 0, len(masks[0])
    for frame in range(1, frames + 1):
        if frame == frames or any(not np.array_equal(mask[frame], mask[start]) for mask in masks):
            yield slice(start, frame)
            start = frame
