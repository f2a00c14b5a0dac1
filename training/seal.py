"""Sealing: the networks of a folder become a profile, with a card that says what they were made from."""

import json
from collections.abc import Sequence
from pathlib import Path

from config.errors import ConfigError
from inference.weights import write_card
from training.distil import DISTILLED
from training.pairs import Pair
from training.provenance import provenance
from training.teacher import TEACHERS

#: In the order in which they are trained; the first, the second and the last are part of the profile.
RUNS = ("aperture", *TEACHERS, DISTILLED)


def seal(folder: Path, version: str, pairs: Sequence[Pair], projections: Path | None) -> None:
    """Write `model.json` beside the calibrated networks: version, digests, and how they were trained.

    pairs, projections: what calibration saw. Raises ConfigError when a network has not been trained.
    """
    require_runs(folder, RUNS)
    write_card(
        folder, version, {**{name: _told(folder / f"{name}.json") for name in RUNS}, **provenance(pairs, projections)}
    )


def require_runs(folder: Path, names: Sequence[str]) -> None:
    """Raise ConfigError for the first of the networks that has not been trained in this folder."""
    for name in names:
        if not (folder / f"{name}.json").is_file() or not (folder / f"{name}.safetensors").is_file():
            network, _, fold = name.partition("-without-")
            command = f"fullfield train {network}" + (f" --leave-out {fold}" if fold else "")
            raise ConfigError(f"{folder}: holds no run of {name}; first run `{command} -o {folder}`")


def _told(file: Path) -> dict[str, object]:
    """What the card says of a run; a run of an earlier version does not know its provenance."""
    run = json.loads(file.read_text())
    history = run["history"]
    return {
        "settings": run["settings"],
        "start": run["settings"]["start"],
        "steps": history[-1]["step"],
        "validation": min(row["validation"] for row in history),
        "seconds": history[-1]["seconds"],
        "provenance": run.get("provenance"),
    }
