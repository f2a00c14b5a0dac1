"""Whether the intervals hold what they promise, and whether strangers are told from known pictures.

Coverage is measured by cross-conformal evaluation: calibrated on half of the held-out scenes and tested on the other
half, twenty times; so are false declines, with the limit set on the first half. Strangers are of kinds that calibration
has not learnt from, but for noise, flat fields and inversion: slices of CT and MR, ultrasound and other pictures that
pydicom ships, axial slices of the chest CT, a hand. Each is given an aperture; where a finder finds none, the product
declines without asking, which is not counted here.

python -m benchmarks.calibration PAIRS [VIEWS] [CT]
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from inference.intervals import NORMAL_90, QUARTER_MIDDLES, quarter_of
from inference.network import FRAME_SIDE
from inference.reconstruct import Reconstructor
from inference.weights import MODELS
from training.calibrate import (
    HeldOut,
    Scores,
    held_out_pairs,
    held_out_views,
    interval_factors,
    limit_of,
    load_run,
    score,
    traits_of,
)
from training.devices import Cylinder, draw, smooth_axis
from training.pairs import read_pairs
from training.strangers import collimated, exposed, stranger

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: A kind, and a picture of it with its aperture.
_Stranger = tuple[str, tuple[Floats, Mask]]
_REPEATS = 20
_SHIPPED = (
    "CT_small",
    "MR_small",
    "JPEG2000",
    "J2K_pixelrep_mismatch",
    "693_J2KI",
    "JPGExtended",
    "examples_jpeg2k",
    "JPEGLSNearLossless_08",
    "examples_rgb_color",
    "examples_ybr_color",
    "examples_palette",
    "examples_overlay",
)
_SLICES = range(8, 128, 6)


def main() -> None:
    """Print coverage and width by quarter, then AUROC and false declines."""
    warnings.simplefilter("ignore")
    if len(sys.argv) < 2:
        print("Usage: python -m benchmarks.calibration PAIRS [VIEWS] [CT]")
        return
    views, ct = (Path(sys.argv[i]) if len(sys.argv) > i else None for i in (2, 3))
    held_out = [*held_out_pairs(read_pairs(Path(sys.argv[1]), "val")), *held_out_views(views)]
    _intervals([score(load_run(MODELS / "fullfield"), one) for one in held_out])
    _strangers(Reconstructor.load("fullfield", "cpu"), held_out, ct)


def _intervals(scores: Sequence[Scores]) -> None:
    rng = np.random.default_rng(0)
    print(f"{'':10} {'all':>7} {'by quarter of the distance':^31} {'width':>7}   share of pixels held, mean (spread)")
    for title, factors_of in (
        ("calibrated", interval_factors),
        ("normal", lambda _: np.full(len(QUARTER_MIDDLES), NORMAL_90)),
    ):
        rows: dict[bool, list[list[float]]] = {True: [], False: []}
        for _ in range(_REPEATS):
            calibration, test = _halves(scores, rng)
            factors = factors_of(calibration)
            for real, figures in rows.items():
                if part := [s for s in test if s.real == real]:
                    figures.append(_figures(part, factors))
        for real, figures in rows.items():
            if figures:
                mean, spread = np.mean(figures, axis=0), np.std(figures, axis=0)
                told = "  ".join(f"{m:.3f}" for m in mean)
                print(f"{title:10} {'pairs    ' if real else 'simulated'} {told}   ({spread[0]:.3f})")


def _halves(scores: Sequence[Scores], rng: np.random.Generator) -> tuple[list[Scores], list[Scores]]:
    first = set()
    for real in (True, False):
        scenes = sorted({s.scene for s in scores if s.real == real})
        first |= {(real, scene) for scene in rng.permutation(scenes)[: len(scenes) // 2]}
    chosen = [(s.real, s.scene) in first for s in scores]
    return (
        [s for s, is_first in zip(scores, chosen, strict=True) if is_first],
        [s for s, is_first in zip(scores, chosen, strict=True) if not is_first],
    )


def _figures(scores: Sequence[Scores], factors: NDArray[np.floating]) -> list[float]:
    distance, error, deviation = (
        np.concatenate([getattr(s, name) for s in scores]) for name in ("distance", "score", "deviation")
    )
    factor = np.interp(distance, QUARTER_MIDDLES, factors)
    held, quarter = error <= factor, quarter_of(distance)
    by_quarter = [held[quarter == number].mean() for number in range(len(QUARTER_MIDDLES))]
    return [held.mean(), *by_quarter, (2 * factor * deviation).mean()]


def _strangers(reconstructor: Reconstructor, held_out: Sequence[HeldOut], ct: Path | None) -> None:
    def strangeness(pictures: Sequence[Floats], apertures: Sequence[Mask]) -> Floats:
        told = [
            reconstructor.weights.calibration.strangeness(
                traits_of(reconstructor, picture[None], aperture[None], np.ones((1, *picture.shape), np.float32))
            )
            for picture, aperture in zip(pictures, apertures, strict=True)
        ]
        return np.concatenate(told)

    alone = [one for one in held_out if one.frames.max() == 1]
    known = strangeness([one.collimated for one in alone], [one.aperture for one in alone])
    real = np.array([one.real for one in alone])
    for title, part in (("pairs", known[real]), ("simulated", known[~real])):
        if part.size:
            print(f"{title}: {(part > 1).mean():.1%} of {part.size} declined, on which the limit was set")
    rng = np.random.default_rng(1)
    print(f"{_false_declines(alone, known, real, rng):.1%} declined of scenes that the limit was not set on")
    groups: dict[str, list[tuple[Floats, Mask]]] = {}
    for name, made in _made(alone, ct, rng):
        groups.setdefault(name, []).append(made)
    everything = []
    for name, pictures in groups.items():
        told = strangeness(*zip(*pictures, strict=True))
        print(_told(name, known, told))
        if name != "upside down":
            everything.append(told)
    print(_told("all the others", known, np.concatenate(everything)))


def _told(name: str, known: Floats, strange: Floats) -> str:
    return f"{name:18} {strange.size:4}  AUROC {_auroc(known, strange):.4f}  declined {(strange > 1).mean():.1%}"


def _false_declines(alone: Sequence[HeldOut], known: Floats, real: Mask, rng: np.random.Generator) -> float:
    scenes = np.array([f"{one.real} {one.scene}" for one in alone])
    shares = []
    for _ in range(_REPEATS):
        first = np.isin(scenes, rng.permutation(np.unique(scenes))[::2])
        shares.append((known[~first] > limit_of(known[first], real[first])).mean())
    return float(np.mean(shares))


def _made(alone: Sequence[HeldOut], ct: Path | None, rng: np.random.Generator) -> Iterator[_Stranger]:
    for picture in _shipped():
        for _ in range(3):
            yield "other modality", collimated(picture, rng)
    if ct is not None:
        for picture in _axial(ct):
            yield "axial CT", collimated(picture, rng)
    for _ in range(24):
        yield "hand", exposed(_hand(rng), rng)
    for kind in ("noise", "texture", "flat"):
        for _ in range(20):
            yield kind, stranger(kind, alone[0].collimated, alone[0].aperture, rng)
    for one in alone:
        yield "inverted", (-one.collimated, one.aperture)
        yield "upside down", (np.flipud(one.collimated).copy(), np.flipud(one.aperture).copy())


def _shipped() -> Iterator[Floats]:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    for name in _SHIPPED:
        pixels = pydicom.dcmread(folder / f"{name}.dcm").pixel_array.astype(np.float32)
        if pixels.shape[-1] == 3:
            pixels = pixels.mean(axis=-1)
        while pixels.ndim > 2:
            pixels = pixels[0]
        yield _grey(pixels)


def _axial(path: Path) -> Iterator[Floats]:
    hounsfield = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj, dtype=np.float32)
    for number in _SLICES:
        window = (-160, 240) if number % 4 else (-1000, 600)
        yield _grey(np.clip(hounsfield[:, :, number].T[::-1], *window))


def _grey(pixels: Floats) -> Floats:
    """To 256x256 in [-1, 1]."""
    low, high = np.quantile(pixels, [0.01, 0.99])
    grey = torch.from_numpy(np.clip(2 * (pixels - low) / max(high - low, 1e-6) - 1, -1, 1).astype(np.float32))
    size = (FRAME_SIDE, FRAME_SIDE)
    reduced: Floats = F.interpolate(grey[None, None], size, mode="bilinear", antialias=True)[0, 0].numpy()
    return reduced


def _hand(rng: np.random.Generator) -> Floats:
    """Line integrals of a hand: five fingers of four bones each with their knuckles, in flesh, and a palm."""
    lines = np.zeros((FRAME_SIDE, FRAME_SIDE), np.float32)
    middle = rng.uniform(0.4, 0.6)
    for finger in range(-2, 3):
        lean = 0.16 * finger + rng.normal(0, 0.04)
        ahead = np.array([np.sin(lean), -np.cos(lean)])
        joint = np.array([middle + 0.09 * finger, 0.72 + 0.02 * abs(finger)])
        length = rng.uniform(0.5, 0.62) * (1 - 0.08 * abs(finger))
        flesh = smooth_axis(joint + np.linspace(-0.2, 1.03, 5)[:, None] * length * ahead)
        lines = draw(lines, Cylinder(axis=flesh, radius=0.045, attenuation=0.5))
        for share in (0.42, 0.26, 0.18, 0.12):
            end = joint + ahead * length * share
            bone = smooth_axis(joint + np.linspace(0.04, 0.92, 4)[:, None] * (end - joint))
            lines = draw(lines, Cylinder(axis=bone, radius=0.014, attenuation=0.9))
            for knuckle in (bone[0], bone[-1]):
                around = knuckle + np.linspace(-0.004, 0.004, 9)[:, None] * ahead
                lines = draw(lines, Cylinder(axis=around, radius=0.019, attenuation=0.6))
            joint = end
    palm = smooth_axis(np.array([[middle, 0.98], [middle, 0.9], [middle + 0.01, 0.8], [middle, 0.72]]))
    return draw(lines, Cylinder(axis=palm, radius=0.2, attenuation=0.7)) * np.float32(rng.uniform(1, 3))


def _auroc(known: Floats, strange: Floats) -> float:
    """Probability that a stranger is stranger than a known picture."""
    higher = (strange[:, None] > known).mean() + 0.5 * (strange[:, None] == known).mean()
    return float(higher)


if __name__ == "__main__":
    main()
