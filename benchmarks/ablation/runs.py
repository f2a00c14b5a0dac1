"""Runs of variants, a JSON file each: a finished one is not trained again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ablation.figures import figures
from benchmarks.ablation.variants import VARIANTS, Plan
from config.errors import ConfigError
from training.loop import Material
from training.pairs import Pair
from training.perceptual import GenesisEncoder
from training.provenance import provenance

#: What a run's file says.
Run = dict[str, Any]


def run(
    name: str, variant: str, material: Material, plan: Plan, seed: int, folder: Path, genesis: GenesisEncoder | None
) -> Run:
    """Train and score a variant, or read what an earlier call left in `NAME-seed-SEED.json`.

    Raises ConfigError where that is a run of another budget, other networks or other data.
    """
    origin = provenance(material.training, material.projections)
    kept: Run = {
        "variant": variant,
        "seed": seed,
        "minutes": plan.minutes,
        "channels": list(plan.channels),
        "thesis_channels": list(plan.thesis_channels),
        "batch": plan.batch,
        "training": _size_of(material.training),
        "validation": _size_of(material.validation),
        "lpips": genesis is not None,
        "data": origin.pop("data"),
    }
    file = folder / f"{name}-seed-{seed}.json"
    if file.is_file():
        earlier: Run = json.loads(file.read_text())
        if earlier["run"] != kept:
            raise ConfigError(f"{file}: holds a run of another budget or other data; choose another folder")
        return earlier
    learnt = VARIANTS[variant](material, plan, seed)
    made: Run = {
        "run": kept,
        "networks": [network.told() for network in learnt.networks],
        "figures": {mode: figures(material.validation, answer, genesis) for mode, answer in learnt.answers.items()},
        "provenance": origin,
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".json.part")
    part.write_text(json.dumps(made, indent=1))
    part.replace(file)
    for mode, told in made["figures"].items():
        print(f"{file.stem}, {mode}: MSE {told['mse']:.4f}, SSIM {told['ssim']:.3f}", flush=True)
    return made


def _size_of(pairs: Sequence[Pair]) -> dict[str, int]:
    """How many pairs of how many scenes; which ones they are follows from the data and the seed."""
    return {"pairs": len(pairs), "scenes": len({pair.scene for pair in pairs})}
