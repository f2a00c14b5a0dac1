"""Which pixels were measured: from the shutter or collimator attributes, else found in the pixels.

Display Shutter: PS3.3 C.7.6.11. X-Ray Collimator: C.8.7.3; per frame of an enhanced image: C.8.19.6.7. Edges and
vertices count rows and columns from 1; what several shapes leave open together is measured.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from config.errors import NoAperture
from inference.find_aperture import find_aperture as find_aperture
from inference.pixels import Cine
from inference.reconstruction import ApertureSource

Mask = NDArray[np.bool_]

#: Share of the picture that an aperture may leave measured; outside it there is nothing to go on, or nothing to do.
SMALLEST, LARGEST = 0.005, 0.95
#: Frames whose apertures differ by less than this share of the picture show the same aperture.
_STILL = 0.02


def find_apertures(source: Dataset, cine: Cine) -> tuple[Mask, ApertureSource]:
    """The measured pixels of every frame, (n, h, w) bool, and where they are known from.

    Raises NoAperture where neither attributes nor pixels show one, or one leaves too little or too much open.
    """
    told = apertures_from_attributes(source, cine.stored.shape)
    if told is not None:
        _check_share(told)
        return told, "attributes"
    found = apertures_from_pixels(cine)
    _check_share(found)
    return found, "pixels"


def apertures_from_attributes(source: Dataset, shape: tuple[int, ...]) -> Mask | None:
    """The apertures that the attributes state, (n, h, w); None where they state none or the open field."""
    frames, rows, columns = shape
    groups = source.get("PerFrameFunctionalGroupsSequence") or []
    apertures = np.ones(shape, dtype=bool)
    common = _open_pixels(source, rows, columns, _shared(source))
    for index in range(frames):
        apertures[index] = common
        if index < len(groups):
            apertures[index] &= _open_pixels(groups[index], rows, columns, None)
    return None if apertures.all() else apertures


def apertures_from_pixels(cine: Cine) -> Mask:
    """The apertures that the pixels show, (n, h, w); one for all frames where the blades stand still."""
    frames = np.stack([find_aperture(cine.mapping.to_grey(frame)) for frame in cine.stored])
    majority = frames.mean(axis=0) >= 0.5
    if all(np.mean(frame != majority) < _STILL for frame in frames):
        frames[:] = majority
    return frames


def _check_share(apertures: Mask) -> None:
    shares = apertures.mean(axis=(1, 2))
    if shares.max() > LARGEST:
        raise NoAperture(f"The aperture leaves {shares.max():.0%} of a frame open: there is nothing to reconstruct.")
    if shares.min() < SMALLEST:
        raise NoAperture(
            f"The aperture leaves {shares.min():.1%} of a frame open; a reconstruction needs {SMALLEST:.1%}."
        )


def _shared(source: Dataset) -> Dataset | None:
    groups = source.get("SharedFunctionalGroupsSequence") or [None]
    shared: Dataset | None = groups[0]
    return shared


def _open_pixels(holder: Dataset, rows: int, columns: int, shared: Dataset | None) -> Mask:
    """What shutter and collimator of a data set or functional group leave open."""
    mask = np.ones((rows, columns), dtype=bool)
    places = [
        holder,
        *(holder.get("FrameDisplayShutterSequence") or []),
        *(holder.get("CollimatorShapeSequence") or []),
    ]
    if shared is not None:
        places += [*(shared.get("FrameDisplayShutterSequence") or []), *(shared.get("CollimatorShapeSequence") or [])]
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
        edges = [_numbers(place, f"{kind}{name}") for name in names]
        if all(len(edge) == 1 for edge in edges):
            left, right, upper, lower = (edge[0] for edge in edges)
            mask = (column >= left) & (column <= right) & (row >= upper) & (row <= lower)
    elif shape == "CIRCULAR":
        centre, radius = _numbers(place, f"CenterOfCircular{kind}"), _numbers(place, f"RadiusOfCircular{kind}")
        if len(centre) == 2 and len(radius) == 1:
            mask = np.hypot(row - centre[0], column - centre[1]) <= radius[0]
    elif shape == "POLYGONAL":
        vertices = _numbers(place, f"VerticesOfThePolygonal{kind}")
        if len(vertices) >= 6 and len(vertices) % 2 == 0:
            canvas = Image.new("1", (columns, rows))
            corners = [(x - 1, y - 1) for y, x in zip(vertices[::2], vertices[1::2], strict=True)]
            ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
            mask = np.asarray(canvas, dtype=bool)
    return mask


def _strings(place: Dataset, keyword: str) -> list[str]:
    value = place.get(keyword)
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _numbers(place: Dataset, keyword: str) -> list[float]:
    value = place.get(keyword)
    if value is None or value == "":
        return []
    return [float(item) for item in np.atleast_1d(np.asarray(value, dtype=float))]
