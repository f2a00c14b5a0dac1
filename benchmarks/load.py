"""Many modalities at once, for long; and a node whose worker and PACS are slower than they.

Soak: so many senders (dcmtk's storescu) push small objects, one association each after the other, to a node that only
keeps them. Its memory, threads and descriptors are looked at on the way: they are to stay as they are.
Backpressure: cines come faster than a worker reconstructs them, and results are made faster than their destination
takes them. What waits is to be seen in the metrics, to cost the node no memory, and all to arrive.

    python -m benchmarks.load [--objects 20000] [--senders 64] [--cines 60]
"""

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select

from benchmarks._place import folder_on_disk
from storage.schema import StoredObject
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.factory import write, xa
from tests.harness.witness import AE_TITLE, Witness
from tests.metrics import metrics_in
from tests.nodes import NodeProcess
from tests.peers import free_port

#: Objects of an association.
_EACH = 50
#: Looks at the node while objects come in.
_LOOKS = 10


@dataclass(frozen=True)
class Look:
    """At the node's process."""

    memory_mb: int
    threads: int
    descriptors: int

    @classmethod
    def at(cls, pid: int) -> "Look":
        """As it is now."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(lines["VmRSS"].split()[0]) >> 10, int(lines["Threads"]), descriptors)

    def __str__(self) -> str:
        return f"{self.memory_mb} MB, {self.threads} threads, {self.descriptors} descriptors"


def main(
    objects: Annotated[int, typer.Option(help="Small objects of the soak.")] = 20_000,
    senders: Annotated[int, typer.Option(help="Modalities at once.")] = 64,
    cines: Annotated[int, typer.Option(help="Cines of the backpressure.")] = 60,
) -> None:
    """Print how a node fares under load."""
    with folder_on_disk() as folder:
        _soak(folder, objects, senders)
        _press(folder, cines)


def _soak(folder: Path, objects: int, senders: int) -> None:
    small = [write(xa(rows=64, columns=64, seed=number), folder / f"{number}.dcm") for number in range(_EACH)]
    # An association may begin before the node has noted the end of the one before.
    limits = {"max_associations": 2 * senders}
    node = NodeProcess(folder / "soak", {"pacs": 1}, worker={"processes": 0}, listener=limits)
    node.routes.write_text("")
    with node.running(), ThreadPoolExecutor(senders) as ward:
        print(f"soak: {senders} senders; at rest {Look.at(node.pid)}", flush=True)
        pushes, begun, sent = objects // _EACH, time.perf_counter(), 0
        for done in as_completed([ward.submit(_storescu, node.port, small) for _ in range(pushes)]):
            done.result()
            sent += _EACH
            if sent // _EACH % max(1, pushes // _LOOKS) == 0:
                rate = sent / (time.perf_counter() - begun)
                print(f"soak: {sent} objects, {rate:.0f} a second, {Look.at(node.pid)}", flush=True)
        kept = _count(node)
    print(f"soak: {kept} of {sent} acknowledged objects are kept")


def _press(folder: Path, cines: int) -> None:
    witness = Witness()
    witness.manners = "slow"
    files = [write(xa(rows=64, columns=64, seed=number), folder / f"cine-{number}.dcm") for number in range(cines)]
    web = free_port()
    node = NodeProcess(
        folder / "press",
        {"witness": witness.port},
        titles={"witness": AE_TITLE},
        route={"complete": "multiframe", "quiet_seconds": 1.0},
        web={"port": web},
    )
    with node.running(), _watched(lambda: _waiting(web, node.pid)) as seen:
        begun = time.perf_counter()
        with ThreadPoolExecutor(8) as ward:
            list(ward.map(lambda file: _storescu(node.port, [file]), files))
        received = time.perf_counter() - begun
        jobs = node.wait_until_settled(cines)
        drained = time.perf_counter() - begun
    witness.stop()
    arrived = len(witness.versions)
    print(
        f"backpressure: {cines} cines received in {received:.0f} s, drained in {drained:.0f} s; at the most "
        f"{max(jobs for jobs, _, _ in seen):.0f} jobs and {max(sent for _, sent, _ in seen):.0f} deliveries waited in "
        f"the metrics; the node had {min(mb for _, _, mb in seen)} to {max(mb for _, _, mb in seen)} MB; "
        f"{sum(job.state == JobState.DELIVERED for job in jobs)} of {cines} jobs delivered, {arrived} objects arrived"
    )


def _storescu(port: int, files: list[Path]) -> None:
    """Send files over one association, under new UIDs; RuntimeError unless all were acknowledged."""
    command = ["storescu", "-v", "+II", "-R", "-aec", "FULLFIELD", "127.0.0.1", str(port), *map(str, files)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The node did not acknowledge all that storescu sent: {done.stdout[-600:]}")


def _count(node: NodeProcess) -> int:
    with closing(node.database()) as database, database.reading() as tx:
        originals = select(func.count()).where(StoredObject.kind == ObjectKind.ORIGINAL)
        return tx.scalars(originals).one()


def _waiting(port: int, pid: int) -> tuple[float, float, int]:
    """Jobs and deliveries that are not finished, by the metrics, and the node's memory in MB."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        samples = metrics_in(answer.read().decode())
    jobs, deliveries = (sum(samples.get(name, {}).values()) for name in ("fullfield_jobs", "fullfield_deliveries"))
    return jobs, deliveries, Look.at(pid).memory_mb


@contextmanager
def _watched(look: Callable[[], tuple[float, float, int]]) -> Iterator[list[tuple[float, float, int]]]:
    """What is seen twice a second until the end."""
    seen = [look()]
    watching = True

    def watch() -> None:
        while watching:
            time.sleep(0.5)
            seen.append(look())

    with ThreadPoolExecutor(1) as other:
        watcher = other.submit(watch)
        try:
            yield seen
        finally:
            watching = False
            watcher.result()


if __name__ == "__main__":
    typer.run(main)
