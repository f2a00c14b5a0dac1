"""What more pairs bring: the prior trained on a quarter, half and all of the training scenes, for the same minutes.

The smaller parts lie within the larger ones, by scene, and are others for each seed. CT views are the same for all. In
the folder of an ablation the runs on all scenes are the ablation's.

python -m benchmarks.ablation.learning_curve PAIRS VIEWS -o FOLDER [--minutes 5] [--seeds 2] [--genesis FILE]
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks.ablation.runs import Run, run
from benchmarks.ablation.table import FIGURES, cells, steps, table
from benchmarks.ablation.trainings import Order, trainings
from training.pairs import Pair

_VARIANT = "regression-alone"
#: Percent of the training scenes.
_SHARES = (25, 50, 100)


def main() -> None:
    """Train what is not trained yet, and print the table."""
    trainings("ablation.learning_curve", "Train the prior on more and more scenes.", learning_curve)


def learning_curve(order: Order) -> str:
    """All runs, and their table."""
    runs: dict[int, list[Run]] = {share: [] for share in _SHARES}
    for seed in order.seeds:
        for share, of_share in runs.items():
            material = replace(order.material, training=part_of(order.material.training, share, seed))
            name = _VARIANT if share == 100 else f"{_VARIANT}-{share}"
            of_share.append(run(name, _VARIANT, material, order.plan, seed, order.folder, order.genesis))
    rows = [
        [
            f"{share} %",
            _counts(of_share, "scenes"),
            _counts(of_share, "pairs"),
            *cells(of_share, "mean"),
            steps(of_share),
        ]
        for share, of_share in runs.items()
    ]
    return table(["training scenes", "scenes", "pairs", *FIGURES, "steps"], rows)


def part_of(pairs: Sequence[Pair], share: int, seed: int) -> list[Pair]:
    """The pairs of so many percent of the scenes, in their order; a larger share holds all of a smaller one."""
    scenes = np.random.default_rng(seed).permutation(sorted({pair.scene for pair in pairs}))
    chosen = set(scenes[: math.ceil(len(scenes) * share / 100)])
    return [pair for pair in pairs if pair.scene in chosen]


def _counts(runs: Sequence[Run], of: str) -> str:
    return ", ".join(dict.fromkeys(str(run["run"]["training"][of]) for run in runs))


if __name__ == "__main__":
    main()
