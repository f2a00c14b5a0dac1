"""From a map of probabilities to the shape that the blades left open, or to a clear no.

Blades are straight or round: they leave open an intersection of half-planes (rectangle, rotated rectangle, lamella,
polygon) or an ellipse (circle, iris). Of these the simplest one that explains the map is taken. Shapes are fitted in
pixels of the frame, so that a circle stays one where the map has other proportions than the frame.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from scipy.optimize import least_squares
from scipy.spatial import ConvexHull, QhullError

from config.errors import NoAperture

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Least mean probability inside the shape, and greatest one outside it, for the shape to be believed.
_INSIDE, _OUTSIDE = 0.8, 0.1
#: Pixels of the map next to the edge, on both sides, that don't count in these means.
_MARGIN = 3
#: Least intersection over union of the shape with all that is probably measured, other regions included.
_OVERLAP = 0.75
#: Greatest misfit that is believed, in pixels of the map.
_MISFIT = 1.5
#: Misfit that is small enough not to try the less simple shapes.
_FITS = 0.5
#: What one more number must bring: misfit that it takes away.
_PER_NUMBER = 0.08
#: Share of the frame from which on the field counts as open: 90 %, and what an edge may be off at that size.
_OPEN = 0.92
#: Share of the map from which on a region may be an aperture, and how many regions are tried.
_SMALLEST, _REGIONS = 0.003, 3
#: Edges that a polygon may have within the picture.
_MOST_EDGES = 6
#: Standard deviation of the Gaussian that takes the noise off the map, in its pixels.
_BLUR = 1
#: Points of the outline that an ellipse is fitted to, and how often a polygon's edges are.
_POINTS, _TURNS = 200, 8


@dataclass(frozen=True)
class Blades:
    """What straight blades leave open; without any edge, the open field.

    angles: (k,) of the edges' outward normals, in radians from the row to the column direction.
    offsets: (k,) of the edges from the middle of the frame along these normals, in pixels of the frame.
    """

    angles: Array
    offsets: Array

    def depth(self, x: Array, y: Array) -> Array:
        """How far within the nearest edge points lie, in pixels; x and y count from the middle of the frame."""
        depth = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf)
        for angle, offset in zip(self.angles, self.offsets, strict=True):
            np.minimum(depth, offset - np.cos(angle) * x - np.sin(angle) * y, out=depth)
        return depth


@dataclass(frozen=True)
class Iris:
    """What a round or oval diaphragm leaves open: middle, half axes and the first axis's angle, as in `Blades`."""

    x: float
    y: float
    first: float
    second: float
    angle: float = 0.0

    def depth(self, x: Array, y: Array) -> Array:
        """How far within the edge points lie, in pixels: to first order, exact for a circle and on the edge."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        along = (cosine * (x - self.x) + sine * (y - self.y)) / self.first
        across = (cosine * (y - self.y) - sine * (x - self.x)) / self.second
        radius = np.maximum(np.hypot(along, across), 1e-6)
        steepness = np.hypot(along / self.first, across / self.second) / radius
        return np.asarray((1 - radius) / np.maximum(steepness, 1e-9))


Shape = Blades | Iris
OPEN = Blades(np.zeros(0), np.zeros(0))


def rasterise(shape: Shape, size: tuple[int, int]) -> Mask:
    """The pixels of a frame of `size` (height, width) whose centre lies in the shape: (height, width) bool."""
    return np.asarray(shape.depth(*_grid(size, size)) > 0)


def fit_shape(probability: NDArray[np.float32], size: tuple[int, int]) -> Shape:
    """The aperture that a map of each pixel's probability to be measured shows.

    probability: (h, w) in [0, 1]; size: height and width of the frame that the map was made of. Gives `OPEN` where
    next to nothing is hidden. Raises NoAperture where no shape tells inside from outside.

    A shape's misfit is the area that it puts on the wrong side, each pixel weighed by |2p - 1|, over the
    circumference of a disc as large as the region: by how much the edge is off on average, in pixels of the map. The
    least misfit wins, with a penalty for each number that describes the shape. They are tried in the order upright
    rectangle, circle, rotated rectangle, ellipse, polygon of ever more edges, up to one that fits well.
    """
    pixel = _pixel(probability.shape, size)
    smooth = gaussian_filter(np.asarray(probability, dtype=np.float64), _BLUR)

    def is_believed(depth: Array) -> bool:
        inside, outside = probability[depth > _MARGIN * pixel], probability[depth < -_MARGIN * pixel]
        overlap = np.sum((depth > 0) & (smooth > 0.5)) / np.sum((depth > 0) | (smooth > 0.5))
        clear = inside.size > 0 and inside.mean() >= _INSIDE and (outside.size == 0 or outside.mean() <= _OUTSIDE)
        return bool(clear and overlap >= _OVERLAP)

    for region in _regions(smooth):
        is_open = np.mean(region > 0.5) > _OPEN and is_believed(OPEN.depth(*_grid(region.shape, size)))
        shape = OPEN if is_open else _simplest(region, size, is_believed)
        if shape is not None:
            return shape
    raise NoAperture("No aperture was found in the pixels.")


def _regions(smooth: Array) -> Iterator[Array]:
    """The map with one region of measured pixels left, its holes filled: for each region, the largest first."""
    labels, count = label(smooth > 0.5)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    for number in np.argsort(-areas)[:_REGIONS] + 1:
        if areas[number - 1] < _SMALLEST * smooth.size:
            return
        here = labels == number
        rest, _ = label(~here)
        rim = np.concatenate([rest[0], rest[-1], rest[:, 0], rest[:, -1]])
        hole = ~here & ~np.isin(rest, rim)
        yield np.where(hole, 1.0, np.where(here | (labels == 0), smooth, 0.0))


def _simplest(region: Array, size: tuple[int, int], is_believed: Callable[[Array], bool]) -> Shape | None:
    """The simplest shape that explains the region; None where none does."""
    place = _grid(region.shape, size)
    measured, weight = region > 0.5, np.abs(2 * region - 1)
    circumference = 2 * np.sqrt(np.pi * np.sum(measured))
    best: Shape | None = None
    least = np.inf
    for shape, numbers in _candidates(region, size):
        depth = shape.depth(*place)
        misfit = float(weight[(depth > 0) != measured].sum() / circumference)
        cost = misfit + _PER_NUMBER * numbers
        if misfit <= _MISFIT and cost < least and is_believed(depth):
            best, least = shape, cost
        if best is not None and misfit <= _FITS:
            break
    return best


def _candidates(region: Array, size: tuple[int, int]) -> Iterator[tuple[Shape, int]]:
    """Each kind of shape, the simplest first, as it fits the region best, with how many numbers describe it."""
    upright = _rectangle(region, size)
    if upright is not None:
        yield upright, len(upright.offsets)
    pixel = _pixel(region.shape, size)
    outline = _outline(region, size)
    if not len(outline):
        return
    middle_x, middle_y, first, second, angle = _moments(region, size)
    yield _round(outline, np.array([middle_x, middle_y, np.sqrt(first * second)]), pixel), 3
    polygons = _polygons(np.concatenate([outline, _at_rim(region, size)]), size)
    few = [polygon for polygon in polygons if len(polygon) <= 4]
    if few:
        square = _straight(_squared(few[0]), outline, pixel, square=True)
        yield square, 1 + len(square.offsets)
    yield _round(outline, np.array([middle_x, middle_y, first, second, angle]), pixel), 5
    for polygon in reversed(polygons):
        blades = Blades(*polygon.T[:2])
        yield _straight(blades, outline, pixel, square=False), 2 * len(polygon)


def _round(outline: Array, start: Array, pixel: float) -> Iris:
    """The circle or ellipse nearest to the points of the outline (n, 2), by least squares that heed outliers little."""

    def iris(numbers: Array) -> Iris:
        x, y, first, *rest = numbers
        return Iris(x, y, abs(first), abs(rest[0]) if rest else abs(first), *rest[1:])

    x, y = outline[:: -(-len(outline) // _POINTS)].T
    fitted = least_squares(
        lambda numbers: iris(numbers).depth(x, y), start, loss="soft_l1", x_scale="jac", f_scale=pixel / 2, max_nfev=30
    )
    return iris(fitted.x)


def _straight(blades: Blades, outline: Array, pixel: float, *, square: bool) -> Blades:
    """Each edge moved onto the points of the outline (n, 2) that are nearest to it; all by the same turn if `square`.

    A line is fitted by least squares, weighed so that points farther off than a pixel count little (Cauchy's weights).
    """
    angles, offsets = blades.angles, blades.offsets
    for _ in range(_TURNS):
        cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
        across = cosine * outline[:, 0] + sine * outline[:, 1]
        along = cosine * outline[:, 1] - sine * outline[:, 0]
        depth = offsets[:, None] - across
        weight = (depth.argmin(axis=0) == np.arange(len(offsets))[:, None]) / (1 + (depth / pixel) ** 2)
        total = weight.sum(axis=1) + 1e-9
        centre, level = (weight * along).sum(axis=1) / total, (weight * across).sum(axis=1) / total
        off = weight * (along - centre[:, None])
        shared, spread = (off * across).sum(axis=1), (off * along).sum(axis=1)
        if square:
            shared, spread = shared.sum(), spread.sum()
        slope = np.where(spread > pixel**2, shared / np.maximum(spread, 1e-9), 0)
        level = np.where(total > 3, level, offsets)
        slope = np.where(total > 3, slope, 0)
        # The line across = level + slope (along - centre), as normal and offset.
        angles = angles - np.arctan(slope)
        offsets = (level - slope * centre) * np.cos(np.arctan(slope))
    return Blades(angles, offsets)


def _rectangle(region: Array, size: tuple[int, int]) -> Blades | None:
    """The upright rectangle, without the edges that lie at the rim; None where there is none.

    An edge lies where half of the pixels along it, between the other edges, are measured.
    """
    measured = region > 0.5
    rows, columns = measured.shape
    left, right = _extent(np.asarray(measured.any(axis=0)))
    for _ in range(4):
        top, bottom = _extent(measured[:, left:right].mean(axis=1) > 0.5)
        if top == bottom:
            return None
        left, right = _extent(measured[top:bottom].mean(axis=0) > 0.5)
        if left == right:
            return None
    across, along = region[top:bottom], region[:, left:right].T
    edges = [
        (np.pi, size[1] * (0.5 - _crossing(across, left) / columns), left > 0),
        (-np.pi / 2, size[0] * (0.5 - _crossing(along, top) / rows), top > 0),
        (0.0, size[1] * (0.5 - _crossing(across[:, ::-1], columns - right) / columns), right < columns),
        (np.pi / 2, size[0] * (0.5 - _crossing(along[:, ::-1], rows - bottom) / rows), bottom < rows),
    ]
    seen = [(angle, offset) for angle, offset, within in edges if within]
    angles, offsets = np.array(seen).reshape(-1, 2).T
    return Blades(angles, offsets)


def _extent(measured: Mask) -> tuple[int, int]:
    """First and last (excluded) of the longest run of measured rows or columns; twice the same where there is none."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], measured, [False]])))
    if not len(steps):
        return 0, 0
    starts, ends = steps[::2], steps[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])


