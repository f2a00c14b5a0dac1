"""Examples drawn ahead of training by all processors, for trainings on a GPU, which would wait for one processor.

A folder holds parts of some examples each, packed (fixed-point grey levels), and `examples.json`, which says from what
and how they were drawn. Any number of trainings learn from it, each example as often as chance has it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from config.errors import ConfigError
from inference.network import FRAME_SIDE
from training.examples import Batch, Examples
from training.pairs import Pair
from training.provenance import provenance
from training.settings import TrainingSettings

#: Examples in a file.
PART = 64
#: Grey levels [-1, 1] as whole numbers.
_WHITE = 32767
#: One packed example: full and collimated picture; the frames averaged at each pixel, 0 where measured; the fold.
_PACKED = np.dtype(
    [
        ("pictures", "<i2", (2, FRAME_SIDE, FRAME_SIDE)),
        ("frames", "u1", (FRAME_SIDE, FRAME_SIDE)),
        ("fold", "u1"),
    ]
)
_ABOUT = "examples.json"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A batch as it lies in the files; it is unpacked where it is learnt from.

    pictures: (n, 2, 256, 256) int16; frames: (n, 256, 256) uint8; fold: (n,) int64.
    """

    pictures: Tensor
    frames: Tensor
    fold: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch, unpacked on a device."""
        pictures = self.pictures.to(device).float() / _WHITE
        frames = self.frames.to(device).float()[:, None]
        return Batch(
            full=pictures[:, :1],
            collimated=pictures[:, 1:],
            aperture=(frames == 0).float(),
            frames=frames.clamp(min=1),
            fold=self.fold.to(device),
        )


class DrawnExamples:
    """Examples of a folder that `draw_ahead` filled; which ones a batch holds depends on seed and step alone."""

    def __init__(self, folder: Path, settings: TrainingSettings, leave_out: int | None = None) -> None:
        """settings: seed, and the shares of the kinds of examples; leave_out: the fold that no batch shows.

        Raises ConfigError for a folder without examples, and for one of other shares.
        """
        try:
            shares = json.loads((folder / _ABOUT).read_text())["shares"]
            parts = [np.load(file, mmap_mode="r") for file in sorted(folder.glob("part-*.npy"))]
            if not parts or any(part.dtype != _PACKED for part in parts):
                raise ValueError("parts are missing, or of another layout")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder}: not a folder of examples that `fullfield train draw` wrote") from error
        for name, share in _shares(settings).items():
            if shares.get(name) != share:
                raise ConfigError(
                    f"{folder}: drawn with {name} = {shares.get(name)}, but the training's is {share}; draw anew"
                )
        self._parts, self._seed = parts, settings.seed
        folds = np.stack([part["fold"] for part in parts])
        self._places = np.argwhere(folds != leave_out)
        if not len(self._places):
            raise ConfigError(f"{folder}: holds no example without fold {leave_out}; draw more")

    def batch(self, step: int, size: int) -> Packed:
        """The batch of training step `step`."""
        rng = np.random.default_rng([self._seed, step])
        chosen = self._places[rng.integers(len(self._places), size=size)]
        examples = [self._parts[part][row] for part, row in chosen]
        return Packed(
            pictures=torch.from_numpy(np.stack([example["pictures"] for example in examples])),
            frames=torch.from_numpy(np.stack([example["frames"] for example in examples])),
            fold=torch.tensor([int(example["fold"]) for example in examples]),
        )


def draw_ahead(
    pairs: Sequence[Pair],
    projections: Path | None,
    settings: TrainingSettings,
    out: Path,
    *,
    count: int,
) -> int:
    """Draw `count` examples, in whole parts, on all processors, into the new folder `out`; how many it holds.

    settings: seed and shares. The same settings and data give the same examples. Raises ConfigError for a folder that
    holds something already, and for data that cannot be used.
    """
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: holds something already; choose a new folder")
    out.mkdir(parents=True, exist_ok=True)
    parts = -(-count // PART)
    examples = Examples(pairs, projections, settings)
    processes = len(os.sched_getaffinity(0))
    batches = DataLoader(_Parts(examples, parts), batch_size=None, num_workers=processes)
    for number, batch in enumerate(track(batches, "Drawing examples", total=parts)):
        np.save(out / f"part-{number:05d}.npy", _packed(batch))
    # Last, since it makes the folder one of examples.
    about = {"shares": _shares(settings), "seed": settings.seed, "parts": parts, **provenance(pairs, projections)}
    (out / _ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    return parts * PART


def digest_of_drawn(folder: Path) -> str:
    """SHA-256 of what says how the examples of a folder were drawn, lower-case hexadecimal."""
    return hashlib.sha256((folder / _ABOUT).read_bytes()).hexdigest()


def _shares(settings: TrainingSettings) -> dict[str, float]:
    """How often each kind of example is drawn."""
    return settings.model_dump(include={"ct_share", "redrawn_share", "several_share"})


class _Parts(Dataset[Batch]):
    """Each part as one batch, drawn by whichever process is free."""

    def __init__(self, examples: Examples, parts: int) -> None:
        self._examples, self._parts = examples, parts

    def __len__(self) -> int:
        return self._parts

    def __getitem__(self, number: int) -> Batch:
        return self._examples.batch(number, PART)


def _packed(batch: Batch) -> NDArray[Any]:
    """(n,) of the packed kind."""
    packed = np.empty(len(batch.full), _PACKED)
    pictures = torch.cat([batch.full, batch.collimated], dim=1).clamp(-1, 1)
    packed["pictures"] = (pictures * _WHITE).round().numpy()
    packed["frames"] = torch.where(batch.aperture > 0, 0, batch.frames.round().clamp(min=1))[:, 0].numpy()
    packed["fold"] = batch.fold.numpy()
    return packed
