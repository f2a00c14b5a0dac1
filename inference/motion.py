"""Whether the view stood still from one frame to the next, told block by block from the frames themselves.

The difference of a frame and the mean of those before it is compared with what noise alone would leave of it, in the
measured and in the hidden region each by its own noise. Behind the blades noise is so strong that only means over
many pixels, and over some frames, can tell anything; there the measured region's stillness counts as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

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
#: Blocks, and cells, along a side.
GRID, _CELLS = FRAME_SIDE // BLOCK, FRAME_SIDE // CELL
#: Variance of cells below which nothing counts as noise, a fifth of a step of 8 bits; and of blocks' means in the
#: measured and in the hidden region: a shift too small to change what lies behind the blades is to be no motion.
_FLOOR = np.float32((0.2 * 2 / 255) ** 2)
_MEAN_FLOORS = (_FLOOR, _FLOOR * np.float32((CELL / BLOCK) ** 2))
#: Triples of frames from which the noise is estimated.
_TRIPLES = 16
#: Frames up to which a change between them cannot be told from noise by its rarity. There noise is at most so much
#: coarser than the grain of one frame: the variance of cells over that of the grain, which is 1 for white noise.
_FEW, _COARSEST_OF_FEW = 8, 10.0
#: Median of the square of a standard normal value.
_MEDIAN_SQUARE = 0.455
#: Variance of a difference over that which noise leaves, up to which it is noise and from which it is motion: of one
#: block's cells, of those of three by three blocks, and of the means of three by three blocks. Noise passes the lower
#: ones less than once in a million blocks.
_DETAIL, _DETAIL_AROUND, _MEANS_AROUND = (6.0, 12.0), (2.0, 3.5), (4.5, 8.0)
#: How much more than by noise the measured detail changes when blades move, and other light is scattered into it.
_OTHER_LIGHT = np.float32(4)
#: Share of the measured blocks that move up to which the hidden region is trusted, and from which it is not; and the
#: breadth in blocks of a wire that moves, which may take more than that of a small aperture, but no more than half.
_SHARE, _WIRE, _MOST_OF_WIRE = (0.1, 0.25), 2.0, 0.5
#: Share of a block's cells that a region needs for a say in it.
_ENOUGH = 0.25
#: Difference of grey levels up to which a pixel shows the very same noise, a tenth of a step of 8 bits; and the share
#: of pixels that do so in a repeated frame.
_SAME, _REPEATED = 0.1 * 2 / 255, 0.9
#: Correlation of the noise of neighbouring frames up to which it is put down to chance, and the most there can be.
_CHANCE, _MOST_CORRELATED = 0.1, 0.9


@dataclass(frozen=True, kw_only=True)
class Region:
    """Pixels that are measured, or hidden, in all frames that are compared.

    cells: (128, 128) float32, 1 where a cell lies in it whole; share: (32, 32) float32, the share of each block's
    cells; has_say: (32, 32) bool, the blocks where that is enough.
    """

    cells: Floats
    share: Floats
    has_say: Mask

    @classmethod
    def of(cls, mask: Mask) -> "Region":
        """The region of the pixels (256, 256) that are True."""
        cells = np.asarray(mask.reshape(_CELLS, CELL, _CELLS, CELL).all(axis=(1, 3)), np.float32)
        share = _means(cells, BLOCK // CELL)
        return cls(cells=cells, share=share, has_say=share >= _ENOUGH)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Variance of one frame's noise in a region, (32, 32) each: of a block's cells around their mean, and of that."""

    detail: Floats
    mean: Floats


@dataclass(frozen=True, kw_only=True)
class CineNoise:
    """The noise of a cine's measured and hidden region, and its correlation from one frame to the next (0 to 0.9)."""

    measured: Noise
    hidden: Noise
    correlation: float


