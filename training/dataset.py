"""Making a paired data set from a CT: projections as a C-arm sees them, exposed openly and through the collimator.

The views lie in cells of the C-arm's two angles, and stay away from the cells' borders. A cell is a scene: two views of
one scene look alike, two of different scenes never do, and each scene goes into one split as a whole.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from config.errors import ConfigError
from training.blades import Rectangle, random_aperture
from training.collimate import Exposure, random_exposure, simulate_pair
from training.devices import add_devices
from training.modality import Modality, random_modality
from training.project import View, load_volume, project, random_view

#: Degrees of primary and secondary angle that a scene spans, and that lie at least between two scenes.
SCENE_SPAN, SCENE_GAP = 10.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """All that the simulator was told about one pair."""

    view: View
    aperture: Rectangle
    exposure: Exposure
    modality: Modality
    scene: str


def make_dataset(
    ct: Path, out: Path, *, count: int, size: int = 512, seed: int = 0, splits: Mapping[str, float] | None = None
) -> Counter[str]:
    """Write `count` pairs of `size` x `size` pixels to the new folder `out`; how many pairs are in each split.

    splits: the share of the pairs that each split is to have, about, since scenes are not divided.
    Beside `full/`, `collimated/` and `pairs.csv` it writes `parameters.json`, the simulator's parameters by id; the
    same CT, seed and version give the same pictures. Raises ConfigError for a CT that cannot be read, for a folder
    that holds something already, and for fewer scenes than splits.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: holds something already; choose a new folder")
    subject = load_volume(ct)
    chosen = [_parameters(np.random.default_rng([seed, number, 0]), size) for number in range(count)]
    split_of = _split_scenes([one.scene for one in chosen], splits or {"train": 0.85, "val": 0.15}, seed)
    for kind in ("full", "collimated"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(track(chosen, "Making pairs")):
        rng = np.random.default_rng([seed, number, 1])
        field = add_devices(project(subject, one.view, size), rng)
        pictures = simulate_pair(field, one.aperture, one.exposure, one.modality, rng)
        for kind, picture in zip(("full", "collimated"), pictures, strict=True):
            Image.fromarray(_grey(picture)).save(out / kind / f"{_id(number)}.png")
    _write_parameters(out / "parameters.json", ct, seed, size, chosen)
    # Last, since it makes the folder a data set.
    _write_table(out / "pairs.csv", chosen, split_of, size)
    return Counter(split_of[one.scene] for one in chosen)


def scene_of(view: View) -> str | None:
    """The scene of a view, or None where it lies too near to the next one."""
    cells = []
    for angle in (view.primary_angle, view.secondary_angle):
        cell, within = divmod(angle, SCENE_SPAN)
        if not SCENE_GAP / 2 <= within <= SCENE_SPAN - SCENE_GAP / 2:
            return None
        cells.append(f"{cell * SCENE_SPAN:+.0f}")
    return "/".join(cells)


def _parameters(rng: np.random.Generator, size: int) -> Parameters:
    view = random_view(rng)
    while (scene := scene_of(view)) is None:
        view = random_view(rng)
    aperture = random_aperture((size, size), rng)
    # The table of a data set can only tell of upright rectangles.
    while not isinstance(aperture, Rectangle):
        aperture = random_aperture((size, size), rng)
    exposure = random_exposure(rng)
    modality = random_modality(exposure.quanta, rng)
    return Parameters(view=view, aperture=aperture, exposure=exposure, modality=modality, scene=scene)


def _split_scenes(scenes: Iterable[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each scene: one for each split, then, in a random order, to the split that lacks most pairs."""
    sizes = Counter(scenes)
    if len(sizes) < len(shares):
        raise ConfigError(f"the pairs are of {len(sizes)} scenes, too few for {len(shares)} splits; make more pairs")
    each = sum(sizes.values()) / sum(shares.values())
    lacking = {split: share * each for split, share in shares.items()}
    empty = list(shares)
    split_of = {}
    for scene in np.random.default_rng(seed).permutation(sorted(sizes)).tolist():
        split = empty.pop() if empty else max(lacking, key=lambda split: lacking[split])
        split_of[scene] = split
        lacking[split] -= sizes[scene]
    return split_of


def _id(number: int) -> str:
    return f"{number:05d}"


def _grey(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint((picture + 1) * 127.5).clip(0, 255), dtype=np.uint8)


def _write_table(path: Path, chosen: Iterable[Parameters], split_of: Mapping[str, str], size: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines)
        edges = ("left", "top", "right", "bottom")
        table.writerow(["id", *(f"aperture_{edge}" for edge in edges), "scene", "split"])
        for number, one in enumerate(chosen):
            fractions = [getattr(one.aperture, edge) / size for edge in edges]
            table.writerow([_id(number), *fractions, one.scene, split_of[one.scene]])


def _write_parameters(path: Path, ct: Path, seed: int, size: int, chosen: Iterable[Parameters]) -> None:
    content = {
        "fullfield": version("fullfield"),
        # Its digest alone: the name of a CT may be a patient's.
        "ct_sha256": hashlib.sha256(ct.read_bytes()).hexdigest(),
        "seed": seed,
        "size": size,
        "pairs": {_id(number): _told(one) for number, one in enumerate(chosen)},
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _told(one: Parameters) -> dict[str, Any]:
    return {**asdict(one), "modality": {"kind": type(one.modality).__name__, **asdict(one.modality)}}
