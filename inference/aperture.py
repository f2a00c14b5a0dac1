"""Which pixels were measured: from the shutter or collimator attributes, else found in the pixels.

Display Shutter: PS3.3 C.7.6.11. X-Ray Collimator: C.8.7.3; per frame of an enhanced image: C.8.19.6.7. Edges and
vertices count rows and columns from 1; what several shapes leave open together is measured.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from config.errors import NoAperture
from inference.header import items, numbers, value_of
from inference.on_disk import array_on_disk, in_turn, let_go
from inference.pixels import Cine
from inference.reconstruction import ApertureSource

Mask = NDArray[np.bool_]
#: Finds the apertures of frames (n, h, w) with grey levels in [-1, 1] in their pixels: the same shape, bool. A frame
#: without an aperture has no measured pixel, the open field has no other; it may raise NoAperture for all of them.
Finder = Callable[[NDArray[np.float32]], Mask]

#: Share of the picture that an aperture may leave measured; outside it there is nothing to go on, or nothing to do.
SMALLEST, LARGEST = 0.005, 0.95
#: Rows and columns that a picture can have: vertices farther out are mistakes, and too far for Pillow.
_FARTHEST = 65535
#: Frames that are looked at together.
_CHUNK = 8
#: Apertures that differ by less than this share of the picture, and of the larger one, are the same one.
_STILL, _STILL_OF_APERTURE = 0.02, 0.25


def find_apertures(source: Dataset, cine: Cine, find_in_pixels: Finder) -> tuple[Mask, ApertureSource]:
    """The measured pixels of every frame, (n, h, w) bool, and where they are known from.

    Attributes that leave nearly all of every frame open, such as a shutter along the rim, say nothing of blades.
    Raises NoAperture where neither attributes nor pixels show one, or one leaves too little of a frame open.
    """
    told = apertures_from_attributes(source, cine.stored.shape)
    if told is not None and _shares(told).min() <= LARGEST:
        _check_share(told)
        return told, "attributes"
    found = apertures_from_pixels(cine, find_in_pixels)
    _check_share(found)
    return found, "pixels"


def apertures_from_attributes(source: Dataset, shape: tuple[int, ...]) -> Mask | None:
    """The apertures that the attributes state, (n, h, w); None where they state none or the open field."""
    _, rows, columns = shape
    groups = items(source, "PerFrameFunctionalGroupsSequence")
    common = _open_pixels(source, rows, columns, _shared(source))
    if not groups:
        return None if common.all() else np.broadcast_to(common, shape)
    apertures = array_on_disk(shape, np.bool_)
    open_field = True
    for index, (aperture,) in enumerate(in_turn(apertures)):
        aperture[:] = common
        if index < len(groups):
            aperture &= _open_pixels(groups[index], rows, columns, None)
        open_field = open_field and bool(aperture.all())
    return None if open_field else apertures


def apertures_from_pixels(cine: Cine, find_in_pixels: Finder) -> Mask:
    """The apertures that the pixels show, (n, h, w); one for all frames where the blades stand still.

    Blades don't jump away and back within a frame, and show in a black frame as little as anything else: a frame that
    contradicts its neighbours, or shows no aperture, has the nearest frame's. Raises NoAperture where fewer than half
    of the frames show one.
    """
    frames = array_on_disk(cine.stored.shape, np.bool_)
    for start in range(0, len(frames), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        with suppress(NoAperture):
            frames[chunk] = find_in_pixels(cine.mapping.to_grey(cine.stored[chunk]))
        let_go(cine.stored, frames)
    shown = np.flatnonzero([frame.any() for (frame,) in in_turn(frames)])
    if not len(shown):
        raise NoAperture("No aperture was found in the pixels.")
    if len(shown) < len(frames) / 2:
        raise NoAperture(f"An aperture was found in the pixels of only {len(shown)} of {len(frames)} frames.")
    shown = _without_jumps(frames, shown)
    majority = _majority(frames, shown)
    if all(_same(frame, majority) for frame in _at(frames, shown)):
        return np.broadcast_to(majority, frames.shape)
    for index, (frame,) in enumerate(in_turn(frames)):
        frame[:] = frames[shown[np.argmin(np.abs(shown - index))]]
    return frames


def _majority(frames: Mask, shown: NDArray[np.intp]) -> Mask:
    """(h, w) what is measured in half of the frames with these indices, or more."""
    count = np.zeros(frames.shape[1:], np.int32)
    for frame in _at(frames, shown):
        count += frame
    return np.asarray(2 * count >= len(shown))


def _at(frames: Mask, indices: NDArray[np.intp]) -> Iterator[Mask]:
    for index in indices:
        yield frames[index]
        let_go(frames)


def _without_jumps(frames: Mask, shown: NDArray[np.intp]) -> NDArray[np.intp]:
    """The indices but those of frames that differ from both neighbours, while these are the same."""
    kept = []
    for before, index, after in zip(shown[:-2], shown[1:-1], shown[2:], strict=True):
        if (
            not _same(frames[before], frames[after])
            or _same(frames[before], frames[index])
            or _same(frames[index], frames[after])
        ):
            kept.append(index)
        let_go(frames)
    return np.array([*shown[:1], *kept, *shown[1:][-1:]])


def _same(first: Mask, second: Mask) -> bool:
    differ, larger = np.sum(first != second), max(first.sum(), second.sum())
    return bool(differ < _STILL * first.size and differ < _STILL_OF_APERTURE * larger)


def _check_share(apertures: Mask) -> None:
    """Each frame needs something measured, and the cine something to do; frames in between may be open."""
    shares = _shares(apertures)
    if shares.min() > LARGEST:
        raise NoAperture(f"The aperture leaves {shares.min():.0%} of every frame open: nothing is to reconstruct.")
    if shares.min() < SMALLEST:
        raise NoAperture(
            f"The aperture leaves {shares.min():.1%} of a frame open; a reconstruction needs {SMALLEST:.1%}."
        )


def _shares(apertures: Mask) -> NDArray[np.float64]:
    """The measured share of each frame."""
    return np.array([aperture.mean() for (aperture,) in in_turn(apertures)])


def _shared(source: Dataset) -> Dataset | None:
    groups = items(source, "SharedFunctionalGroupsSequence")
    return groups[0] if groups else None


def _open_pixels(holder: Dataset, rows: int, columns: int, shared: Dataset | None) -> Mask:
    """What shutter and collimator of a data set or functional group leave open."""
    mask = np.ones((rows, columns), dtype=bool)
    places = [
        holder,
        *items(holder, "FrameDisplayShutterSequence"),
        *items(holder, "CollimatorShapeSequence"),
    ]
    if shared is not None:
        places += [*items(shared, "FrameDisplayShutterSequence"), *items(shared, "CollimatorShapeSequence")]
    for place in places:
        for kind in ("Shutter", "Collimator"):
            for shape in _strings(place, f"{kind}Shape"):
                mask &= _shape(place, kind, shape, rows, columns)
    return mask


def _shape(place: Dataset, kind: str, shape: str, rows: int, columns: int) -> Mask:
    """One shape's open pixels; a shape whose numbers are missing or make no sense hides nothing."""
    mask = np.ones((rows, columns), dtype=bool)
    row, column = np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None]
    if shape == "RECTANGULAR":
        names = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
        edges = [numbers(place, f"{kind}{name}") for name in names]
        if all(len(edge) == 1 for edge in edges):
            left, right, upper, lower = (edge[0] for edge in edges)
            mask = (column >= left) & (column <= right) & (row >= upper) & (row <= lower)
    elif shape == "CIRCULAR":
        centre, radius = numbers(place, f"CenterOfCircular{kind}"), numbers(place, f"RadiusOfCircular{kind}")
        if len(centre) == 2 and len(radius) == 1:
            mask = np.hypot(row - centre[0], column - centre[1]) <= radius[0]
    elif shape == "POLYGONAL":
        vertices = numbers(place, f"VerticesOfThePolygonal{kind}")
        if len(vertices) >= 6 and len(vertices) % 2 == 0 and max(map(abs, vertices)) <= _FARTHEST:
            canvas = Image.new("1", (columns, rows))
            corners = [(x - 1, y - 1) for y, x in zip(vertices[::2], vertices[1::2], strict=True)]
            ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
            mask = np.asarray(canvas, dtype=bool)
    return mask


def _strings(place: Dataset, keyword: str) -> list[str]:
    value = value_of(place, keyword)
    if value is None:
        return []
    return [str(part) for part in value] if isinstance(value, MultiValue) else [str(value)]
