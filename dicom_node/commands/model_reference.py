"""The reference page of the shipped model, made from what its runs and its evaluation wrote down.

`model.json` tells how each network was trained; `evaluation.json` is what `fullfield evaluate ... --split val --json`
printed of the same weights. Neither is written by hand.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.weights import MODELS, digest_of

PROFILE = "fullfield"

_INTRODUCTION = """
What the files in [inference/models/fullfield](../../inference/models/fullfield) are, and what was measured of them. The
[model card](../model-card.md) says in words what they are for and what to mind.
"""

_MEASURED = """
`fullfield evaluate DIR --split val --json` on {count} validation pairs, whose scenes no training saw; it printed
[evaluation.json](../../inference/models/fullfield/evaluation.json). What the names mean is told in
[evaluate.py](../../training/evaluate.py). Validation chose which step's weights were kept, and the intervals were
calibrated on these scenes too; `python -m benchmarks.calibration` tells their coverage on scenes that calibration did
not see ([decision 18](../decisions/0018-intervals-are-calibrated-on-held-out-scenes.md)).
"""

_OTHER_WEIGHTS = "**These figures are those of other weights.** Evaluate again."


def model_page(folder: Path = MODELS / PROFILE) -> str:
    """Files, training and figures of the profile."""
    card = json.loads((folder / "model.json").read_text())
    parts = ["# Model", "<!-- Made from the model's own files by `make docs`: what is changed here is lost. -->"]
    parts += [f"Profile `{PROFILE}`, version {card['version']}.", _INTRODUCTION.strip()]
    parts += ["## Files", _table(("file", "megabytes", "SHA-256"), _files(folder, card))]
    parts += ["## Training", *_training(card["training"])]
    evaluation = folder / "evaluation.json"
    if evaluation.is_file():
        figures = json.loads(evaluation.read_text())
        parts += ["## Figures", _MEASURED.strip().format(count=figures["count"])]
        if figures.get("model", {}).get("digest") != digest_of(PROFILE, folder.parent):
            parts.append(_OTHER_WEIGHTS)
        parts += [_table(("figure", "`mean`", "`sample`"), _by_mode(figures)), _table(("figure", ""), _single(figures))]
    return "\n\n".join(parts) + "\n"


def _files(folder: Path, card: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, digest in card["sha256"].items():
        yield name, f"{(folder / name).stat().st_size / 1e6:.1f}", f"`{digest}`"


def _training(training: Mapping[str, Any]) -> Iterator[str]:
    runs = {name: run for name, run in training.items() if isinstance(run, dict) and "settings" in run}
    head = ("run", "steps", "batch", "learning rate", "began with", "least validation error", "minutes")
    yield _table(head, (_run(name, run) for name, run in runs.items()))
    yield "\n".join(f"- {name}: `{json.dumps(told)}`" for name, told in training.items() if name not in runs)


def _run(name: str, run: Mapping[str, Any]) -> tuple[str, ...]:
    settings = run["settings"]
    return (
        name,
        f"{run.get('steps', settings['steps'])} of {settings['steps']}",
        str(settings["batch"]),
        f"{settings['learning_rate']:g}",
        f"`{settings['start'][:12]}`" if settings.get("start") else "random weights",
        f"{run['validation']:.4f}",
        f"{run['seconds'] / 60:.0f}",
    )


def _by_mode(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    def row(name: str, values: Mapping[str, Any], digits: int) -> tuple[str, ...]:
        return name, *(f"{values[mode]:.{digits}f}" for mode in ("mean", "sample"))

    for name in ("mse", "ssim"):
        values = {mode: figures["thesis"][mode][name]["mean"] for mode in ("mean", "sample")}
        yield row(f"thesis protocol, {name.upper()}", values, 4)
    for name, digits in (("mse", 4), ("ssim", 3), ("psnr", 2)):
        values = {mode: figures["generated"][mode][name] for mode in ("mean", "sample")}
        yield row(f"hidden pixels, {name.upper()}", values, digits)
    yield row("spectrum distance", figures["spectrum"], 3)
    yield row("seconds a frame", figures["seconds_per_frame"], 2)


def _single(figures: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for key, value in figures.items():
        if isinstance(value, float):
            yield f"`{key}`", f"{value:.3f}"
        elif isinstance(value, list) and all(isinstance(part, float) for part in value):
            yield f"`{key}`", ", ".join(f"{part:.3f}" for part in value)
        elif (
            isinstance(value, dict)
            and ("min" in value or not {"mean", "sample"} & set(value))
            and all(isinstance(part, float) for part in value.values())
        ):
            yield f"`{key}`", ", ".join(f"{name} {part:.3f}" for name, part in value.items())


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
