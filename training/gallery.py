"""A page of pictures to look at: views of the CT that no training saw, collimated, reconstructed, and as they were.

    python -m training.gallery VIEWS.npy OUT.png [COUNT]

One row a view: collimated, best estimate, one draw, the half-width of the 90 % interval (black 0, white 1), truth. The
aperture's outline is drawn into the reconstructions.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from inference.pixels import Cine, GreyMapping
from inference.reconstruct import Reconstructor
from inference.reconstruction import Reconstruction
from training.blades import random_aperture
from training.collimate import random_exposure, simulate_cine
from training.devices import add_devices
from training.examples import HELD_OUT_SHARE
from training.modality import random_modality

Picture = NDArray[np.float32]

_MAPPING = GreyMapping.full_range(bits_stored=12, bits_allocated=16)
#: Side of one picture on the page, in pixels, and the gap between two.
_SIDE, _GAP = 192, 4


def draw_gallery(views: Path, out: Path, count: int = 10, profile: str = "fullfield") -> None:
    """Write the page; the same views, weights and count give the same page."""
    reconstructor = Reconstructor.load(profile)
    rows = [_row(reconstructor, view, number) for number, view in track(_held_out(views, count), "Drawing")]
    page = np.full((count * (_SIDE + _GAP) - _GAP, len(rows[0]) * (_SIDE + _GAP) - _GAP), 255, np.uint8)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            top, left = row * (_SIDE + _GAP), column * (_SIDE + _GAP)
            page[top : top + _SIDE, left : left + _SIDE] = picture
    Image.fromarray(page).save(out, optimize=True)


def _held_out(path: Path, count: int) -> list[tuple[int, Picture]]:
    """Views from the share that no training draws from (see training.examples), spread evenly over it."""
    views = np.load(path, mmap_mode="r")
    first = min(round(len(views) * (1 - HELD_OUT_SHARE)), len(views) - 1)
    places = np.linspace(first, len(views) - 1, count).astype(int)
    return [(number, views[place].astype(np.float32)) for number, place in enumerate(places)]


def _row(reconstructor: Reconstructor, view: Picture, number: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(number)
    scene, exposure = add_devices(view, rng), random_exposure(rng)
    modality, aperture = random_modality(exposure.quanta, rng), random_aperture(view.shape, rng)
    full = next(simulate_cine(scene, None, exposure, modality, rng))
    collimated = next(simulate_cine(scene, aperture, exposure, modality, rng))
    measured = aperture.mask(full.shape)[None]
    cine = Cine(stored=_MAPPING.to_stored(collimated[None]), mapping=_MAPPING)
    mean, sample = (
        reconstructor.reconstruct(cine, measured, "attributes", mode=mode, seed=number) for mode in ("mean", "sample")
    )
    return list(_pictures(collimated, full, mean, sample))


def _pictures(
    collimated: Picture, full: Picture, mean: Reconstruction, sample: Reconstruction
) -> Iterator[NDArray[np.uint8]]:
    outline = np.zeros(full.shape, bool)
    inside = mean.aperture[0]
    outline[1:] |= inside[1:] != inside[:-1]
    outline[:, 1:] |= inside[:, 1:] != inside[:, :-1]
    yield _shown(collimated)
    for made in (mean, sample):
        yield _shown(np.where(outline, 1, _MAPPING.to_grey(made.stored[0])))
    yield _shown(2 * mean.uncertainty[0] - 1)
    yield _shown(full)


def _shown(picture: Picture) -> NDArray[np.uint8]:
    grey = np.clip((picture + 1) * 127.5, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m training.gallery VIEWS.npy OUT.png [COUNT]")
    draw_gallery(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) == 4 else 10)
