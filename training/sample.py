"""The cine that Fullfield ships: a collimated fluoroscopy of a chest, drawn from a CT.

    python -m training.sample CT.nii.gz OUT.dcm [TRUTH.npy]

The C-arm turns slowly within the angles held out of training, while a guide wire goes up the aorta and into a
coronary artery. The same CT gives the same file.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from nanodrr.data import Subject
from pydicom.uid import JPEG2000Lossless
from rich.progress import track
from scipy import ndimage

from training.blades import Rectangle
from training.collimate import Exposure, simulate_pair
from training.devices import Cylinder, draw, smooth_axis
from training.modality import LogCurve
from training.project import HELD_OUT_PRIMARY_ANGLES, View, load_volume, project, shadow
from training.sample_header import BITS_STORED, sample_dataset

Floats = npt.NDArray[np.float32]
Stored = npt.NDArray[np.uint16]

FRAMES = 24
SIZE = 512
#: Fluoroscopy reads the detector in blocks of 2x2 and shows it interpolated: less noise for the dose.
BINNING = 2
#: The blades, in pixels of the picture that is shown.
APERTURE = Rectangle(left=168, top=112, right=408, bottom=340)
EXPOSURE = Exposure(
    quanta=1.2e5,
    scatter_to_primary=0.12,
    transmission=(0.02, 0.014),
    penumbra=0.015,
    electronic_noise=6.0,
    line_noise=1.0,
    margin=0.0,
)
FIRST_VIEW = View(
    primary_angle=22.0, secondary_angle=-4.0, source_to_detector=1100.0, offset=(8.0, 5.0, -8.0), detector_side=300.0
)
MODALITY = LogCurve(open_beam=EXPOSURE.quanta)
#: Degrees that the C-arm turns from the first frame to the last.
TURN = 10.0

#: From the abdominal aorta over the arch to the root: millimetres from the middle of the CT, to the left, to
#: the front, to the head.
AORTA = (
    (18, 21, -165), (19, 8, -125), (16, -8, -85), (11, -25, -45), (10, -45, -5), (8, -51, 35), (6, -40, 62),
    (1, -15, 80), (-10, 15, 70), (-16, 36, 45), (-8, 33, 20), (5, 28, 0),
)  # fmt: skip
#: On from the root, along the front of the heart.
CORONARY = ((22, 38, -5), (38, 48, -25), (48, 54, -50), (52, 56, -75))


def make_sample(
    ct_path: Path, out_path: Path, truth_path: Path | None = None, *, frames: int = FRAMES, size: int = SIZE
) -> None:
    """Draw the sample from a CT (NIfTI, HU) and write it in JPEG 2000 lossless.

    truth_path: where to write the full-field frames, (frames, size, size) uint16 .npy in the sample's own scale.
    """
    views = rotation(frames)
    full, collimated = expose(load_volume(ct_path, reduction=1), views, size)
    dataset = sample_dataset(collimated, views, scaled_aperture(size))
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.save_as(out_path, enforce_file_format=True)
    if truth_path is not None:
        np.save(truth_path, full)


def rotation(frames: int) -> list[View]:
    """The C-arm's way, one view a frame, within the angles that training never sees."""
    low, high = HELD_OUT_PRIMARY_ANGLES
    angles = np.linspace(FIRST_VIEW.primary_angle, FIRST_VIEW.primary_angle + TURN, frames)
    assert low <= angles[0] <= angles[-1] <= high
    return [replace(FIRST_VIEW, primary_angle=float(angle)) for angle in angles]


def expose(subject: Subject, views: Sequence[View], size: int, seed: int = 5) -> tuple[Stored, Stored]:
    """The full-field and the collimated cine: two (n, size, size) arrays of BITS_STORED bits."""
    rng = np.random.default_rng(seed)
    aperture = scaled_aperture(size // BINNING)
    full, collimated = [], []
    for index, view in enumerate(track(views, "Drawing the sample")):
        advance = 0.55 + 0.45 * index / max(len(views) - 1, 1)
        scene = with_wire(project(subject, view, size, ray_samples=400), view, advance)
        binned = scene.reshape(size // BINNING, BINNING, size // BINNING, BINNING).mean(axis=(1, 3))
        pair = simulate_pair(binned, aperture, EXPOSURE, MODALITY, rng)
        full.append(_stored(pair[0]))
        collimated.append(_stored(pair[1]))
    return np.stack(full), np.stack(collimated)


def with_wire(line_integrals: Floats, view: View, advance: float) -> Floats:
    """The projection with a catheter up to the aortic root, and a guide wire in it for `advance` of its way."""
    catheter = smooth_axis(shadow(view, np.array(AORTA, dtype=np.float64)))
    way = smooth_axis(shadow(view, np.array(AORTA + CORONARY, dtype=np.float64)))
    wire = way[: max(2, round(advance * len(way)))]
    drawn = draw(line_integrals, Cylinder(axis=catheter, radius=0.0045, attenuation=0.15))
    return draw(drawn, Cylinder(axis=wire, radius=0.0013, attenuation=0.7))


def scaled_aperture(size: int) -> Rectangle:
    """The blades in pixels of a picture of that size."""
    edges = {name: round(edge * size / SIZE) for name, edge in vars(APERTURE).items()}
    return Rectangle(**edges)


def _stored(frame: Floats) -> Stored:
    """A binned frame in [-1, 1] as the stored values of the interpolated one."""
    shown = np.clip(ndimage.zoom(frame, BINNING, order=3, grid_mode=True, mode="nearest"), -1, 1)
    return np.asarray(np.rint((shown + 1) / 2 * (2**BITS_STORED - 1)), dtype=np.uint16)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m training.sample CT.nii.gz OUT.dcm [TRUTH.npy]")
    make_sample(*(Path(argument) for argument in sys.argv[1:]))
