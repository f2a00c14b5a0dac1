"""What the other frames of a cine bring: the `mean` error behind the blades by number of frames, and flicker.

On simulated cines of scenes that no training saw, with the shipped weights: of CT views, and of objects redrawn from
the validation pairs and shown as those are. At 16 still frames the error is to be at most 0.8 times that at one frame
(0.6 is the aim); with motion never more; and the generated region is to flicker at most 1.25 times as much as the
measured one. Of still cines also how much of the true field the evidence itself shows, before any network: its
correlation with it behind the blades, broad light and dark taken out of both. And of rectangular apertures the error
behind one pair of blades, and in the corners behind both, where next to nothing of the beam arrives.

    python -m benchmarks.evidence PAIRS VIEWS
"""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._likeness import behind, likeness
from inference.evidence import gather
from inference.grey_mapping import GreyMapping
from inference.grid import reduced
from inference.network import FRAME_SIDE
from inference.pixels import Cine
from inference.reconstruct import Reconstructor
from inference.reconstruction import Mode
from training.cines import MOTIONS, Motion, SimulatedCine, simulated_cine
from training.examples import HELD_OUT_SHARE
from training.modality import EvenedContrast, Modality
from training.pairs import read_pairs, read_picture
from training.redraw import redraw

_KINDS = ("phantoms", "chest")
#: Numbers of frames, and the length of cines with motion.
_COUNTS, _LENGTH = (1, 4, 16, 64), 16
#: Cines of each kind.
_CINES = 6
#: Frames of a cine with motion whose error is looked at.
_PLACES = (0, 5, 10, 15)
#: Least noise of a measured region that a ratio is taken to, in grey levels on [-1, 1].
_STEADY = 1e-3
_MAPPING = GreyMapping.full_range(bits_stored=16)

Floats = NDArray[np.float32]


def main() -> None:
    """Print correlations, errors and flicker, for each kind of scenes."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    if len(sys.argv) != 3:
        print("Usage: python -m benchmarks.evidence PAIRS VIEWS")
        return
    reconstructor = Reconstructor.load("fullfield", "cpu")
    scenes = [*_objects(Path(sys.argv[1])), *_views(Path(sys.argv[2]))]
    _still(reconstructor, scenes)
    for motion in MOTIONS:
        _moving(reconstructor, scenes, motion)


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """Line integrals (256, 256), how they are shown (None: at random), and the kind of scene."""

    kind: str
    line_integrals: Floats
    modality: Modality | None = None


def _still(reconstructor: Reconstructor, scenes: Sequence[_Scene]) -> None:
    """Correlation and error by number of still frames."""
    rows, by_blades = [], []
    for seed, scene in enumerate(scenes):
        cine = simulated_cine(scene.line_integrals, "still", max(_COUNTS), seed, scene.modality)
        aperture = cine.apertures[0]
        regions = behind(aperture)
        for count in _COUNTS:
            made = _reconstructed(reconstructor, cine, slice(count), "mean")[0]
            squared = np.square(made - cine.full[0])
            rows.append((scene.kind, count, _likeness(cine, count, ~aperture), squared[~aperture].mean()))
            if regions is not None:
                one, two = regions
                by_blades.append((count, squared[one].sum(), one.sum(), squared[two].sum(), two.sum()))
    for kind in (*_KINDS, "all"):
        error = {n: np.mean([row[3] for row in rows if row[1] == n and kind in (row[0], "all")]) for n in _COUNTS}
        for count in _COUNTS:
            likeness = np.mean([row[2] for row in rows if row[1] == count and kind in (row[0], "all")])
            ratio = error[count] / error[1]
            print(
                f"{kind}, {count} still frames: correlation {likeness:.3f}, mean error {error[count]:.4f}, "
                f"{ratio:.2f} times that of one"
            )
    totals = {n: np.sum([row[1:] for row in by_blades if row[0] == n], axis=0) for n in _COUNTS}
    for count, (one, area_of_one, two, area_of_two) in totals.items():
        share = area_of_one / (area_of_one + area_of_two)
        print(
            f"rectangles, {count} still frames: behind one pair of blades ({share:.0%}) {one / area_of_one:.4f}, "
            f"{one / totals[1][0]:.2f} times that of one frame; behind both {two / area_of_two:.4f}, "
            f"{two / totals[1][2]:.2f} times"
        )


def _moving(reconstructor: Reconstructor, scenes: Sequence[_Scene], motion: Motion) -> None:
    """Error beside that of frames alone, and flicker in both modes."""
    together, alone = [], []
    flicker: dict[Mode, list[float]] = {"mean": [], "sample": []}
    for seed, scene in enumerate(scenes):
        cine = simulated_cine(scene.line_integrals, motion, _LENGTH, 100 + seed, scene.modality)
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


def _objects(pairs: Path) -> Iterator[_Scene]:
    """Objects redrawn from validation pairs of different scenes, shown as pairs are."""
    by_scene = {pair.scene: pair for pair in read_pairs(pairs, "val")}
    for index in np.linspace(0, len(by_scene) - 1, _CINES).astype(int):
        pair = list(by_scene.values())[index]
        view = redraw(read_picture(pair.full, FRAME_SIDE), np.random.default_rng(index))
        yield _Scene(kind=_KINDS[0], line_integrals=view, modality=EvenedContrast())


def _views(path: Path) -> Iterator[_Scene]:
    """Views that training never draws from (see training.examples), at the networks' grid."""
    views = np.load(path, mmap_mode="r")
    first = min(round(len(views) * (1 - HELD_OUT_SHARE)), len(views) - 1)
    for index in np.unique(np.linspace(first, len(views) - 1, _CINES).astype(int)):
        view = torch.from_numpy(views[index].astype(np.float32))[None, None]
        small = reduced(view)[0, 0].numpy()
        yield _Scene(kind=_KINDS[1], line_integrals=small)


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
    return likeness(first.pictures[0], cine.field[0], hidden)


def _flicker(made: Floats, cine: SimulatedCine) -> float:
    """Change from frame to frame beyond the true field's: the generated region's over the measured one's.

    0 where the generated region changes less than the true field, as where it does not follow a motion.
    """
    steady = cine.apertures[1:] == cine.apertures[:-1]
    changes, true = np.abs(np.diff(made, axis=0)), np.abs(np.diff(cine.field, axis=0))
    hidden, measured = steady & ~cine.apertures[1:], steady & cine.apertures[1:]
    generated, noise = ((changes - true)[region].mean() for region in (hidden, measured))
    return 0.0 if generated <= 0 else float(generated / max(noise, _STEADY))


if __name__ == "__main__":
    main()
