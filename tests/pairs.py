"""Paired data sets for the tests: smooth invented pictures, and the same with a collimator in.

write_pairs(tmp_path / "data", train=3, val=2)
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLUMNS = ("id", "aperture_left", "aperture_top", "aperture_right", "aperture_bottom", "scene", "split")
#: Left, top, right and bottom of the aperture of every pair, as fractions.
APERTURE = (0.25, 0.375, 0.75, 0.625)


def write_pairs(folder: Path, *, side: int = 128, train: int = 0, val: int = 0) -> Path:
    """Write a data set with so many pairs in each split, the first two of the training in a fold each.

    Inside the aperture both pictures of a pair are equal.
    """
    rows = []
    for number in range(train + val):
        full, collimated = draw_pair(side, seed=number)
        for kind, picture in (("full", full), ("collimated", collimated)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / kind / f"{number}.png")
        rows.append((number, *APERTURE, number * 4, "train" if number < train else "val"))
    write_table(folder, *rows)
    return folder


def write_table(folder: Path, *rows: tuple[Any, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    """Write `pairs.csv` with just these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "pairs.csv"
    with table.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([columns, *rows])
    return table


def draw_pair(side: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Full and collimated picture, (side, side) uint8; behind the blades a noisy shadow of the picture is left."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    field = 0.5 + 0.3 * np.sin(5 * x + seed) * np.cos(4 * y - seed)
    grey = field + noise.normal(0, 0.004, field.shape)
    shadow = 0.3 * field + noise.normal(0, 0.15, field.shape)
    left, top, right, bottom = (round(edge * side) for edge in APERTURE)
    shadow[top:bottom, left:right] = grey[top:bottom, left:right]
    full, collimated = (np.round(picture.clip(0, 1) * 255).astype(np.uint8) for picture in (grey, shadow))
    return full, collimated
