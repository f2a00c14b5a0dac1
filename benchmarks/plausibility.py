"""Whether a classifier that is trained to can tell the draws' hidden regions from true ones, on unseen scenes.

A `sample` is drawn for each pair with the shipped weights, the whole way that the product goes, grain included. Each
has a noise of its own, for draws that share one can be told by it. 50 % accuracy cannot tell; at most 75 % is the aim.

What the classifier is shown gives nothing away but the region: the aperture is blank in both pictures. With the full
picture's pixels in it a seam would give away even a perfect draw, for the product knows the aperture from the
collimated picture alone, whose contrast is another. Drawn pictures are compressed as the full ones of their pair are,
since the blocks of a JPEG tell too, and the blank reaches out to whole blocks. The aperture is that of `pairs.csv`:
how well it is found is another figure.

Texture and coherence are two questions, put to two classifiers: crops at the pictures' own resolution, at random places
of the hidden region, whose logits are averaged into one verdict on a region; and whole pictures, reduced until only
shapes are left. `both` adds up the two verdicts. Each region is judged by itself, without its counterpart.

The networks have learnt the training pairs, so that what they draw of those is better than what they draw of new
scenes; a classifier of such draws alone would miss the flaws of others. It is therefore cross-fitted: the scenes of
the validation split are cut into three, and each third is judged by a classifier that has seen the training split and,
more often than their number is worth, the two other thirds. Every validation region counts once a seed. A seed sets
the thirds, the classifiers' weights and their crops. Validation has chosen among the networks' states, but none of its
pictures taught them. The figures are a floor: more pictures or a larger classifier may tell more. With 40 pairs the
accuracy is known to some 5 %.

python -m benchmarks.plausibility PAIRS
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from scipy import ndimage
from torch.nn import functional as F

from benchmarks._classifier import SIDE, STEPS, Examples, judge, train_classifier
from inference.pixels import Cine, GreyMapping
from inference.reconstruct import Reconstructor
from training.pairs import Pair, aperture_mask, read_pairs

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stored = NDArray[np.uint8]

#: Seeds, and parts that the unseen scenes are cut into.
_SEEDS, _PARTS = (0, 1), 3
#: True pictures of a batch, as many drawn ones beside them, and the share of both that is of unseen scenes.
_BATCH, _UNSEEN_SHARE = 24, 1 / 3
#: Crops that make one verdict.
_CROPS = 24
#: Side of a JPEG's blocks.
_BLOCK = 8
_MAPPING = GreyMapping.full_range(bits_stored=8)


@dataclass(frozen=True, kw_only=True)
class Region:
    """A hidden region twice, as it is and as it was drawn.

    true, drawn: (h, w) grey in [-1, 1], 0 where `hidden` (h, w) is False; unseen: whether the networks that drew it
    have not learnt its scene.
    """

    true: Floats
    drawn: Floats
    hidden: Mask
    scene: str
    unseen: bool


#: So many pictures (n, 96, 96) of a region, true and drawn ones of the same places.
View = Callable[[Region, int, np.random.Generator], tuple[Floats, Floats]]


def main() -> None:
    """Print accuracy and AUROC by view."""
    if len(sys.argv) != 2:
        print("Usage: python -m benchmarks.plausibility PAIRS")
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))
    reconstructor = Reconstructor.load("fullfield", "cpu")
    pairs = read_pairs(Path(sys.argv[1]))
    regions = [
        region_of(pair, reconstructor, seed) for seed, pair in enumerate(track(pairs, "drawing", transient=True))
    ]
    views: dict[str, list[NDArray[np.float64]]] = {"texture": [], "coherence": [], "both": []}
    for seed in track(_SEEDS, "telling", transient=True):
        texture, coherence = verdicts(regions, texture_view, _CROPS, seed), verdicts(regions, whole_view, 1, seed)
        for name, told in (("texture", texture), ("coherence", coherence), ("both", texture + coherence)):
            views[name].append(told)
    unseen = [region for region in regions if region.unseen]
    scenes = len({region.scene for region in unseen})
    print(f"{len(unseen)} regions of {scenes} unseen scenes, mean of {len(_SEEDS)} seeds (spread); 50 % cannot tell")
    for name, by_seed in views.items():
        right, area = ([figure(told) for told in by_seed] for figure in (accuracy, auroc))
        print(
            f"{name:9}  accuracy {np.mean(right):.1%} ({np.std(right):.1%})  "
            f"AUROC {np.mean(area):.3f} ({np.std(area):.3f})"
        )


def region_of(pair: Pair, reconstructor: Reconstructor, seed: int) -> Region:
    """The pair's hidden region, and the product's draw of it with this seed."""
    full, collimated = _stored(pair.full), _stored(pair.collimated)
    aperture = aperture_mask(pair.aperture, full.shape)
    cine = Cine(stored=collimated[None], mapping=_MAPPING)
    made = reconstructor.reconstruct(cine, aperture[None], "pixels", mode="sample", seed=seed).stored[0]
    drawn = compressed_like(pair.full, np.where(aperture, full, made).astype(np.uint8))
    # Any pixel of a block lies within so much of any other one.
    hidden = ~ndimage.binary_dilation(aperture, np.ones((2 * _BLOCK - 1,) * 2, bool))
    return Region(
        true=np.where(hidden, _MAPPING.to_grey(full), 0),
        drawn=np.where(hidden, _MAPPING.to_grey(drawn), 0),
        hidden=hidden,
        scene=pair.scene,
        unseen=pair.split == "val",
    )


def compressed_like(path: Path, stored: Stored) -> Stored:
    """A picture (h, w) with the losses that the file at `path` has: a JPEG's, by its own tables, or none."""
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None)
    if tables is None:
        return stored
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG", qtables=tables)
    return np.asarray(Image.open(file))


