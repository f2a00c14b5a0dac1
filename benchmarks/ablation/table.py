"""Tables in Markdown: the mean over seeds, and in brackets each seed's figure."""

from collections.abc import Sequence

import numpy as np

from benchmarks.ablation.runs import Run

#: Heads of the figures, with their name and digits.
FIGURES = {"MSE": ("mse", 4), "SSIM": ("ssim", 3), "LPIPS": ("lpips", 4), "spectrum": ("spectrum", 3)}


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Heads, then rows, each of as many cells."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows))


def cells(runs: Sequence[Run], mode: str) -> list[str]:
    """The figures of one mode of a variant in all its runs, a cell for each of FIGURES."""
    return [cell([run["figures"][mode][name] for run in runs], digits) for name, digits in FIGURES.values()]


def cell(values: Sequence[float | None], digits: int) -> str:
    """`mean (first, second)`; null where a figure was not measured."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "null"
    return f"{np.mean(known):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in known)})"


def steps(runs: Sequence[Run]) -> str:
    """How far each run came, network by network: `310 + 240, 305 + 250`."""
    return ", ".join(" + ".join(str(network["steps"]) for network in run["networks"]) for run in runs)
