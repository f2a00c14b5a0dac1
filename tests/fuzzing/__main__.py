"""Talk nonsense to a running node, see how each conversation ends, and what the node is like afterwards.

    python -m tests.fuzzing --number 10000 --seed 7

Prints one line per mutation and a summary; ends with 1, and names seed and number of the conversation, when the node
dies, hangs, drops a peer without a word, has kept something unreadable, or grows by more than 1 % per thousand.
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.fuzzing.run import fuzz


def main(
    number: Annotated[int, typer.Option(help="Conversations.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 7,
    first: Annotated[int, typer.Option(help="Number of the first conversation, to repeat one.")] = 0,
) -> None:
    """Talk nonsense to a running node."""
    with tempfile.TemporaryDirectory(prefix="fullfield-fuzzing-") as folder:
        report = fuzz(Path(folder), number=number, seed=seed, first=first, say=print)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    typer.run(main)
