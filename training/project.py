"""C-arm projections of a CT: line integrals of attenuation over cone-beam rays, drawn with nanodrr.

Directions follow DICOM (PS3.3 C.8.7.5): a positive primary angle turns the detector to the patient's left
(LAO), a positive secondary angle to the head (CRAN). The picture is seen from the detector: the patient's
left is on its right, the head is up.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import torch
from nanodrr.camera import make_k_inv
from nanodrr.data import Subject
from nanodrr.drr import render
from nibabel.filebasedimages import ImageFileError
from rich.progress import track

from config.errors import ConfigError

Floats = npt.NDArray[np.float32]

#: Primary angles kept out of every training view: the shipped sample lives there.
HELD_OUT_PRIMARY_ANGLES = (20.0, 35.0)

#: Least and greatest size of a patient in each direction, and density of bone, as shares of the CT's own.
BUILD, BONE_DENSITY = (0.85, 1.15), (0.8, 1.3)

#: Samples along the part of a ray inside the volume: steps of about two millimetres through a chest.
RAY_SAMPLES = 220


@dataclass(frozen=True, kw_only=True)
class View:
    """Where the C-arm stands and what its detector covers."""

    #: PositionerPrimaryAngle in degrees, LAO positive.
    primary_angle: float
    #: PositionerSecondaryAngle in degrees, cranial positive.
    secondary_angle: float = 0.0
    #: DistanceSourceToDetector in millimetres.
    source_to_detector: float = 1100.0
    #: DistanceSourceToPatient (to the isocenter) in millimetres.
    source_to_isocenter: float = 750.0
    #: Side of the square detector field in millimetres: smaller is the zoom of an image intensifier.
    detector_side: float = 300.0
    #: The isocenter's offset from the middle of the CT in millimetres: to left, front and head.
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


def load_volume(path: Path, *, reduction: int = 2, mirror_slices: int = 48) -> Subject:
    """A CT in Hounsfield units (NIfTI, any orientation) as attenuation per millimetre, ready to project.

    In-plane resolution is reduced by a whole factor, and `mirror_slices` slices are mirrored beyond the ends:
    a chest CT is shorter than a detector's view of the chest, and its end would show as a hard edge.
    Raises ConfigError for a file that cannot be read, or is no volume.
    """
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        hounsfield = np.asarray(image.dataobj, dtype=np.float32)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not found") from error
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise ConfigError(f"{path}: not a readable NIfTI file") from error
    if hounsfield.ndim != 3 or min(hounsfield.shape) < 2 * reduction:
        raise ConfigError(f"{path}: holds {'x'.join(map(str, hounsfield.shape))} values, which are no CT volume")
    width, depth = (size // reduction for size in hounsfield.shape[:2])
    cut = hounsfield[: width * reduction, : depth * reduction]
    reduced = cut.reshape(width, reduction, depth, reduction, -1).mean(axis=(1, 3))
    to_world = image.affine @ np.diag([reduction, reduction, 1.0, 1.0])
    middle = (reduction - 1) / 2
    to_world[:3, 3] = (image.affine @ [middle, middle, 0.0, 1.0])[:3]
    return volume(reduced, to_world, mirror_slices=min(mirror_slices, reduced.shape[2] - 1))


def volume(hounsfield: Floats, to_world: npt.NDArray[np.float64], *, mirror_slices: int = 0) -> Subject:
    """A volume (x, y, z) in Hounsfield units with its 4x4 voxel-to-world matrix (RAS, mm), to project."""
    centre = to_world @ [*((np.asarray(hounsfield.shape) - 1) / 2), 1.0]
    beyond = ((0, 0), (0, 0), (mirror_slices, mirror_slices))
    extended = np.pad(np.clip(hounsfield, -1000, 3071), beyond, "reflect")
    to_world = to_world.copy()
    to_world[:3, 3] -= mirror_slices * to_world[:3, 2]
    voxels = torch.from_numpy(np.ascontiguousarray(extended.transpose(2, 1, 0), dtype=np.float32))[None, None]
    world = torch.from_numpy(to_world)
    return Subject(
        voxels,
        torch.zeros(1, 1, 1, 1, 1),
        world.float(),
        world.inverse().float(),
        _voxel_to_grid(extended.shape),
        torch.from_numpy(centre[:3]).float(),
        max_label=0,
    )


@torch.inference_mode()
def project(subject: Subject, view: View, size: int, *, ray_samples: int = RAY_SAMPLES, band: int = 64) -> Floats:
    """Line integrals of attenuation for one view: (size, size) float32, dimensionless, air 0.

    `band` rows are drawn at a time, which bounds the memory whatever the size.
    """
    pixel = view.detector_side / size
    distance = torch.tensor([view.source_to_detector], dtype=torch.float32)
    inverse_camera = make_k_inv(view.source_to_detector, pixel, pixel, 0, 0, size, size, dtype=torch.float32)
    device = subject.isocenter.device
    targets = _detector_points(view, size).to(device)
    pose = _camera_to_world(view, subject.isocenter.cpu()).to(device)
    rows = []
    for top in range(0, size, band):
        height = min(band, size - top)
        target = targets[:, top * size : (top + height) * size]
        drawn = render(
            subject, inverse_camera.to(device), pose, distance.to(device), height, size, ray_samples, tgt=target
        )
        rows.append(drawn[0, 0].cpu())
    integrals: Floats = torch.cat(rows).numpy()
    return integrals


def shadow(view: View, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where points in the patient fall on the detector: (n, 2) x, y in widths of the picture, 0 to 1 inside.

    points: (n, 3) in millimetres from the middle of the CT, to the left, to the front, to the head.
    """
    right, down, ahead = _picture_axes(view)
    from_source = points - view.offset + view.source_to_isocenter * ahead
    magnification = view.source_to_detector / (from_source @ ahead)
    seen = np.stack([from_source @ right, from_source @ down], axis=1) * magnification[:, None]
    return np.asarray(seen / view.detector_side + 0.5)


