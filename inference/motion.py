"""Whether the view stood still from one frame to the next, told block by block from the frames themselves.

The difference of a frame and what was seen before it is compared with what noise alone would leave of it, in the
measured and in the hidden region each by its own noise. Behind the blades noise is so strong that only means over
blocks can tell anything; there the measured region's stillness counts as well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from inference.network import FRAME_SIDE

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
#: Gives the frames [start, stop) of a cine: (stop - start, 256, 256) float32 grey in [-1, 1].
Frames = Callable[[int, int], Floats]

#: Side of a block, and of the cells in it whose squares are summed, in pixels of the 256x256 grid.
BLOCK, CELL = 8, 2
#: Blocks along a side.
GRID = FRAME_SIDE // BLOCK
#: Variance below which nothing counts as noise: a fifth of a step of 8 bits.
_FLOOR = (0.2 * 2 / 255) ** 2
#: Triples of frames from which the noise is estimated.
_TRIPLES = 16
#: Median of the square of a standard normal value.
_MEDIAN_SQUARE = 0.455
#: Mean square of a difference, over that of noise, up to which a block is still and from which it moves: of its
#: cells, and of the means of three by three blocks.
_CELLS, _MEANS = (2.5, 5.0), (5.0, 9.0)
#: Share of the measured blocks that move up to which the hidden region is trusted, and from which it is not.
_SHARE = (0.1, 0.25)
#: Share of a block's cells that a region needs for a say in it.
_ENOUGH = 0.25


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Variance of one frame's noise in a region: of cells and of whole blocks, (32, 32) each."""

    cells: Floats
    blocks: Floats


@dataclass(frozen=True, kw_only=True)
class _Blocks:
    """A difference over a region: share of each block's cells that it has, their mean, their mean square."""

    share: Floats
    mean: Floats
    square: Floats


def estimate_noise(frames: Frames, apertures: Mask) -> tuple[Noise, Noise]:
    """The noise of the measured and of the hidden region, from second differences of some of the frames.

    apertures: (n, 256, 256). What moves steadily leaves little in a second difference, x[t-1] - 2 x[t] + x[t+1],
    whose variance is six times the noise's. Two frames have only a first one.
    """
    count = len(apertures)
    starts = np.unique(np.linspace(0, max(count - 3, 0), _TRIPLES).astype(int))
    kernel = np.array([1, -2, 1] if count >= 3 else [1, -1] if count == 2 else [0], np.float32)
    measured, hidden = [], []
    for start in starts:
        some = frames(start, start + len(kernel))
        difference = np.tensordot(kernel, some, 1)
        shown = apertures[start : start + len(kernel)]
        measured.append(_blocks(difference, np.logical_and.reduce(shown)))
        hidden.append(_blocks(difference, ~np.logical_or.reduce(shown)))
    scale = float(max((kernel**2).sum(), 1))
    return _noise(measured, scale), _noise(hidden, scale)


def stillness(difference: Floats, expected: Floats, measured: Mask, hidden: Mask, noise: tuple[Noise, Noise]) -> Floats:
    """How far each block of a frame is what it was before: (32, 32) float32, 1 = still, 0 = moved.

    difference: (256, 256) of the frame and the mean of those before; expected: (32, 32) its variance in units of one
    frame's noise; measured, hidden: (256, 256) the pixels that were so in both.
    """
    gate = np.ones((GRID, GRID), np.float32)
    trust = 1.0
    for mask, its_noise in zip((measured, hidden), noise, strict=True):
        blocks = _blocks(difference, mask)
        has_say = blocks.share >= _ENOUGH
        if not has_say.any():
            continue
        # The exposure's own ups and downs are no motion.
        offset = float(np.average(blocks.mean, weights=blocks.share))
        cells = (blocks.square - 2 * offset * blocks.mean + offset**2) / (its_noise.cells * expected)
        means = (blocks.mean - offset) ** 2 / (its_noise.blocks * expected)
        still = _falling(cells, _CELLS) * _falling(_neighbourhood(means, blocks.share), _MEANS)
        still = np.where(has_say, still, np.float32(1))
        gate = np.minimum(gate, still)
        if mask is measured:
            trust = float(_falling(np.float32(np.average(1 - still, weights=blocks.share)), _SHARE))
        else:
            gate = np.where(has_say, gate * np.float32(trust), gate)
    eroded: Floats = ndimage.minimum_filter(gate, 3, mode="nearest")
    return eroded


def to_pixels(blocks: Floats) -> Floats:
    """(32, 32) values of blocks as (256, 256) pixels, linear in between."""
    return np.asarray(_SPREAD @ blocks @ _SPREAD.T, np.float32)


def to_blocks(pixels: Floats) -> Floats:
    """(256, 256) pixels as the means of (32, 32) blocks."""
    return _means(pixels, BLOCK)


def _blocks(difference: Floats, mask: Mask) -> _Blocks:
    side = FRAME_SIDE // CELL
    whole = np.asarray(mask.reshape(side, CELL, side, CELL).all(axis=(1, 3)), np.float32)
    cells = _means(difference, CELL) * whole
    share, mean, square = (_means(values, BLOCK // CELL) for values in (whole, cells, cells * cells))
    known: Floats = np.maximum(share, 1e-6)
    return _Blocks(share=share, mean=np.divide(mean, known), square=np.divide(square, known))


def _means(values: Floats, side: int) -> Floats:
    """The means of squares of so many values."""
    across, down = values.shape[1] // side, values.shape[0] // side
    return np.asarray(values.reshape(down, side, across, side).mean(axis=(1, 3)), np.float32)


def _noise(samples: list[_Blocks], scale: float) -> Noise:
    share = np.stack([sample.share for sample in samples])
    squares = np.stack([sample.square for sample in samples]) / scale
    means = np.stack([sample.mean for sample in samples]) ** 2 / scale / _MEDIAN_SQUARE
    return Noise(cells=_typical(squares, share), blocks=_typical(means, share))


def _typical(variances: Floats, share: Floats) -> Floats:
    """The median over time, evened out over neighbours; a region's own where a block never lay in it."""
    known = share >= _ENOUGH
    if not known.any():
        return np.full((GRID, GRID), _FLOOR, np.float32)
    ever = known.any(axis=0)
    median = np.full((GRID, GRID), np.median(variances[known]), np.float32)
    median[ever] = np.nanmedian(np.where(known, variances, np.nan)[:, ever], axis=0)
    return np.maximum(_neighbourhood(median, np.asarray(ever, np.float32)), np.float32(_FLOOR))


def _neighbourhood(values: Floats, weights: Floats) -> Floats:
    """Weighted means over three by three blocks."""
    total = ndimage.uniform_filter(values * weights, 3, mode="constant")
    weight = ndimage.uniform_filter(weights, 3, mode="constant")
    return np.asarray(np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), values), np.float32)


def _falling(value: Floats | np.float32, bounds: tuple[float, float]) -> Floats:
    """1 up to the first bound, 0 from the second, linear in between."""
    first, last = bounds
    return np.asarray(np.clip((last - value) / (last - first), 0, 1), np.float32)


def _spread() -> Floats:
    """(256, 32): each pixel's share in the two blocks nearest to it."""
    place = (np.arange(FRAME_SIDE) + 0.5) / BLOCK - 0.5
    shares = np.clip(1 - np.abs(np.clip(place, 0, GRID - 1)[:, None] - np.arange(GRID)), 0, None)
    return np.asarray(shares, np.float32)


_SPREAD = _spread()
