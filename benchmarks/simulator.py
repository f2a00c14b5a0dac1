"""How like the phantom pairs the simulated exposures are, in what they let through the blades.

For each pair's aperture and an object redrawn from its full picture (training.redraw), an exposure is simulated as
training simulates them, shown as the pairs are. Of both worlds are told, in percentiles over the pairs: the correlation
of the collimated picture with the full one behind one pair of blades and in the corners behind both, broad light and
dark taken out; how strong the detail is there, which is mostly noise; and how strong the finest grain of the full
picture is. All of it at the networks' 256x256 pixels.

    python -m benchmarks.simulator PAIRS
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy import ndimage

from benchmarks._likeness import behind, detail, likeness
from inference.network import FRAME_SIDE
from training.blades import Rectangle
from training.collimate import random_exposure, simulate_pair
from training.modality import EvenedContrast
from training.pairs import aperture_mask, read_pairs, read_picture
from training.redraw import redraw

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_PERCENTILES = (10, 25, 50, 75, 90)
#: Pixels of a region below which nothing is said of it.
_FEWEST = 500
#: Where the pictures' dark rim begins, in pixels from the border.
_RIM = 20
_ROWS = (
    "correlation behind one pair of blades",
    "correlation behind both",
    "detail behind one pair of blades",
    "detail behind both",
    "grain of the full picture",
)


def main() -> None:
    """Print the percentiles of both worlds."""
    if len(sys.argv) != 2:
        print("Usage: python -m benchmarks.simulator PAIRS")
        return
    rng = np.random.default_rng(0)
    measured, simulated = [], []
    for pair in track(read_pairs(Path(sys.argv[1]), "train"), description="comparing", transient=True):
        aperture = aperture_mask(pair.aperture, (FRAME_SIDE, FRAME_SIDE))
        full, collimated = (read_picture(path, FRAME_SIDE) for path in (pair.full, pair.collimated))
        measured.append(_described(full, collimated, aperture))
        simulated.append(_described(*_simulated(full, aperture, rng), aperture))
    print(f"percentiles {', '.join(map(str, _PERCENTILES))} over {len(measured)} pairs")
    for name, *worlds in zip(_ROWS, np.transpose(measured), np.transpose(simulated), strict=True):
        told = (" ".join(f"{x:.3f}" for x in np.nanpercentile(world, _PERCENTILES)) for world in worlds)
        print("{}: measured {}, simulated {}".format(name, *told))


def _simulated(full: Floats, aperture: Mask, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Another exposure of the same shapes behind the same blades."""
    rows, columns = np.flatnonzero(aperture.any(axis=1)), np.flatnonzero(aperture.any(axis=0))
    opening = Rectangle(left=int(columns[0]), right=int(columns[-1]) + 1, top=int(rows[0]), bottom=int(rows[-1]) + 1)
    return simulate_pair(redraw(full, rng), opening, random_exposure(rng), EvenedContrast(), rng)


def _described(full: Floats, collimated: Floats, aperture: Mask) -> list[float]:
    """The numbers of one pair, in the order of `_ROWS`."""
    regions = behind(aperture)
    assert regions is not None, "the pairs' apertures are rectangles"
    large = [region if region.sum() >= _FEWEST else None for region in regions]
    correlations = [np.nan if region is None else likeness(collimated, full, region) for region in large]
    strengths = [np.nan if region is None else float(detail(collimated, region).std()) for region in large]
    grain = (full - ndimage.gaussian_filter(full, 1.0))[_RIM:-_RIM, _RIM:-_RIM]
    return [*correlations, *strengths, float(grain.std())]


if __name__ == "__main__":
    main()
