"""What VAE and Palette each bring, trained for the same minutes of one core, on the same examples, from each seed.

Palette alone, VAE + Palette as in the thesis, regression alone, and VAE prior + residual Palette, with narrow networks
on 256x256 pictures. All learn from pairs, redrawn objects and CT views as they do for the profile `fullfield`, and are
scored on the validation pairs by the thesis's protocol, with the last weights. A run that is finished is not trained
again.

python -m benchmarks.ablation PAIRS VIEWS -o FOLDER [--minutes 5] [--seeds 2] [--genesis FILE]
"""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.ablation.runs import Run, run
from benchmarks.ablation.table import FIGURES, cells, steps, table
from benchmarks.ablation.trainings import Order, trainings
from benchmarks.ablation.variants import VARIANTS
from training.perceptual import WITHOUT_WEIGHTS

#: Heads of the variants.
TITLES = {
    "palette-alone": "Palette alone",
    "vae-and-palette": "VAE + Palette, as in the thesis",
    "regression-alone": "regression alone",
    "prior-and-residual-palette": "VAE prior + residual Palette",
}
#: What the VAE changes in the thesis, as shares of Palette alone.
CLAIMS = {"MSE": -0.30, "SSIM": 0.045, "LPIPS": -0.62}


def main() -> None:
    """Train what is not trained yet, and print the table."""
    trainings("ablation", "Train and score the variants of the ablation.", ablation)


def ablation(order: Order) -> str:
    """All runs, seed by seed; the table and what it says of both claims."""
    runs: dict[str, list[Run]] = {variant: [] for variant in VARIANTS}
    for seed in order.seeds:
        for variant, of_variant in runs.items():
            made = run(variant, variant, order.material, order.plan, seed, order.folder, order.genesis)
            of_variant.append(made)
    rows = [
        [TITLES[variant], mode, *cells(of_variant, mode), steps(of_variant)]
        for variant, of_variant in runs.items()
        for mode in of_variant[0]["figures"]
    ]
    told = [table(["variant", "mode", *FIGURES, "steps"], rows), "", *_claims(runs)]
    if order.genesis is None:
        told.append(f"{WITHOUT_WEIGHTS}.")
    return "\n".join(told)


def _claims(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Each change against Palette alone, seed by seed, beside the thesis's."""
    heads = [f"{name} (thesis: {claim:+.1%})" for name, claim in CLAIMS.items()]
    rows = []
    for variant, mode in (
        ("vae-and-palette", "sample"),
        ("prior-and-residual-palette", "sample"),
        ("prior-and-residual-palette", "mean"),
        ("regression-alone", "mean"),
    ):
        changes = [_changes(runs["palette-alone"], runs[variant], mode, FIGURES[name][0]) for name in CLAIMS]
        rows.append([TITLES[variant], mode, *changes])
    return [table(["against Palette alone", "mode", *heads], rows), ""]


def _changes(before: Sequence[Run], after: Sequence[Run], mode: str, figure: str) -> str:
    """The change of the means over seeds, and in brackets that from each seed."""
    old = [run["figures"]["sample"][figure] for run in before]
    new = [run["figures"][mode][figure] for run in after]
    if None in old or None in new:
        return "null"
    each = ", ".join(f"{b / a - 1:+.1%}" for a, b in zip(old, new, strict=True))
    return f"{np.mean(new) / np.mean(old) - 1:+.1%} ({each})"


if __name__ == "__main__":
    main()
