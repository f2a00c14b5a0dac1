"""Find the collimator's aperture in the pixels of one frame.

Inside the aperture the detector sees many quanta, behind the blades few: after the modality's contrast
normalisation the finest detail (second differences) is weak inside and strong outside. The aperture is the
rectangle whose inside differs most from the ring around it in the logarithm of that noise.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from config.errors import NoAperture

#: Blocks of one side on which the rectangle is searched.
_BLOCKS = 48
#: Blocks in the ring that a rectangle is held against.
_RING = 3
#: Least difference of log noise between the ring and the inside, for an aperture to be there.
_LEAST_CONTRAST = 1.6


def find_aperture(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The measured pixels of a frame, (h, w) bool, from its grey levels in [-1, 1]. Raises NoAperture."""
    noise = _block_noise(image)
    left, top, right, bottom, contrast = _best_rectangle(noise)
    if contrast < _LEAST_CONTRAST or (right - left) * (bottom - top) > 0.95 * _BLOCKS**2:
        raise NoAperture("No aperture was found in the pixels: the picture shows the open field, or no blades.")
    height, width = image.shape
    mask = np.zeros(image.shape, dtype=bool)
    mask[
        round(top * height / _BLOCKS) : round(bottom * height / _BLOCKS),
        round(left * width / _BLOCKS) : round(right * width / _BLOCKS),
    ] = True
    return mask


def _block_noise(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """(blocks, blocks): logarithm of the mean absolute second difference."""
    detail = np.abs(ndimage.convolve(image, np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)))
    rows = np.linspace(0, image.shape[0], _BLOCKS + 1).astype(int)
    columns = np.linspace(0, image.shape[1], _BLOCKS + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(detail, rows[:-1], axis=0), columns[:-1], axis=1)
    area = np.diff(rows)[:, None] * np.diff(columns)[None]
    logarithm: NDArray[np.float64] = np.log(sums / area + 0.01)
    return logarithm


def _best_rectangle(noise: NDArray[np.float64]) -> tuple[int, int, int, int, float]:
    """Left, top, right, bottom in blocks (far edges excluded) and the contrast of the best rectangle."""
    total = np.zeros((_BLOCKS + 1, _BLOCKS + 1))
    total[1:, 1:] = noise.cumsum(0).cumsum(1)
    squares = np.zeros_like(total)
    squares[1:, 1:] = (noise**2).cumsum(0).cumsum(1)
    first, last = np.triu_indices(_BLOCKS + 1, 3)
    before, after = np.maximum(first - _RING, 0), np.minimum(last + _RING, _BLOCKS)
    inside = _sums(total, first, last, first, last)
    area = np.outer(last - first, last - first)
    around = _sums(total, before, after, before, after) - inside
    ring = np.maximum(np.outer(after - before, after - before) - area, 1)
    mean = inside / area
    spread = np.sqrt(np.maximum(_sums(squares, first, last, first, last) / area - mean**2, 0))
    contrast = np.where(ring > 1, around / ring - mean, 0)
    score = (contrast - 0.3 * spread) * area**0.15
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return (int(first[column]), int(first[row]), int(last[column]), int(last[row]), float(contrast[row, column]))


def _sums(
    total: NDArray[np.float64],
    top: NDArray[np.intp],
    bottom: NDArray[np.intp],
    left: NDArray[np.intp],
    right: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Sums over every pair of a row range and a column range, from a summed-area table."""
    rows = total[bottom] - total[top]
    return rows[:, right] - rows[:, left]
