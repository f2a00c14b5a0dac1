"""`fullfield` as the harness starts it: on a disk that can lose power, with a clock that can jump, maybe mutated.

    python -m tests.harness.product MUTATION COMMAND...

MUTATION is ``none`` or one of `tests.harness.mutations`. Everything else is the product's own.
"""

import os
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from tests.harness import networks, power
from tests.harness.mutations import MUTATIONS

#: Environment variables: the folder in which harness and product find each other's files.
FOLDER = "HARNESS_FOLDER"

JOURNAL, CLOCK, ORDERS = "journal", "clock", "orders"


def main() -> None:
    """Be the product."""
    _, mutation, *arguments = sys.argv
    folder = Path(os.environ[FOLDER])
    power.keep_journal(folder / JOURNAL)
    sys.modules["inference.reconstruct"] = networks
    _let_the_clock_jump(folder / CLOCK)
    _have_workers_be_so_too(mutation)
    if mutation != "none":
        MUTATIONS[mutation].apply()
    from dicom_node.commands.main import main

    sys.argv = ["fullfield", *arguments]
    main()


def _let_the_clock_jump(file: Path) -> None:
    import storage.database

    seconds = time.time

    def ahead() -> float:
        return float(file.read_text()) if file.exists() else 0.0

    class JumpingClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(seconds=ahead())

    # Files are dated by the kernel, whose clock stays: they look as much older or newer, as after a real jump.
    time.time = lambda: seconds() + ahead()
    storage.database.datetime = JumpingClock  # type: ignore[attr-defined]
    assert storage.database.datetime.now(UTC)  # type: ignore[attr-defined]


def _have_workers_be_so_too(mutation: str) -> None:
    from dicom_node.commands import node
    from dicom_node.workflow import supervisor

    command = node.worker_command

    def mutated(settings: Path | None) -> list[str]:
        python, _, _, *rest = command(settings)
        return [python, "-m", "tests.harness.product", mutation, *rest]

    node.worker_command = mutated
    # Workers that the harness kills are no reason to rest.
    supervisor._LONGEST_WAIT = supervisor._FIRST_WAIT


if __name__ == "__main__":
    main()
