"""Pictures that no network of ours should touch: noise, flat fields, inverted and shuffled pictures, heaps of shapes.

Familiarity learns from them what it is to be a stranger (outlier exposure, Hendrycks et al. 2019); what it is tested
on, other modalities and a hand, is not among them (benchmarks/familiarity.py).
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from inference.network import FRAME_SIDE
from training.blades import random_aperture
from training.collimate import random_exposure, simulate_cine
from training.devices import Cylinder, draw, smooth_axis
from training.modality import random_modality

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SHAPE = (FRAME_SIDE, FRAME_SIDE)
#: Kinds of strangers; the last two are made of a picture that is known.
KINDS = ("noise", "texture", "flat", "shapes", "bones", "inverted", "shuffled")


def stranger(kind: str, known: Floats, measured: Mask, rng: np.random.Generator) -> tuple[Floats, Mask]:
    """A stranger and its aperture, both (256, 256); known, measured: a collimated picture and its aperture."""
    if kind == "inverted":
        return -known, measured
    if kind == "shuffled":
        return _shuffled(known, rng), measured
    if kind == "bones":
        return exposed(_bones(rng), rng)
    makers = {"noise": _noise, "texture": _texture, "flat": _flat, "shapes": _shapes}
    picture = makers[kind](rng)
    if rng.random() < 0.15:  # not collimated at all, with an aperture that somebody claims
        return picture, random_aperture(_SHAPE, rng).mask(_SHAPE)
    return collimated(picture, rng)


def collimated(picture: Floats, rng: np.random.Generator) -> tuple[Floats, Mask]:
    """A picture in [-1, 1] behind blades: cut out of noise, darkened, or exposed as if it were anatomy."""
    way = rng.integers(3)
    if way == 0:
        return exposed((1 - picture) * float(rng.uniform(1.0, 2.5)), rng)
    measured = random_aperture(_SHAPE, rng).mask(_SHAPE)
    noise = rng.standard_normal(_SHAPE, np.float32)
    if way == 1:
        behind = rng.uniform(-0.95, -0.1) + rng.uniform(0.01, 0.3) * noise
    else:
        behind = -0.9 + (picture + 1) * rng.uniform(0.02, 0.3) + rng.uniform(0.01, 0.1) * noise
    return np.where(measured, picture, behind).clip(-1, 1).astype(np.float32), measured


def exposed(line_integrals: Floats, rng: np.random.Generator) -> tuple[Floats, Mask]:
    """What the simulator makes of line integrals, dimensionless."""
    aperture, exposure = random_aperture(_SHAPE, rng), random_exposure(rng)
    modality = random_modality(exposure.quanta, rng)
    cine = simulate_cine(line_integrals.astype(np.float32), aperture, exposure, modality, rng)
    return next(cine), aperture.mask(_SHAPE)


def _noise(rng: np.random.Generator) -> Floats:
    picture = rng.normal(rng.uniform(-0.5, 0.5), rng.uniform(0.05, 0.6), _SHAPE)
    return np.asarray(picture.clip(-1, 1), dtype=np.float32)


def _texture(rng: np.random.Generator) -> Floats:
    """Noise whose power falls with some exponent of the frequency."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(FRAME_SIDE),) * 2)) + 1 / FRAME_SIDE
    spectrum = np.fft.fft2(rng.standard_normal(_SHAPE)) * frequency ** -rng.uniform(0.3, 2.5)
    if rng.random() < 0.5:
        spectrum *= frequency < rng.uniform(0.02, 0.3)
    field = np.fft.ifft2(spectrum).real
    return np.asarray((field / field.std() * rng.uniform(0.1, 0.6)).clip(-1, 1), dtype=np.float32)


def _flat(rng: np.random.Generator) -> Floats:
    down, across = np.meshgrid(*(np.linspace(-1, 1, FRAME_SIDE),) * 2, indexing="ij")
    slope = rng.normal(0, 0.3, 2) * (rng.random() < 0.5)
    picture = rng.uniform(-0.9, 0.9) + slope[0] * down + slope[1] * across
    return np.asarray((picture + rng.normal(0, rng.uniform(0, 0.03), _SHAPE)).clip(-1, 1), dtype=np.float32)


def _shapes(rng: np.random.Generator) -> Floats:
    """Ellipses and boxes upon each other, as pictures of things are made of, on some texture."""
    down, across = np.meshgrid(*(np.linspace(-1, 1, FRAME_SIDE),) * 2, indexing="ij")
    picture = np.full(_SHAPE, rng.uniform(-1, 1))
    for _ in range(rng.integers(2, 25)):
        angle, (y, x) = rng.uniform(0, np.pi), rng.uniform(-0.9, 0.9, 2)
        along = ((across - x) * np.cos(angle) + (down - y) * np.sin(angle)) / rng.uniform(0.03, 0.7)
        over = ((down - y) * np.cos(angle) - (across - x) * np.sin(angle)) / rng.uniform(0.03, 0.7)
        power = rng.choice([2, 8])
        inside = np.abs(along) ** power + np.abs(over) ** power < 1
        picture[inside] = rng.uniform(-1, 1) + rng.choice([0.0, 0.3]) * (picture[inside] - picture.mean())
    picture = ndimage.gaussian_filter(picture, rng.uniform(0, 2)) + rng.uniform(0, 0.15) * _texture(rng)
    return np.asarray(picture.clip(-1, 1), dtype=np.float32)


def _bones(rng: np.random.Generator) -> Floats:
    """Line integrals of a few rods with knobs in some flesh, and no trunk around them."""
    lines = np.zeros(_SHAPE, np.float32)
    strength = rng.uniform(0.5, 3)
    for _ in range(rng.integers(1, 8)):
        start, angle = rng.uniform(0, 1, 2), rng.uniform(0, 2 * np.pi)
        ahead = np.array([np.cos(angle), np.sin(angle)])
        length, radius = rng.uniform(0.1, 0.9), rng.uniform(0.008, 0.05)
        knots = start + np.linspace(0, length, 4)[:, None] * ahead + rng.normal(0, 0.01, (4, 2))
        axis = smooth_axis(knots)
        flesh = radius * rng.uniform(2, 4)
        lines = draw(lines, Cylinder(axis=axis, radius=flesh, attenuation=strength * rng.uniform(0.2, 0.5)))
        lines = draw(lines, Cylinder(axis=axis, radius=radius, attenuation=strength * rng.uniform(0.4, 1)))
    return lines


def _shuffled(picture: Floats, rng: np.random.Generator) -> Floats:
    """The picture's tiles in another order."""
    count = int(rng.choice([4, 8, 16]))
    side = FRAME_SIDE // count
    tiles = picture.reshape(count, side, count, side).swapaxes(1, 2).reshape(-1, side, side)
    shuffled = rng.permutation(tiles).reshape(count, count, side, side).swapaxes(1, 2)
    return np.ascontiguousarray(shuffled.reshape(_SHAPE))