def estimate_noise(frames: Frames, apertures: Mask) -> CineNoise:
    """The noise of a cine, from second differences of some of its frames.

    apertures: (n, 256, 256). What moves steadily leaves little in a second difference, x[t-1] - 2 x[t] + x[t+1],
    whose variance is six times the noise's. Two frames have only a first one.
    """
    count = len(apertures)
    kernel = np.array([1, -2, 1] if count >= 3 else [1, -1] if count == 2 else [0], np.float32)
    starts = np.unique(np.linspace(0, count - len(kernel), _TRIPLES).astype(int))
    samples: dict[bool, list[_Sample]] = {True: [], False: []}
    one_apart, two_apart = [], []
    for start in starts:
        some, shown = frames(start, start + len(kernel)), apertures[start : start + len(kernel)]
        if any(is_repeated(*pair, shown[0]) for pair in pairwise(some)):
            continue
        cells = np.tensordot(kernel, np.stack([_means(frame, CELL) for frame in some]), 1)
        grain = np.stack([_grain(frame) for frame in some])
        for measured in (True, False):
            region = Region.of(np.logical_and.reduce(shown == measured))
            mean, detail = _spread_in(cells, region)
            samples[measured].append(
                _Sample(known=region.has_say, mean=mean, detail=detail, grain=_spread_in(grain[0], region)[1])
            )
            if count >= 3 and not measured:
                one_apart.append(_spread_in(grain[1] - grain[0], region)[1][region.has_say])
                two_apart.append(_spread_in(grain[2] - grain[0], region)[1][region.has_say])
    correlation = _correlation(one_apart, two_apart)
    scale = float(kernel @ kernel) or 1.0
    if count >= 3:
        # What neighbours share cancels: 6 - 8 r + 2 r^2 for noise that falls off by r from frame to frame.
        scale *= (1 - correlation) * (1 - correlation / 3)
    coarsest = _COARSEST_OF_FEW if count <= _FEW else 1e6
    return CineNoise(
        measured=_typical(samples[True], scale, _MEAN_FLOORS[0], coarsest),
        hidden=_typical(samples[False], scale, _MEAN_FLOORS[1], coarsest),
        correlation=correlation,
    )


def stillness(
    difference: Floats, expected: Floats, measured: Region, hidden: Region, noise: CineNoise, *, blades_moved: bool
) -> tuple[Floats, Floats]:
    """How far each block of the view, and of its picture, is what it was before: (32, 32) each, 1 = still, 0 = not.

    difference: (256, 256) of two means of frames; expected: (32, 32) its variance in units of one frame's noise;
    measured, hidden: the pixels that were so in both. With the blades the scattered light moves as well, and changes
    the picture where the view is still: of the view only detail tells, and the measured region's while they move.
    """
    cells = _means(difference, CELL)
    behind_detail, behind = _still(cells, expected, hidden, noise.hidden)
    if blades_moved:
        seen, _ = _still(cells, _OTHER_LIGHT * expected, measured, noise.measured)
        behind_detail = np.ones_like(behind_detail)
    else:
        _, seen = _still(cells, expected, measured, noise.measured)
    moving = np.average(1 - seen, weights=measured.share) if measured.has_say.any() else np.float64(0)
    trust = _falling(moving, _share_that_moves(measured))
    view, picture = (
        np.minimum(seen, np.where(hidden.has_say, still * trust, np.where(measured.has_say, 1, trust)))
        for still in (behind_detail, behind)
    )
    return _with_neighbours(view), _with_neighbours(picture)


def is_repeated(frame: Floats, previous: Floats, aperture: Mask) -> bool:
    """Whether a frame shows its neighbour's very noise in both regions, as a last image hold does."""
    return all(is_same(frame[region], previous[region]) for region in (aperture, ~aperture))


def is_same(some: Floats, others: Floats) -> bool:
    """Whether nearly all pixels show the very noise that others do; none do not differ."""
    return not some.size or float(np.mean(np.abs(some - others) <= _SAME)) >= _REPEATED


def independent(frames: Floats, correlation: float) -> Floats:
    """How many frames of independent noise are worth so many whose noise falls off by `correlation` from each to the
    next, as a modality's recursive filter leaves it (the variance of the mean of an AR(1) series)."""
    r = correlation
    if r == 0:
        return frames
    excess = 2 * r / (1 - r) * (1 - (1 - r**frames) / (frames * (1 - r)))
    return np.asarray(frames / (1 + excess), np.float32)


def to_pixels(blocks: Floats) -> Floats:
    """(32, 32) values of blocks as (256, 256) pixels, linear in between."""
    return np.asarray(_SPREAD @ blocks @ _SPREAD.T, np.float32)


def to_blocks(pixels: Floats) -> Floats:
    """(256, 256) pixels as the means of (32, 32) blocks."""
    return _means(pixels, BLOCK)


def _share_that_moves(measured: Region) -> tuple[float, float]:
    """Share of a measured region that may move while the hidden one is trusted, and from which it is not."""
    first, last = _SHARE
    wire = min(_WIRE / math.sqrt(max(float(measured.share.sum()), 1.0)), _MOST_OF_WIRE)
    return max(first, wire), max(last, wire + last - first)


def _still(cells: Floats, expected: Floats, region: Region, noise: Noise) -> tuple[Floats, Floats]:
    """(32, 32) by detail alone, and by the means as well: 1 where a region's difference is noise, or where it has no
    say, 0 where something moved."""
    one = np.float32(1)
    if not region.has_say.any():
        return np.full((GRID, GRID), one), np.full((GRID, GRID), one)
    mean, detail = _spread_in(cells, region)
    detail = detail / (noise.detail * expected)
    by_detail = _falling(detail, _DETAIL) * _falling(_around(detail, region.share), _DETAIL_AROUND)
    # The exposure's own ups and downs are no motion.
    change = (mean - np.average(mean, weights=region.share)) ** 2 / (noise.mean * expected)
    by_both = by_detail * _falling(_around(change, region.share), _MEANS_AROUND)
    return np.where(region.has_say, by_detail, one), np.where(region.has_say, by_both, one)


