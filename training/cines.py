"""Simulated cines: many exposures of one view, in which nothing moves, or a wire, the diaphragm or the blades.

Each frame has noise of its own; the truth behind it is known, with noise and without.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from training.blades import Aperture, Polygon, Rectangle, random_aperture
from training.collimate import Exposure, expected_quanta, random_exposure, simulate_pair
from training.devices import Cylinder, Points, draw, smooth_axis
from training.modality import Modality, random_modality

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

Motion = Literal["still", "wire", "breathing", "blades"]
MOTIONS: tuple[Motion, ...] = get_args(Motion)

#: Widths that the tip of a wire advances from frame to frame.
_ADVANCE = (0.002, 0.01)
#: Frames of one breath, and how far it moves what lies lowest, in widths.
_BREATH, _EXCURSION = (20, 60), (0.008, 0.03)
#: Frames that blades stay where they are, and how far they step then, in widths.
_STAY, _STEP = (3, 12), (0.03, 0.12)


@dataclass(frozen=True, kw_only=True)
class SimulatedCine:
    """A collimated cine and what it hides.

    field: (n, h, w) float32 in [-1, 1], the full field without noise; full: the same with noise of its own;
    collimated: the same exposed through the blades; apertures: (n, h, w) bool, True = measured.
    """

    field: Floats
    full: Floats
    collimated: Floats
    apertures: Mask


def simulated_cine(
    line_integrals: Floats, motion: Motion, count: int, seed: int, modality: Modality | None = None
) -> SimulatedCine:
    """A cine of `count` frames of a view, (h, w) line integrals, at an exposure and with blades chosen by the seed, and
    so the modality, unless it is given."""
    rng = np.random.default_rng([seed, MOTIONS.index(motion)])
    exposure = random_exposure(rng)
    modality = modality or random_modality(exposure.quanta, rng)
    aperture = random_aperture(line_integrals.shape, rng)
    apertures: Iterator[Aperture] = repeat(aperture)
    views: Iterator[Floats] = repeat(line_integrals)
    if motion == "blades":
        apertures = _stepping(aperture, line_integrals.shape, rng)
    elif motion == "wire":
        views = _advancing(line_integrals, aperture.mask(line_integrals.shape), rng)
    elif motion == "breathing":
        views = _breathing(line_integrals, rng)
    return _exposed(list(islice(views, count)), list(islice(apertures, count)), exposure, modality, rng)


def _exposed(
    views: list[Floats], apertures: list[Aperture], exposure: Exposure, modality: Modality, rng: np.random.Generator
) -> SimulatedCine:
    pairs, fields = [], list[Floats]()
    for index, (view, aperture) in enumerate(zip(views, apertures, strict=True)):
        pairs.append(simulate_pair(view, aperture, exposure, modality, rng))
        as_before = index > 0 and view is views[index - 1]
        fields.append(fields[-1] if as_before else modality.picture(expected_quanta(view, None, exposure)))
    full, collimated = (np.stack(part) for part in zip(*pairs, strict=True))
    masks = np.stack([aperture.mask(views[0].shape) for aperture in apertures])
    return SimulatedCine(field=np.stack(fields), full=full, collimated=collimated, apertures=masks)


def _advancing(view: Floats, aperture: Mask, rng: np.random.Generator) -> Iterator[Floats]:
    """A wire that comes in from the rim, heads for the middle of the aperture and goes on."""
    width = view.shape[1]
    middle = np.argwhere(aperture).mean(axis=0)[::-1] / width
    away = rng.uniform(0, 2 * np.pi)
    start = middle + 0.7 * np.array([np.cos(away), np.sin(away)])
    way = np.linspace(start, 2 * middle - start, 6) + rng.normal(0, 0.03, (6, 2))
    axis: Points = smooth_axis(way)
    radius, attenuation = rng.uniform(0.0012, 0.0025), rng.uniform(0.5, 1.5)
    tip, advance = rng.uniform(0.4, 0.7), rng.uniform(*_ADVANCE)
    while True:
        # The axis has a point every 0.001 widths.
        shown = axis[: max(round(tip / 0.001), 2)]
        yield draw(view, Cylinder(axis=shown, radius=radius, attenuation=attenuation))
        tip += advance


def _breathing(view: Floats, rng: np.random.Generator) -> Iterator[Floats]:
    """The anatomy goes down and up again, the more the lower it lies."""
    height, width = view.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    share = 0.3 + 0.7 / (1 + np.exp(-(rows / height - rng.uniform(0.3, 0.7)) / 0.1))
    excursion, breath, phase = rng.uniform(*_EXCURSION) * width, rng.uniform(*_BREATH), rng.uniform(0, 2 * np.pi)
    coefficients = ndimage.spline_filter(view, mode="nearest")
    while True:
        down = excursion * (1 - np.cos(phase)) / 2
        moved = ndimage.map_coordinates(coefficients, [rows - down * share, columns], mode="nearest", prefilter=False)
        yield np.maximum(moved, 0).astype(np.float32)
        phase += 2 * np.pi / breath


def _stepping(aperture: Aperture, shape: tuple[int, int], rng: np.random.Generator) -> Iterator[Aperture]:
    """Blades that stand for some frames, then all step to one side, and stay in the picture."""
    width = shape[1]
    x, y = 0, 0
    while True:
        shifted = _shifted(aperture, shape, x, y)
        for _ in range(rng.integers(*_STAY)):
            yield shifted
        for _ in range(20):
            step = rng.uniform(*_STEP) * width * rng.choice([-1, 1], 2)
            next_x, next_y = (round(place + by) for place, by in zip((x, y), step, strict=True))
            inside = _shifted(aperture, shape, next_x, next_y).mask(shape).sum()
            if inside >= 0.9 * aperture.mask(shape).sum():
                x, y = next_x, next_y
                break


def _shifted(aperture: Aperture, shape: tuple[int, int], x: int, y: int) -> Aperture:
    if isinstance(aperture, Polygon):
        return Polygon(corners=aperture.corners + np.array([x, y]), iris=aperture.iris)
    height, width = shape
    left, right = np.clip([aperture.left + x, aperture.right + x], 0, width)
    top, bottom = np.clip([aperture.top + y, aperture.bottom + y], 0, height)
    return Rectangle(left=int(left), top=int(top), right=int(right), bottom=int(bottom))