def texture_view(region: Region, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Crops around random hidden pixels, moved into the picture where they reach out of it."""
    rows, columns = np.nonzero(region.hidden)
    chosen = rng.integers(len(rows), size=count)
    height, width = region.hidden.shape
    tops = (rows[chosen] - SIDE // 2).clip(0, height - SIDE)
    lefts = (columns[chosen] - SIDE // 2).clip(0, width - SIDE)
    places = [np.s_[top : top + SIDE, left : left + SIDE] for top, left in zip(tops, lefts, strict=True)]
    return np.stack([region.true[place] for place in places]), np.stack([region.drawn[place] for place in places])


def whole_view(region: Region, count: int, _: np.random.Generator) -> tuple[Floats, Floats]:
    """The whole picture, reduced; every time the same."""
    both = torch.from_numpy(np.stack([region.true, region.drawn]))[:, None]
    true, drawn = F.interpolate(both, (SIDE, SIDE), mode="bilinear", antialias=True)[:, 0].numpy()
    return np.stack([true] * count), np.stack([drawn] * count)


def verdicts(regions: Sequence[Region], view: View, looks: int, seed: int, steps: int = STEPS) -> NDArray[np.float64]:
    """What classifiers that have not seen its scene say of each unseen region: (n, 2), a logit for the true picture
    and one for the drawn one, above 0 for drawn; `looks` is from how many pictures."""
    rng = np.random.default_rng(seed)
    unseen = [region for region in regions if region.unseen]
    scenes = rng.permutation(sorted({region.scene for region in unseen}))
    told = np.zeros((len(unseen), 2))
    for part in range(_PARTS):
        left_out = set(scenes[part::_PARTS])
        others = [region for region in unseen if region.scene not in left_out]
        seen = [region for region in regions if not region.unseen]
        classifier = train_classifier(_examples(seen, others, view), seed, steps)
        for index, region in enumerate(unseen):
            if region.scene in left_out:
                told[index] = [judge(classifier, pictures) for pictures in view(region, looks, rng)]
    return told


def accuracy(told: NDArray[np.float64]) -> float:
    """Share of the verdicts (n, 2), of true and drawn ones, that are right."""
    true, drawn = told.T
    return float(np.mean([true <= 0, drawn > 0]))


def auroc(told: NDArray[np.float64]) -> float:
    """Probability that of a true and a drawn region, of any two scenes, the drawn one has the higher logit."""
    true, drawn = told.T
    return float((drawn[:, None] > true).mean() + 0.5 * (drawn[:, None] == true).mean())


def _examples(seen: Sequence[Region], unseen: Sequence[Region], view: View) -> Examples:
    def examples(rng: np.random.Generator) -> tuple[Floats, Floats]:
        groups = [unseen if not seen or rng.random() < _UNSEEN_SHARE else seen for _ in range(_BATCH)]
        shown = [view(group[int(rng.integers(len(group)))], 1, rng) for group in groups]
        return np.concatenate([true for true, _ in shown]), np.concatenate([drawn for _, drawn in shown])

    return examples


def _stored(path: Path) -> Stored:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


if __name__ == "__main__":
    main()
