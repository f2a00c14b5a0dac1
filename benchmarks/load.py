"""Many modalities at once, for long; a worker that is slower than they; and a PACS that is slower than the worker.

Soak: so many senders (dcmtk's storescu) push small objects, one association each after the other, to a node that only
keeps them. Its memory, threads and descriptors are looked at on the way: they are to stay as they are. No more is under
reception than it lets in associations; a sender that it refuses for now calls again.
Jobs: cines come faster than a worker reconstructs them.
Results: a worker with the harness's stand-in for the networks makes them faster than their destination takes them.
What waits is to be seen in the metrics, to cost the node no memory, and all to arrive.

    python -m benchmarks.load [--objects 20000] [--senders 64] [--cines 60] [--results 60] [--pacs-seconds 1]

A part whose number is 0 is left out.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pynetdicom import evt
from sqlalchemy import func, select

from benchmarks._look import Look, Waiting, answers_in_words, metrics_at, watched
from benchmarks._place import folder_on_disk
from storage.schema import Delivery, StoredObject
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState
from tests.factory import write, xa
from tests.harness.witness import AE_TITLE, Witness
from tests.nodes import SETTLED, NodeProcess
from tests.peers import free_port, wait_until

#: Objects of an association.
_EACH = 50
#: Looks at the node while objects come in.
_LOOKS = 10
#: Seconds an object that a PACS takes which is quicker than a worker with networks.
_QUICK_PACS = 0.3
#: Seconds after which a sender that was refused for now calls again.
_CALL_AGAIN = 1.0
#: Seconds that all may take to be delivered.
_PATIENCE = 4 * 3600


class SlowPacs(Witness):
    """Takes so many seconds an object."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        super().__init__()

    def _take(self, event: evt.Event) -> int:
        time.sleep(self._seconds)
        return super()._take(event)


def main(
    objects: Annotated[int, typer.Option(help="Small objects of the soak.")] = 20_000,
    senders: Annotated[int, typer.Option(help="Modalities at once.")] = 64,
    associations: Annotated[int, typer.Option(help="What the node lets in of them; 0: all.")] = 0,
    cines: Annotated[int, typer.Option(help="Cines that come faster than the worker.")] = 60,
    results: Annotated[int, typer.Option(help="Cines whose results are made faster than the PACS takes them.")] = 60,
    pacs_seconds: Annotated[float, typer.Option(help="What that PACS takes an object.")] = 1.0,
) -> None:
    """Print how a node fares under load."""
    with folder_on_disk() as folder:
        if objects:
            # An association may begin before the node has noted the end of the one before.
            _soak(folder, objects, senders, associations or 2 * senders)
        if cines:
            _press(folder / "jobs", cines, _QUICK_PACS, quick_worker=False)
        if results:
            _press(folder / "results", results, pacs_seconds, quick_worker=True)


