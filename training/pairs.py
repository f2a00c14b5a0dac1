"""Paired data sets: the same view with and without collimation, and the aperture between them.

A paired data set is a folder with `full/` and `collimated/` (same file names, PNG or JPEG) and `pairs.csv` with
the columns `id, aperture_left, aperture_top, aperture_right, aperture_bottom` (fractions of width and height),
and optionally `scene` and `split`.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from config.errors import ConfigError
from inference.network import FRAME_SIDE

_COLUMNS = ("id", "aperture_left", "aperture_top", "aperture_right", "aperture_bottom")
_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One view, twice: with the full field and with the collimator in."""

    id: str
    full: Path
    collimated: Path
    #: Left, top, right and bottom edge of the aperture, as fractions of width and height.
    aperture: tuple[float, float, float, float]
    #: Pairs of nearly the same view share a scene; split by scene, never by picture.
    scene: str
    #: `train`, `val`, or empty where the data set does not say.
    split: str


def read_pairs(folder: Path, split: str | None = None) -> list[Pair]:
    """Read `pairs.csv` and find the pictures it names; `split` keeps only that part.

    Raises ConfigError for the first line with a fault; the pictures' pixels are only read by `read_picture`.
    """
    table = folder / "pairs.csv"
    pairs = []
    for pair in each_pair(folder):
        if isinstance(pair, ConfigError):
            raise pair
        pairs.append(pair)
    chosen = [pair for pair in pairs if split is None or pair.split == split]
    if not chosen:
        raise ConfigError(f"{table}: no pairs" + (f" in split {split}" if split else ""))
    return chosen


def each_pair(folder: Path) -> Iterator[Pair | ConfigError]:
    """What each line of `pairs.csv` names, or what is wrong with it. Raises ConfigError when it is no such table."""
    table = folder / "pairs.csv"
    if not table.is_file():
        raise ConfigError(f"{table}: not found; a paired data set has full/, collimated/ and pairs.csv")
    seen: set[str] = set()
    try:
        # Spreadsheets begin a file with a byte order mark, which is no part of the first column's name.
        with table.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{table}: column {missing[0]} is missing")
            for row in reader:
                try:
                    pair = _pair(folder, table, reader.line_num, row)
                    if pair.id in seen:
                        raise ConfigError(f"{table}: id {pair.id} stands in more than one line")
                except ConfigError as error:
                    yield error
                else:
                    seen.add(pair.id)
                    yield pair
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigError(f"{table}: not a table of comma-separated values in UTF-8") from error


def scenes_in_two_splits(pairs: Sequence[Pair]) -> list[str]:
    """A sentence for each scene that has pairs in more than one split, which a score would reward knowing by heart."""
    splits = defaultdict[str, set[str]](set)
    for pair in pairs:
        splits[pair.scene].add(pair.split)
    return [
        f"scene {scene} stands in the splits {' and '.join(sorted(its))}; split by scene"
        for scene, its in splits.items()
        if len(its) > 1
    ]


def read_picture(path: Path, side: int | None = None) -> NDArray[np.float32]:
    """Read a grey picture as (h, w) float32 in [-1, 1]; `side` reduces it to a square (PIL bilinear)."""
    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(("I", "F"))
            grey = image.convert("L")
            if side is not None:
                grey = grey.resize((side, side), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: not a readable PNG or JPEG picture") from error
    if deep:
        raise ConfigError(f"{path}: a picture of more than 8 bits; pictures of 8 bits are read")
    return np.asarray(grey, dtype=np.float32) / 127.5 - 1


def aperture_mask(aperture: tuple[float, float, float, float], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The aperture as (h, w) bool, True = measured; a pixel is in when its centre is."""
    left, top, right, bottom = aperture
    rows = (np.arange(shape[0]) + 0.5) / shape[0]
    columns = (np.arange(shape[1]) + 0.5) / shape[1]
    inside: NDArray[np.bool_] = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))[
        None
    ]
    return inside


def _pair(folder: Path, table: Path, number: int, row: dict[str, str]) -> Pair:
    if not row["id"]:
        raise ConfigError(f"{table}, line {number}: the id is missing")
    try:
        left, top, right, bottom = (float(row[name]) for name in _COLUMNS[1:])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{table}, line {number}: the aperture's edges must be numbers") from error
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ConfigError(f"{table}, line {number}: the aperture's edges must be fractions, left < right, top < bottom")
    mask = aperture_mask((left, top, right, bottom), (FRAME_SIDE, FRAME_SIDE))
    if mask.all() or not mask.any():
        raise ConfigError(f"{table}, line {number}: the aperture leaves no pixel {'hidden' if mask.all() else 'open'}")
    full, collimated = (_picture(folder / kind, row["id"]) for kind in ("full", "collimated"))
    sizes = [_size(path) for path in (full, collimated)]
    if sizes[0] != sizes[1]:
        (w, h), (width, height) = sizes
        raise ConfigError(f"{table}, line {number}: the full picture is {w}x{h}, the collimated one {width}x{height}")
    return Pair(
        id=row["id"],
        full=full,
        collimated=collimated,
        aperture=(left, top, right, bottom),
        scene=row.get("scene") or row["id"],
        split=row.get("split") or "",
    )


def _picture(folder: Path, name: str) -> Path:
    for suffix in _SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise ConfigError(f"{folder / name}: no PNG or JPEG picture of this name")


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the file's header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: not a readable PNG or JPEG picture") from error