def _grain(frame: Floats) -> Floats:
    """(128, 128): the difference of each cell's diagonals, scaled to the variance that white noise leaves of a cell's
    mean. Anatomy, and its motion, leave next to nothing in it."""
    top, bottom = frame[::2], frame[1::2]
    return (top[:, ::2] - top[:, 1::2] - bottom[:, ::2] + bottom[:, 1::2]) / np.float32(4)


def _spread_in(cells: Floats, region: Region) -> tuple[Floats, Floats]:
    """The mean of each block's cells in a region, and their variance, (32, 32) each."""
    cells = cells * region.cells
    known = np.maximum(region.share, np.float32(1e-6))
    mean, square = _means(cells, BLOCK // CELL) / known, _means(cells * cells, BLOCK // CELL) / known
    return np.asarray(mean, np.float32), np.asarray(np.maximum(square - mean * mean, 0), np.float32)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """What a few frames tell of the noise of a region, (32, 32) each, where it has a say (`known`): mean and variance
    of each block's cells in their difference, and how grainy one frame is."""

    known: Mask
    mean: Floats
    detail: Floats
    grain: Floats


def _typical(samples: list[_Sample], scale: float, mean_floor: np.float32, coarsest: float) -> Noise:
    if not samples:  # each frame repeats another: whatever differs is no noise
        return Noise(detail=np.full((GRID, GRID), _FLOOR), mean=np.full((GRID, GRID), mean_floor))
    known = np.stack([sample.known for sample in samples])
    details = np.stack([sample.detail for sample in samples]) / np.float32(scale)
    means = np.stack([sample.mean for sample in samples]) ** 2 / np.float32(scale * _MEDIAN_SQUARE)
    most = coarsest * np.stack([sample.grain for sample in samples])
    return Noise(
        detail=_over_time(np.minimum(details, most), known, _FLOOR),
        mean=_over_time(np.minimum(means, most), known, mean_floor),
    )


def _over_time(variances: Floats, known: Mask, floor: np.float32) -> Floats:
    """The median over time, evened out over neighbours; a region's own where a block never lay in it."""
    if not known.any():
        return np.full((GRID, GRID), floor, np.float32)
    ever = np.asarray(known.any(axis=0))
    median = np.full((GRID, GRID), np.median(variances[known]), np.float32)
    median[ever] = np.nanmedian(np.where(known, variances, np.nan)[:, ever], axis=0)
    return np.asarray(np.maximum(_around(median, ever.astype(np.float32)), floor))


def _correlation(one_apart: list[Floats], two_apart: list[Floats]) -> float:
    """Of noise that falls off by r a frame, differences two frames apart have 1 + r times the variance of others."""
    if not one_apart or not any(len(values) for values in one_apart):
        return 0.0
    near, far = (float(np.median(np.concatenate(values))) for values in (one_apart, two_apart))
    if near <= 0:
        return 0.0
    excess = far / near - 1
    return min(excess, _MOST_CORRELATED) if excess > _CHANCE else 0.0


def _means(values: Floats, side: int) -> Floats:
    """The means of squares of so many values, a power of two, by halves: far faster than one sum over short axes."""
    while side > 1:
        rows = values[::2] + values[1::2]
        values = np.asarray((rows[:, ::2] + rows[:, 1::2]) / 4, np.float32)
        side //= 2
    return values


def _around(values: Floats, weights: Floats) -> Floats:
    """Weighted means over three by three blocks."""
    total = ndimage.uniform_filter(values * weights, 3, mode="constant")
    weight = ndimage.uniform_filter(weights, 3, mode="constant")
    return np.asarray(np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), values), np.float32)


def _with_neighbours(still: Floats) -> Floats:
    """What moves in one block may move in the next."""
    return np.asarray(ndimage.minimum_filter(still, 3, mode="nearest"), np.float32)


def _falling(value: Floats | np.floating, bounds: tuple[float, float]) -> Floats:
    """1 up to the first bound, 0 from the second, linear in between."""
    first, last = bounds
    return np.asarray(np.clip((last - value) / (last - first), 0, 1), np.float32)


def _spread() -> Floats:
    """(256, 32): each pixel's share in the two blocks nearest to it."""
    place = np.clip((np.arange(FRAME_SIDE) + 0.5) / BLOCK - 0.5, 0, GRID - 1)
    return np.asarray(np.clip(1 - np.abs(place[:, None] - np.arange(GRID)), 0, None), np.float32)


_SPREAD = _spread()
