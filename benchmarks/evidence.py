"""What the other frames of a cine bring: the `mean` error behind the blades by number of frames, and flicker.

On simulated cines of CT views that no training saw, with the shipped weights. At 16 still frames the error is to be at
most 0.8 times that at one frame (0.6 is the aim); with motion never more; and the generated region is to flicker at
most 1.25 times as much as the measured one. Of still cines also how much of the true field the evidence itself shows,
before any network: its correlation with it behind the blades, broad light and dark taken out of both.
"""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from inference.evidence import gather
from inference.grey_mapping import GreyMapping
from inference.network import FRAME_SIDE
from inference.pixels import Cine
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode
from training.cines import MOTIONS, SimulatedCine, simulated_cine
from training.examples import HELD_OUT_SHARE

#: Where `fullfield train project` leaves the views, unless the command line names another file.
_VIEWS = Path("runs/views.npy")
#: Numbers of frames, and the length of cines with motion.
_COUNTS, _LENGTH = (1, 4, 16, 64), 16
#: Cines of each kind.
_CINES = 6
#: Frames of a cine with motion whose error is looked at.
_PLACES = (0, 5, 10, 15)
#: Standard deviation of the neighbourhood whose mean is broad light and dark, in pixels.
_BROAD = 8.0
_MAPPING = GreyMapping.full_range(bits_stored=16)

Floats = NDArray[np.float32]


def main() -> None:
    """Print correlations, errors and flicker."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else _VIEWS
    if not path.exists():
        print(f"{path} is missing; `fullfield train project` makes it.")
        return
    reconstructor = Reconstructor.load("fullfield", "cpu")
    views = list(_held_out(path))
    _still(reconstructor, views)
    for motion in MOTIONS:
        _moving(reconstructor, views, motion)


def _still(reconstructor: Reconstructor, views: list[Floats]) -> None:
    """Correlation and error by number of still frames."""
    likeness, error = defaultdict(list), defaultdict(list)
    for seed, view in enumerate(views):
        cine = simulated_cine(view, "still", max(_COUNTS), seed)
        hidden = ~cine.apertures[0]
        for count in _COUNTS:
            likeness[count].append(_likeness(cine, count, hidden))
            made = _reconstructed(reconstructor, cine, slice(count), "mean")
            error[count].append(np.square(made[0] - cine.full[0])[hidden].mean())
    for count in _COUNTS:
        ratio = np.mean(error[count]) / np.mean(error[1])
        print(
            f"{count} still frames: correlation {np.mean(likeness[count]):.3f}, mean error "
            f"{np.mean(error[count]):.4f}, {ratio:.2f} times that of one"
        )


def _moving(reconstructor: Reconstructor, views: list[Floats], motion: str) -> None:
    """Error beside that of frames alone, and flicker in both modes."""
    together, alone = [], []
    flicker: dict[Mode, list[float]] = {"mean": [], "sample": []}
    for seed, view in enumerate(views):
        cine = simulated_cine(view, motion, _LENGTH, 100 + seed)
        made = _reconstructed(reconstructor, cine, slice(None), "mean")
        for place in _PLACES:
            hidden = ~cine.apertures[place]
            single = _reconstructed(reconstructor, cine, slice(place, place + 1), "mean")[0]
            together.append(np.square(made[place] - cine.full[place])[hidden].mean())
            alone.append(np.square(single - cine.full[place])[hidden].mean())
        flicker["mean"].append(_flicker(made, cine))
        flicker["sample"].append(_flicker(_reconstructed(reconstructor, cine, slice(None), "sample"), cine))
    by_cine = [np.reshape(errors, (-1, len(_PLACES))).mean(axis=1) for errors in (together, alone)]
    print(
        f"{motion}, {_LENGTH} frames: mean error {np.mean(together):.4f}, {np.mean(together) / np.mean(alone):.2f} "
        f"times that of frames alone (worst cine {(by_cine[0] / by_cine[1]).max():.2f}); flicker over the measured "
        "region's "
        + ", ".join(f"{mode} {np.mean(ratios):.2f} (worst {max(ratios):.2f})" for mode, ratios in flicker.items())
    )


def _held_out(path: Path) -> Iterator[Floats]:
    """Views that training never draws from (see training.examples), at the networks' grid."""
    views = np.load(path, mmap_mode="r")
    first = min(round(len(views) * (1 - HELD_OUT_SHARE)), len(views) - 1)
    for index in np.unique(np.linspace(first, len(views) - 1, _CINES).astype(int)):
        view = torch.from_numpy(views[index].astype(np.float32))[None, None]
        yield F.interpolate(view, (FRAME_SIDE, FRAME_SIDE), mode="bilinear", antialias=True)[0, 0].numpy()


def _reconstructed(reconstructor: Reconstructor, cine: SimulatedCine, part: slice, mode: Mode) -> Floats:
    """The full field of some frames as the node makes it, (n, h, w) grey."""
    stored = _MAPPING.to_stored(cine.collimated[part])
    source = Cine(stored=stored, mapping=_MAPPING)
    made = reconstructor.reconstruct(source, cine.apertures[part], "pixels", mode=mode, seed=1)
    return _MAPPING.to_grey(made.stored)


def _likeness(cine: SimulatedCine, count: int, hidden: NDArray[np.bool_]) -> float:
    """Correlation of the evidence of so many frames with the true field behind the blades."""
    apertures = cine.apertures[:count]
    first = next(gather(lambda start, stop: cine.collimated[start:stop], apertures, apertures))
    seen, true = (_detail(picture, hidden) for picture in (first.pictures[0], cine.field[0]))
    return float(np.corrcoef(seen, true)[0, 1])


def _detail(picture: Floats, region: NDArray[np.bool_]) -> Floats:
    """The region's pixels (k,) less the mean of those around them."""
    inside = region.astype(np.float32)
    around = ndimage.gaussian_filter(picture * inside, _BROAD) / np.maximum(
        ndimage.gaussian_filter(inside, _BROAD), 1e-6
    )
    return (picture - around)[region]


def _flicker(made: Floats, cine: SimulatedCine) -> float:
    """Change from frame to frame beyond the true field's: the generated region's over the measured one's."""
    steady = cine.apertures[1:] == cine.apertures[:-1]
    changes, true = np.abs(np.diff(made, axis=0)), np.abs(np.diff(cine.field, axis=0))
    hidden, measured = steady & ~cine.apertures[1:], steady & cine.apertures[1:]
    return float((changes - true)[hidden].mean() / (changes - true)[measured].mean())


if __name__ == "__main__":
    main()