def _crossing(rows: Array, first: int) -> float:
    """Where the median of the rows crosses one half between column `first`, the first above it, and the one before."""
    if first == 0:
        return 0
    before, after = np.median(rows[:, first - 1 : first + 1], axis=0)
    if not before <= 0.5 < after:
        return float(first)
    return float(first - 0.5 + (0.5 - before) / (after - before))


def _grid(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[Array, Array]:
    """x (1, w) and y (h, 1) of the pixel centres of a map of `shape`, in pixels from the middle of the frame."""
    x = np.arange(0.5, shape[1], dtype=np.float64) * (size[1] / shape[1]) - size[1] / 2
    y = np.arange(0.5, shape[0], dtype=np.float64) * (size[0] / shape[0]) - size[0] / 2
    return x[None], y[:, None]


def _pixel(shape: tuple[int, ...], size: tuple[int, int]) -> float:
    """Side of a pixel of the map, in pixels of the frame; where it is not square, of the square as large."""
    return float(np.sqrt(size[0] * size[1] / (shape[0] * shape[1])))


def _outline(region: Array, size: tuple[int, int]) -> Array:
    """Where the region's value crosses one half between neighbours: (n, 2) x and y from the middle of the frame."""
    places = np.concatenate([_crossings(region), _crossings(region.T)[:, ::-1]])
    height, width = region.shape
    return np.asarray((places / [width, height] - 0.5) * [size[1], size[0]])


def _crossings(region: Array) -> Array:
    """The crossings between horizontal neighbours: (n, 2) x and y; the first pixel has its centre at 0.5."""
    measured = region > 0.5
    row, column = np.nonzero(measured[:, 1:] != measured[:, :-1])
    before, after = region[row, column], region[row, column + 1]
    return np.stack([column + 0.5 + (0.5 - before) / (after - before), row + 0.5], axis=1)


def _at_rim(region: Array, size: tuple[int, int]) -> Array:
    """Where the region ends at the rim of the frame: (n, 2) in pixels from the middle of the frame."""
    measured = np.pad(region > 0.5, 1, mode="edge")
    height, width = region.shape
    rim = np.zeros_like(measured)
    rim[[0, -1]] = rim[:, [0, -1]] = True
    row, column = np.nonzero(measured & rim)
    x = np.clip(column - 0.5, 0, width) / width - 0.5
    y = np.clip(row - 0.5, 0, height) / height - 0.5
    return np.stack([x * size[1], y * size[0]], axis=1)


def _moments(region: Array, size: tuple[int, int]) -> tuple[float, float, float, float, float]:
    """Middle, half axes and angle of the ellipse with the region's first and second moments."""
    x, y = _grid(region.shape, size)
    weight = (region > 0.5) / np.sum(region > 0.5)
    along, down = weight.sum(axis=0, keepdims=True), weight.sum(axis=1, keepdims=True)
    middle_x, middle_y = float(np.sum(along * x)), float(np.sum(down * y))
    x, y = x - middle_x, y - middle_y
    shared = float(np.sum(weight * x * y))
    spread = np.array([[np.sum(along * x**2), shared], [shared, np.sum(down * y**2)]])
    (least, most), axes = np.linalg.eigh(spread + np.eye(2))  # of a line one pixel wide, too, an ellipse
    return middle_x, middle_y, 2 * np.sqrt(most), 2 * np.sqrt(least), float(np.arctan2(axes[1, 1], axes[0, 1]))


def _polygons(points: Array, size: tuple[int, int]) -> list[Array]:
    """Convex polygons around the points (n, 2), with falling number of edges within the frame.

    Each is (k, 3): the edges' normals as angles, their offsets, see `Blades`, and their lengths. From the convex hull,
    again and again the edge is left out without which the polygon grows least.
    """
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:
        return []
    rim = _along_rim(corners, np.roll(corners, -1, axis=0), size)
    found: list[Array] = []
    while not rim.all():
        edges = np.roll(corners, -1, axis=0) - corners
        if np.sum(~rim) <= _MOST_EDGES:
            normals = np.arctan2(-edges[:, 0], edges[:, 1])
            offsets = np.cos(normals) * corners[:, 0] + np.sin(normals) * corners[:, 1]
            found.append(np.stack([normals, offsets, np.hypot(*edges.T)], axis=1)[~rim])
        meets, grows = _without_each(corners, edges)
        grows[rim] = np.inf
        least = int(np.argmin(grows))
        if not np.isfinite(grows[least]):
            break
        corners[(least + 1) % len(corners)] = meets[least]
        corners, rim = np.delete(corners, least, axis=0), np.delete(rim, least)
    return found


def _along_rim(first: Array, second: Array, size: tuple[int, int]) -> Mask:
    """Whether an edge, from first to second corner (n, 2), lies along one side of the frame."""
    half = np.array([size[1], size[0]]) / 2
    at = [np.isclose(sign * corner, half, rtol=0, atol=1e-6) for sign in (-1, 1) for corner in (first, second)]
    return np.asarray(((at[0] & at[1]) | (at[2] & at[3])).any(axis=1))


def _without_each(corners: Array, edges: Array) -> tuple[Array, Array]:
    """For each edge, where its neighbours meet when they grow over it, and the area that adds; inf if they don't."""
    before, after = np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0)
    turn = _cross(before, after)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = _cross(edges, after) / turn
        area = along * _cross(before, edges) / 2
        meets = corners + along[:, None] * before
    return meets, np.where((turn > 0) & (along > 0), area, np.inf)


def _cross(first: Array, second: Array) -> Array:
    return np.asarray(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])


def _squared(polygon: Array) -> Blades:
    """The rotated rectangle nearest to a polygon of `_polygons`; it lacks the sides that the polygon lacks."""
    angles, offsets, lengths = polygon.T
    turn = float(np.angle(np.sum(lengths * np.exp(4j * angles))) / 4)
    quarter = np.round((angles - turn) / (np.pi / 2)).astype(int) % 4
    sides = np.unique(quarter)
    means = [np.average(offsets[quarter == side], weights=lengths[quarter == side]) for side in sides]
    return Blades(turn + sides * (np.pi / 2), np.array(means))
