"""Where weights come from: the data, by digest, the code, and the software that it ran on."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.pairs import Pair

_ROOT = Path(__file__).parents[1]


def provenance(pairs: Sequence[Pair], projections: Path | None) -> dict[str, Any]:
    """SHA-256 of each data set's `pairs.csv`, by the name of its folder, and of the projections; commit; versions."""
    folders = sorted({pair.full.parents[1] for pair in pairs})
    return {
        "data": {
            "pairs": {folder.resolve().name: _sha256(folder / "pairs.csv") for folder in folders},
            "projections": _sha256(projections) if projections is not None else None,
        },
        "commit": commit(),
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("fullfield", "torch", "accelerate", "numpy")},
        },
    }


def commit() -> str:
    """The commit of the checkout that this code runs from, else the version of the installed package."""
    if (_ROOT / ".git").exists():
        words = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass  # no git on this machine: the version has to do
    return version("fullfield")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
