"""Strike a whole node again and again, and see that it keeps its promises.

    python -m tests.harness --number 40 --seed 7 --database sqlite

Prints a line a step and a summary. Ends with 1, and names seed and step, when something acknowledged is lost, sent
twice, stuck, orphaned or missing from the audit trail; with 130 when it was broken off by Ctrl-C.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from tests.harness.mutations import MUTATIONS
from tests.harness.run import run


def main(
    number: Annotated[int, typer.Option(help="Faults.")] = 40,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 7,
    database: Annotated[Literal["sqlite", "postgresql"], typer.Option(help="Which.")] = "sqlite",
    first: Annotated[int, typer.Option(help="Number of the first step, to repeat one.")] = 0,
    fault: Annotated[
        str | None, typer.Option(help="Strike with this one: 'kill store.renamed 2', 'power store.kept 1', 'frozen'.")
    ] = None,
    mutation: Annotated[str, typer.Option(help="Make this mistake, or none: " + ", ".join(MUTATIONS))] = "none",
) -> None:
    """Strike a whole node again and again."""
    folder = Path(tempfile.mkdtemp(prefix="fullfield-faults-"))
    report = run(
        folder,
        number=number,
        seed=seed,
        first=first,
        database=database,
        mutation=mutation,
        fault=fault,
        say=lambda line: print(line, flush=True),
    )
    if report.violations:
        print(f"Logs, what was sent and what was kept lie in {folder}.")
        sys.exit(1)
    if report.is_partial:
        sys.exit(130)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
