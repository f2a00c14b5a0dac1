"""Checking a paired data set before hours are spent on it: what is in it, and every fault."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from config.errors import ConfigError
from training.pairs import Pair, aperture_mask, each_pair, read_picture, scenes_in_two_splits


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a check found: a sentence a line."""

    facts: list[str]
    #: Each of them makes a training or a score wrong, or impossible.
    faults: list[str]


def check_dataset(folder: Path) -> Findings:
    """Read every line of `pairs.csv` and every picture of it. Raises ConfigError when there is no such table."""
    read = list(each_pair(folder))
    pairs = [pair for pair in read if isinstance(pair, Pair)]
    faults = [str(fault) for fault in read if isinstance(fault, ConfigError)]
    table = folder / "pairs.csv"
    if not read:
        faults.append(f"{table}: no pairs")
    faults += [f"{table}: {fault}" for fault in scenes_in_two_splits(pairs)]
    faults += _twice(path for pair in pairs for path in (pair.full, pair.collimated))
    grey, console = _Grey(), Console(stderr=True)
    for pair in track(pairs, "Checking", console=console, transient=True, disable=not console.is_terminal):
        faults += grey.read(pair)
    return Findings(facts=[*_splits(pairs), *_unnamed(folder, pairs), *grey.told()], faults=faults)


class _Grey:
    """Grey levels of the pictures read so far."""

    def __init__(self) -> None:
        self._means = defaultdict[str, list[tuple[float, float]]](list)
        self._shares: list[float] = []
        self._sizes = Counter[str]()

    def read(self, pair: Pair) -> Iterator[str]:
        """Take in both pictures of a pair; gives what is wrong with them."""
        try:
            full, collimated = read_picture(pair.full), read_picture(pair.collimated)
        except ConfigError as error:
            yield str(error)
            return
        inside = aperture_mask(pair.aperture, (full.shape[0], full.shape[1]))
        if inside.all() or not inside.any():
            yield f"{pair.full}: the aperture leaves no pixel {'hidden' if inside.all() else 'open'}"
            return
        for path, picture in ((pair.full, full), (pair.collimated, collimated)):
            if picture.min() == picture.max():
                yield f"{path}: the same grey everywhere"
        self._sizes[f"{full.shape[1]}x{full.shape[0]}"] += 1
        self._shares.append(float(inside.mean()))
        parts = {
            "full field": full,
            "collimated, in the aperture": collimated[inside],
            "collimated, behind the blades": collimated[~inside],
        }
        for name, part in parts.items():
            self._means[name].append((float(part.mean()), float(part.std())))

    def told(self) -> Iterator[str]:
        """Sizes, apertures and grey levels, a line each."""
        if not self._shares:
            return
        yield "sizes: " + ", ".join(f"{count} of {size}" for size, count in self._sizes.most_common())
        yield f"apertures: {min(self._shares):.1%} to {max(self._shares):.1%} of the picture"
        for name, figures in self._means.items():
            mean, spread = np.mean(figures, axis=0)
            yield f"grey, {name}: mean {(mean + 1) * 127.5:.1f}, standard deviation {spread * 127.5:.1f} of 255"


def _splits(pairs: Sequence[Pair]) -> Iterator[str]:
    counts = Counter(pair.split for pair in pairs)
    for split, count in sorted(counts.items()):
        scenes = len({pair.scene for pair in pairs if pair.split == split})
        yield f"split {split or '(none)'}: {count} pairs of {scenes} scenes"


def _twice(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each file whose bytes an earlier one has already."""
    first: dict[bytes, Path] = {}
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        if (earlier := first.setdefault(digest, path)) != path:
            yield f"{path}: the same file as {earlier}"


def _unnamed(folder: Path, pairs: Sequence[Pair]) -> Iterator[str]:
    named = {path for pair in pairs for path in (pair.full, pair.collimated)}
    for kind in ("full", "collimated"):
        lying = {path for path in (folder / kind).glob("*") if path.is_file()}
        if lying - named:
            yield f"{kind}/: {len(lying - named)} files that no sound line of pairs.csv names"
