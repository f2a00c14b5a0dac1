"""A weekend without PACS, compressed in time: the node's clock goes on by an hour at a time, and modalities send on.

    python -m tests.harness.outage --hours 48 --seed 7

What was sent is reconstructed, reaches the destination that is there, and waits for the PACS; when that is back,
everything reaches it once. Prints a line an hour and a summary; ends with 1 when a promise was broken, as
`python -m tests.harness` does. On SQLite, whose clock is the node's own; that of PostgreSQL is the server's.
"""

import random
import shutil
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select

from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState
from tests.harness.checks import Judge
from tests.harness.place import Place, place
from tests.harness.run import PATIENCE, Patience, Say
from tests.harness.senders import Ward
from tests.harness.violations import Violation
from tests.nodes import LONG
from tests.peers import wait_until

_HOUR = 3600.0


@dataclass(kw_only=True)
class Outage:
    """What became of it."""

    acknowledged: int = 0
    #: Deliveries that waited for the PACS when it came back.
    waited: int = 0
    #: Failed tries that are told of.
    tries: int = 0
    #: Seconds from when the PACS was back until all had reached it.
    drained_in: float = 0.0
    violations: list[Violation] = field(default_factory=list)


def outage(folder: Path, *, hours: int, every: int = 1, seed: int, say: Say = lambda _: None) -> Outage:
    """Keep the PACS away for so many hours of the node's clock, while modalities send once in `every` of them."""
    ward, became = Ward(folder / "sent", seed), Outage()
    with place(folder, database="sqlite", mutation="none") as here:
        judge = Judge(here)
        here.pacs.kill()
        for hour in range(every, hours + 1, every):
            here.node.turn_the_clock(hour * _HOUR)
            became.violations += _work(here, judge, ward, hour, seed)
            say(f"hour {hour}: {_waiting(here)} deliveries wait for the PACS")
        became.waited = _waiting(here)
        became.tries = here.node.told("delivery_postponed")
        here.pacs.recover()
        begun = time.monotonic()
        patient = Patience(judge.steps_told, PATIENCE)
        while (why := judge.why_unsettled()) is not None and not patient.is_over():
            time.sleep(0.1)
        became.drained_in = time.monotonic() - begun
        if why is not None:
            became.violations.append(Violation("stuck", why))
        became.violations += [*judge.violations(), *judge.look_at_everything_again(), *judge.is_swept()]
        became.acknowledged = len(judge.acknowledged)
        judge.close()
    return became


def _work(here: Place, judge: Judge, ward: Ward, hour: int, seed: int) -> list[Violation]:
    """Have modalities send, and wait until only the PACS lacks what has come of it."""
    senders = ward.visit(hour, here, random.Random(f"{seed}/{hour}")).senders
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(LONG)
    stuck = [Violation("stuck", f"{sender.name} is not rid of its objects") for sender in senders if sender.left]
    for sender in senders:
        sender.give_up()
        judge.acknowledge(sender.acknowledged)
    try:
        wait_until(lambda: _waits_for_the_pacs_alone(here), what="all but the PACS", seconds=LONG)
    except TimeoutError as error:
        stuck.append(Violation("stuck", str(error)))
    return stuck


def _waits_for_the_pacs_alone(here: Place) -> bool:
    """Whether each original has a job, each job is made, and each of its results at the other destinations."""
    without_job = select(func.count()).where(StoredObject.kind == ObjectKind.ORIGINAL, StoredObject.job_id.is_(None))
    unmade = select(func.count()).where(Job.state != JobState.DELIVERING)
    unsent = select(func.count()).where(Delivery.destination != "pacs", Delivery.state != DeliveryState.ACKNOWLEDGED)
    with closing(here.node.database()) as database, database.reading() as tx:
        return not any(tx.scalars(query).one() for query in (without_job, unmade, unsent))


def _waiting(here: Place) -> int:
    with closing(here.node.database()) as database, database.reading() as tx:
        waits = Delivery.state != DeliveryState.ACKNOWLEDGED
        return tx.scalars(select(func.count()).where(Delivery.destination == "pacs", waits)).one()


def main(
    hours: Annotated[int, typer.Option(help="Without PACS, by the node's clock.")] = 48,
    seed: Annotated[int, typer.Option(help="Of what is sent.")] = 7,
) -> None:
    """Keep the PACS away from a node for days."""
    folder = Path(tempfile.mkdtemp(prefix="fullfield-outage-"))
    became = outage(folder, hours=hours, seed=seed, say=lambda line: print(line, flush=True))
    for violation in became.violations:
        print(f"FAULT: {violation.kind}: {violation.sentence}")
    print(
        f"{hours} h without PACS: {became.acknowledged} objects acknowledged, {became.waited} deliveries waited, "
        f"{became.tries} tries failed, all there {became.drained_in:.1f} s after its return; "
        f"{len(became.violations)} promises broken; seed {seed}"
    )
    if became.violations:
        print(f"Logs, what was sent and what was kept lie in {folder}.")
        sys.exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
