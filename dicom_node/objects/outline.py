"""The outlines of a mask as closed polylines, for objects that draw them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
#: Closed: (k, 2) column and row of the corners, the last being the first; 0, 0 is the corner of the picture.
Polyline = NDArray[np.float64]

#: How far a line may pass from the edges of the pixels: it makes a straight line of a slope's steps.
_TOLERANCE = 1.05
#: Steps of one pixel along its edges, clockwise: to the right, down, to the left, up.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def outlines(mask: Mask, most_points: int = 8000) -> list[Polyline]:
    """The edges of what is True in `mask` (h, w), the longest first, holes too.

    Steps of a slope are left out, so that lines pass up to a pixel from the edges; farther where one would have more
    than `most_points`.
    """
    traced = sorted(_traced(mask), key=len, reverse=True)
    return [_simplified(corners, most_points) for corners in traced]


def box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of a mask (h, w) that is one rectangle, the last two outside of it; else None."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows) or not mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all():
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _traced(mask: Mask) -> Iterator[Polyline]:
    """The corners of each edge, walked with the mask on the right hand; diagonal neighbours are parted."""
    ahead = _edges(mask)
    while ahead:
        (start, directions) = next(iter(ahead.items()))
        at, direction = start, directions[0]
        corners: list[tuple[int, int]] = []
        last = -1
        while at in ahead:
            choices = ahead[at]
            # Where two pixels touch at a corner, two edges go on: the right turn stays at the same pixel.
            direction = choices[0] if len(choices) == 1 or last < 0 else (last + 1) % 4
            choices.remove(direction)
            if not choices:
                del ahead[at]
            if direction != last:
                corners.append(at)
            at = (at[0] + _STEPS[direction][0], at[1] + _STEPS[direction][1])
            last = direction
            if at == start:
                break
        yield np.array([*corners, corners[0]], dtype=np.float64)


def _edges(mask: Mask) -> dict[tuple[int, int], list[int]]:
    """From each corner (column, row) the directions, as in `_STEPS`, in which an edge goes on."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0)),
        (inside & ~padded[1:-1, 2:], (1, 0)),
        (inside & ~padded[2:, 1:-1], (1, 1)),
        (inside & ~padded[1:-1, :-2], (0, 1)),
    )
    ahead: dict[tuple[int, int], list[int]] = {}
    for direction, (edge, (right, down)) in enumerate(sides):
        for row, column in np.argwhere(edge).tolist():
            ahead.setdefault((column + right, row + down), []).append(direction)
    return ahead


def _simplified(corners: Polyline, most_points: int) -> Polyline:
    if len(corners) <= 5:
        return corners
    tolerance = _TOLERANCE
    while True:
        found = _straightened(corners, tolerance)
        if len(found) < 4:
            return corners[: most_points - 1]
        if len(found) <= most_points:
            return found
        tolerance *= 2


def _straightened(corners: Polyline, tolerance: float) -> Polyline:
    """By Douglas and Peucker (1973), from the two corners that lie farthest apart, as seen from the first."""
    far = int(np.argmax(((corners - corners[0]) ** 2).sum(axis=1)))
    kept = np.zeros(len(corners), dtype=bool)
    kept[[0, far, -1]] = True
    stack = [(0, far), (far, len(corners) - 1)]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        start, along = corners[first], corners[last] - corners[first]
        between = corners[first + 1 : last] - start
        away = np.abs(along[0] * between[:, 1] - along[1] * between[:, 0]) / max(np.hypot(*along), 1e-9)
        farthest = int(np.argmax(away))
        if away[farthest] > tolerance:
            middle = first + 1 + farthest
            kept[middle] = True
            stack += [(first, middle), (middle, last)]
    return corners[kept]