def _soak(folder: Path, objects: int, senders: int, associations: int) -> None:
    small = [write(xa(rows=64, columns=64, seed=number), folder / f"{number}.dcm") for number in range(_EACH)]
    web = free_port()
    node = NodeProcess(
        folder / "soak",
        {"pacs": 1},
        worker={"processes": 0},
        listener={"max_associations": associations},
        web={"port": web},
    )
    node.routes.write_text("")
    with node.running(), ThreadPoolExecutor(senders) as ward, watched(lambda: Waiting.at(web, node.pid)) as seen:
        print(f"soak: {senders} senders; at rest {Look.at(node.pid)}", flush=True)
        pushes, begun, sent, refused = max(1, objects // _EACH), time.perf_counter(), 0, 0
        for done in as_completed([ward.submit(_storescu, node.port, small) for _ in range(pushes)]):
            refused += done.result()
            sent += _EACH
            if sent // _EACH % max(1, pushes // _LOOKS) == 0:
                rate = sent / (time.perf_counter() - begun)
                print(f"soak: {sent} objects, {rate:.0f} a second, {Look.at(node.pid)}", flush=True)
        kept, answers = _kept(node), answers_in_words(metrics_at(web))
    print(
        f"soak: {kept} of {sent} acknowledged objects are kept; by the metrics at the most "
        f"{max(look.receptions for look in seen)} were under reception, of {associations} that max_associations lets "
        f"in ({refused} calls were refused for now), and answers took {answers}; the node had {_megabytes(seen)}",
        flush=True,
    )


def _press(folder: Path, cines: int, pacs_seconds: float, *, quick_worker: bool) -> None:
    web, pacs = free_port(), SlowPacs(pacs_seconds)
    node = NodeProcess(
        folder,
        {"witness": pacs.port},
        titles={"witness": AE_TITLE},
        route={"complete": "multiframe", "quiet_seconds": 1.0},
        web={"port": web},
        worker={"processes": 0 if quick_worker else 1},
    )
    frames = 2 if quick_worker else 4
    files = [write(xa(rows=64, columns=64, frames=frames, seed=n), folder / f"cine-{n}.dcm") for n in range(cines)]
    with ExitStack() as stack:
        stack.callback(pacs.stop)
        stack.enter_context(node.running())
        if quick_worker:
            stack.enter_context(_quick_worker(node))
        with watched(lambda: Waiting.at(web, node.pid)) as seen:
            begun = time.perf_counter()
            with ThreadPoolExecutor(8) as ward:
                list(ward.map(lambda file: _storescu(node.port, [file]), files))
            received = time.perf_counter() - begun
            wait_until(lambda: _are_made(node, cines), what="the results", seconds=_PATIENCE)
            made = time.perf_counter() - begun
            wait_until(lambda: _are_settled(node, cines), what="the deliveries", seconds=_PATIENCE)
            drained = time.perf_counter() - begun
        deliveries, acknowledged = _deliveries(node)
        delivered = sum(job.state == JobState.DELIVERED for job in node.jobs())
    print(
        f"{'results' if quick_worker else 'jobs'}: {cines} cines received in {received:.0f} s, their results made in "
        f"{made:.0f} s, and taken by a PACS of {pacs_seconds:g} s an object in {drained:.0f} s; by the metrics at the "
        f"most {max(look.jobs for look in seen)} jobs and {max(look.deliveries for look in seen)} deliveries waited; "
        f"the node had {_megabytes(seen)}; {delivered} of {cines} jobs delivered, {acknowledged} of {deliveries} "
        f"deliveries acknowledged, {len(pacs.versions)} objects arrived, "
        f"{sum(len(versions) > 1 for versions in pacs.versions.values())} in more than one version",
        flush=True,
    )


@contextmanager
def _quick_worker(node: NodeProcess) -> Iterator[None]:
    """A worker without networks, until the end."""
    command = [sys.executable, "-m", "benchmarks._quick_worker", "worker", "--settings", str(node.settings)]
    with node.log.open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as worker:
        try:
            yield
        finally:
            worker.terminate()


def _storescu(port: int, files: list[Path]) -> int:
    """Send files over one association, under new UIDs, as soon as the node takes any; how often it took none.

    RuntimeError unless all were acknowledged.
    """
    command = ["storescu", "-v", "+II", "-R", "-aec", "FULLFIELD", "127.0.0.1", str(port), *map(str, files)]
    refused = 0
    while True:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode == 0:
            return refused
        took_some = "(Success)" in done.stdout
        if took_some or not any(busy in done.stdout for busy in ("Local Limit Exceeded", "OutOfResources")):
            raise RuntimeError(f"The node did not acknowledge all that storescu sent: {done.stdout[-600:]}")
        refused += 1
        time.sleep(_CALL_AGAIN)


def _are_made(node: NodeProcess, cines: int) -> bool:
    jobs = node.jobs()
    return len(jobs) >= cines and all(job.state not in (JobState.QUEUED, JobState.RUNNING) for job in jobs)


def _are_settled(node: NodeProcess, cines: int) -> bool:
    jobs = node.jobs()
    return len(jobs) >= cines and all(job.state in SETTLED for job in jobs)


def _kept(node: NodeProcess) -> int:
    with closing(node.database()) as database, database.reading() as tx:
        originals = select(func.count()).where(StoredObject.kind == ObjectKind.ORIGINAL)
        return tx.scalars(originals).one()


def _deliveries(node: NodeProcess) -> tuple[int, int]:
    """How many there are, and how many of them the PACS has acknowledged."""
    with closing(node.database()) as database, database.reading() as tx:
        states = list(tx.scalars(select(Delivery.state)))
    return len(states), states.count(DeliveryState.ACKNOWLEDGED)


def _megabytes(seen: list[Waiting]) -> str:
    memory = [look.memory_mb for look in seen]
    return f"{min(memory)} to {max(memory)} MB"


if __name__ == "__main__":
    typer.run(main)