def random_view(rng: np.random.Generator) -> View:
    """A view of the chest as an interventional suite would choose it, never from the held-out angles."""
    low, high = HELD_OUT_PRIMARY_ANGLES
    primary = rng.uniform(-60, 60 - (high - low))
    return View(
        primary_angle=primary if primary < low else primary + (high - low),
        secondary_angle=rng.uniform(-25, 25),
        source_to_detector=rng.uniform(1020, 1200),
        source_to_isocenter=rng.uniform(700, 790),
        detector_side=rng.choice([200.0, 250.0, 300.0, 380.0]) * rng.uniform(0.95, 1.05),
        offset=(rng.uniform(-70, 70), rng.uniform(-30, 30), rng.uniform(-90, 90)),
    )


def random_views(subject: Subject, count: int, size: int, seed: int) -> Iterator[Floats]:
    """`count` random projections of patients of random build, each (size, size).

    The same seed gives the same pictures, but for rounding on another device.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield project(_of_random_build(subject, rng), random_view(rng), size)


def write_views(ct_path: Path, out_path: Path, *, count: int, size: int, seed: int = 0) -> None:
    """Draw `count` random views into one float16 .npy of shape (count, size, size), with a progress bar.

    The file grows on disk and gets its name when it is whole.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    views = random_views(load_volume(ct_path).to(device), count, size, seed)
    unfinished = out_path.with_suffix(".part")
    stack = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.float16, shape=(count, size, size))
    for index, integrals in enumerate(track(views, "Projecting", total=count)):
        stack[index] = integrals
    stack.flush()
    unfinished.replace(out_path)


def _of_random_build(subject: Subject, rng: np.random.Generator) -> Subject:
    """The same patient broader or slimmer, deeper, taller, and with bones of another density; changed in place."""
    shrink = torch.diag(torch.tensor([*(1 / rng.uniform(*BUILD, 3)), 1.0], dtype=torch.float32))
    middle = torch.eye(4)
    middle[:3, 3] = subject.isocenter.cpu()
    to_original = (middle @ shrink @ middle.inverse()).to(subject.isocenter.device)
    subject.world_to_grid = subject.voxel_to_grid @ subject.world_to_voxel @ to_original
    subject.set_mu(mu_bone=subject.mu_bone * rng.uniform(*BONE_DENSITY))
    return subject


def _voxel_to_grid(shape: tuple[int, ...]) -> torch.Tensor:
    """(4, 4): voxel indices to [-1, 1] over the volume's whole extent, as torch's grid_sample counts."""
    sides = torch.tensor(shape, dtype=torch.float32)
    matrix = torch.diag(torch.cat([2 / sides, torch.ones(1)]))
    matrix[:3, 3] = 1 / sides - 1
    return matrix


def _detector_points(view: View, size: int) -> torch.Tensor:
    """(1, size * size, 3): every detector pixel's middle, row by row, seen from the source, in mm."""
    along = ((torch.arange(size, dtype=torch.float32) + 0.5) / size - 0.5) * view.detector_side
    down, right = torch.meshgrid(along, along, indexing="ij")
    ahead = torch.full_like(right, view.source_to_detector)
    return torch.stack([right, down, ahead], dim=-1).reshape(1, -1, 3)


def _camera_to_world(view: View, middle: torch.Tensor) -> torch.Tensor:
    """(1, 4, 4): columns are the picture's right, its down, the way to the detector, and the source."""
    axes = [np.array([-1, 1, 1]) * axis for axis in _picture_axes(view)]  # NIfTI's x grows to the right
    isocenter = middle.numpy() + np.array([-1, 1, 1]) * view.offset
    pose = np.eye(4)
    pose[:3] = np.stack([*axes, isocenter - view.source_to_isocenter * axes[2]], axis=1)
    return torch.from_numpy(pose).float()[None]


def _picture_axes(view: View) -> tuple[npt.NDArray[np.float64], ...]:
    """The picture's right, its down and the way to the detector, in the patient's left, front and head."""
    primary, secondary = np.radians([view.primary_angle, view.secondary_angle])
    outward = np.array([np.sin(primary), np.cos(primary), 0.0])
    head = np.array([0.0, 0.0, 1.0])
    right = np.array([np.cos(primary), -np.sin(primary), 0.0])
    ahead = np.cos(secondary) * outward + np.sin(secondary) * head
    down = np.sin(secondary) * outward - np.cos(secondary) * head
    return right, down, ahead
