"""The command line that the benchmarks which train have in common."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.ablation.variants import Plan
from config.errors import ConfigError, FullfieldError
from training.loop import Material
from training.pairs import read_pairs
from training.perceptual import GenesisEncoder, load_encoder


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be trained, with what, and where the runs' files go."""

    material: Material
    plan: Plan
    seeds: range
    folder: Path
    genesis: GenesisEncoder | None


def trainings(name: str, description: str, work: Callable[[Order], str]) -> None:
    """Read the command line, do the work on one core, and print the table that it gives.

    Without arguments it says how it is called. A mistake ends the process with one sentence.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("pairs", type=Path, metavar="PAIRS", help="a paired data set with the splits train and val")
    parser.add_argument("views", type=Path, metavar="VIEWS", help="CT views of `fullfield train project`")
    parser.add_argument("-o", type=Path, required=True, dest="folder", metavar="FOLDER", help="of the runs' files")
    parser.add_argument("--minutes", type=float, default=5, help="of one core, for each variant and seed")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--genesis", type=Path, metavar="FILE", help="weights of Models Genesis, for LPIPS")
    if len(sys.argv) == 1:
        parser.print_usage()
        return
    given = parser.parse_args()
    if given.minutes <= 0 or given.seeds < 1:
        parser.error("--minutes is more than 0, --seeds at least 1")
    # The budget is counted on the processor; a GPU would escape it.
    os.environ["ACCELERATE_USE_CPU"] = "true"
    torch.set_num_threads(1)
    try:
        print(work(_order(given)))
    except FullfieldError as error:
        sys.exit(str(error))


def _order(given: argparse.Namespace) -> Order:
    if not given.views.is_file():
        raise ConfigError(f"{given.views}: not found; `fullfield train project` makes it")
    return Order(
        material=Material(
            training=read_pairs(given.pairs, "train"),
            validation=read_pairs(given.pairs, "val"),
            projections=given.views,
        ),
        plan=Plan(minutes=given.minutes),
        seeds=range(1, given.seeds + 1),
        folder=given.folder,
        genesis=None if given.genesis is None else load_encoder(given.genesis),
    )
