"""Where the harness plays: a node on a small disk, a PACS, and what lies between them and can be struck."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import psycopg

from storage.faultpoint import VARIABLE
from tests.harness import power
from tests.harness.disk import Disk
from tests.harness.product import CLOCK, FOLDER, JOURNAL, ORDERS
from tests.harness.server import DatabaseServer
from tests.harness.wire import Wire
from tests.harness.witness import AE_TITLE, StoreWitness, WebWitness, Witness
from tests.nodes import LONG, NodeProcess, is_alive, kill
from tests.peers import Orthanc, free_port, orthanc, wait_until

CHECKOUT = Path(__file__).parents[2]
PACS = "ORTHANC"
LEASE_SECONDS = 5.0
#: Attempts of a job: more than faults can hit one.
ATTEMPTS = 50
#: Hours after which the PACS is asked anew whether it keeps everything: its report may have been cut off.
_ASKED_AGAIN = 6 / 3600


class StruckNode(NodeProcess):
    """A node that is started as `tests.harness.product`, and can lose its power."""

    def __init__(
        self, folder: Path, disk: Disk, destinations: dict[str, int | str], *, database: str | None, mutation: str
    ) -> None:
        super().__init__(
            folder,
            destinations,
            database=database,
            titles={"pacs": PACS, "witness": AE_TITLE},
            route={"complete": "multiframe", "quiet_seconds": 1.0, "fetch_priors": "pacs"},
            storage={"root": str(disk.root)},
            web={"port": (web_port := free_port())},
            worker={"max_attempts": ATTEMPTS, "lease_seconds": LEASE_SECONDS},
            delivery={"timeout_seconds": 5.0, "commitment_wait_hours": _ASKED_AGAIN},
        )
        self.root = disk.root
        #: Of its DICOMweb server.
        self.web_port = web_port
        self._disk = disk
        #: A worker beside the node's own, which nobody watches.
        self.beside: subprocess.Popen[bytes] | None = None
        self._mutation = mutation
        #: Seconds from each start after a death until it was ready.
        self.recoveries: list[float] = []

    def write_routes(self, destinations: dict[str, int | str], titles: dict[str, str], **route: Any) -> None:
        """As of every node, but the PACS commits, and its files are to be compared with what was made."""
        super().write_routes(destinations, titles, **route)
        keys = 'name = "pacs"\ncommitment = true\ncompressed = false'
        self.routes.write_text(self.routes.read_text().replace('name = "pacs"', keys))

    def launch(self) -> None:
        """Start it as it is to be struck."""
        self._process = self._started("node", stdin=subprocess.DEVNULL)

    def tend(self) -> None:
        """Have it run, and the worker beside it: one that was ordered to die may do so a moment later."""
        if not self.runs:
            self.recover()
        if self.beside is None or self.beside.poll() is not None:
            self.beside = self._started("worker", stdin=subprocess.DEVNULL)

    def recover(self) -> None:
        """Start it after it has died, and take the time."""
        begun = time.monotonic()
        self.start()
        self.recoveries.append(time.monotonic() - begun)

    @property
    def runs(self) -> bool:
        """Whether its own process does."""
        return self._process is not None and self._process.poll() is None

    def lose_power(self) -> int:
        """Kill it and its workers, and have the disk forget; how many names and files that cost."""
        workers = self.workers() if self.runs else []
        workers += self._others()
        self.kill()
        for worker in workers:
            if is_alive(worker):
                kill(worker)
        wait_until(lambda: not any(map(is_alive, workers)), what="the workers to die")
        return power.forget_unsynced(self.folder / JOURNAL, self.root)

    def order(self, number: int, point: str, turn: int, deed: str) -> None:
        """Have the first process that passes a point for the so-many-th time do a deed."""
        self.withdraw()
        waiting = self._orders.with_suffix(".new")
        waiting.write_text(f"{number} {point} {turn} {deed}")
        waiting.rename(self._orders)

    @property
    def carried_out(self) -> bool:
        """Whether the last order was."""
        return self._orders.with_suffix(".done").exists()

    def withdraw(self) -> None:
        """Order nothing any more."""
        self._orders.unlink(missing_ok=True)
        self._orders.with_suffix(".done").unlink(missing_ok=True)

    def turn_the_clock(self, seconds: float) -> None:
        """Have its clock be so far ahead."""
        waiting = self.folder / "clock.new"
        waiting.write_text(str(seconds))
        waiting.rename(self.folder / CLOCK)

    @property
    def _orders(self) -> Path:
        return self.folder / ORDERS

    def stop(self) -> int:
        """Stop it, and the worker beside it."""
        if self.beside is not None:
            self.beside.kill()
            self.beside.wait()
        return super().stop()

    def _others(self) -> list[int]:
        """Its other processes: the worker beside it, and workers whose node has died and who are about to end."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                said = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.settings).encode() in said and b"worker" in said:
                found.append(int(process.name))
        return found

    def _started(self, command: str, **how: int) -> subprocess.Popen[bytes]:
        surroundings = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            VARIABLE: str(self._orders),
            FOLDER: str(self.folder),
            "OMP_NUM_THREADS": "1",
            **self._disk.surroundings(),
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.harness.product", self._mutation, command, "--settings", self.settings],
                cwd=self.folder,
                env=surroundings,
                stdout=log,
                stderr=log,
                **how,
            )


class Archive:
    """Orthanc, which can be killed and started again on what it has."""

    def __init__(self, folder: Path, sends_to: int) -> None:
        """sends_to: port to which its reports on storage commitment go, and what is fetched from it."""
        self._folder = folder
        self._sends_to = sends_to
        self.port = free_port()
        self._running = ExitStack()
        self.orthanc: Orthanc = self._begin()

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        os.kill(self.orthanc.pid, signal.SIGKILL)
        self._running.close()

    def recover(self) -> None:
        """Start it again."""
        self.orthanc = self._begin()

    def stop(self) -> None:
        """End it."""
        self._running.close()

    def give(self, file: Path) -> None:
        """Let it have an object from elsewhere."""
        self.orthanc.ask("/instances", file.read_bytes())

    def arrivals(self, since: int) -> tuple[list[str], int]:
        """Orthanc's names of the objects that have come since a change, and the change to ask after next."""
        new: list[str] = []
        while True:
            told = self.orthanc.get(f"/changes?since={since}&limit=500")
            new += [change["ID"] for change in told["Changes"] if change["ChangeType"] == "NewInstance"]
            since = told["Last"]
            if told["Done"]:
                return new, since

    def read(self, name: str) -> bytes:
        """The file of an object."""
        return self.orthanc.read(f"/instances/{name}/file")

    def count(self) -> int:
        """How many objects it has."""
        count: int = self.orthanc.get("/statistics")["CountInstances"]
        return count

    def _begin(self) -> Orthanc:
        modalities = {"node": ["FULLFIELD", "127.0.0.1", self._sends_to]}
        return self._running.enter_context(
            orthanc(self._folder, ae_title=PACS, port=self.port, DicomModalities=modalities)
        )


class Place:
    """All of it."""

    def __init__(self, folder: Path, disk: Disk, *, database: DatabaseServer | None, mutation: str) -> None:
        self.folder = folder
        self.disk = disk
        #: None with SQLite.
        self.database = database
        self.to_node, self.to_nodes_web = Wire(), Wire()
        self.pacs = Archive(folder / "pacs", sends_to=self.to_node.port)
        self.witness, self.web = StoreWitness(), WebWitness()
        self.to_pacs, self.to_web = Wire(self.pacs.port), Wire(self.web.port)
        self.node = StruckNode(
            folder / "node",
            disk,
            {
                "pacs": self.to_pacs.port,
                "witness": self.witness.port,
                "web": f"http://127.0.0.1:{self.to_web.port}",
            },
            database=database.url if database is not None else None,
            mutation=mutation,
        )
        self.to_node.leads_to, self.to_nodes_web.leads_to = self.node.port, self.node.web_port

    @property
    def wires(self) -> list[Wire]:
        """All that can be cut."""
        return [self.to_node, self.to_nodes_web, self.to_pacs, self.to_web]

    @property
    def witnesses(self) -> dict[str, Witness]:
        """The destinations beside the PACS, by name."""
        return {"witness": self.witness, "web": self.web}

    @contextmanager
    def database_locked(self) -> Iterator[None]:
        """Another program holds what every writer needs, until the end."""
        if self.database is not None:
            with psycopg.connect(self.database.url) as other:
                _lock_tables(other)
                yield
                other.rollback()
            return
        with closing(sqlite3.connect(self.disk.root / "fullfield.db", isolation_level=None, timeout=LONG)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    def close(self) -> None:
        """End what is not the node."""
        for wire in self.wires:
            wire.close()
        for witness in self.witnesses.values():
            witness.stop()
        self.pacs.stop()


def _lock_tables(other: psycopg.Connection) -> None:
    """Keep every writer out; a node that has a row of one table and wants one of another may come between."""
    while True:
        try:
            other.execute("LOCK TABLE objects, jobs, deliveries IN EXCLUSIVE MODE")
        except psycopg.errors.DeadlockDetected:
            other.rollback()
        else:
            return


@contextmanager
def place(folder: Path, *, database: Literal["sqlite", "postgresql"], mutation: str) -> Iterator[Place]:
    """A place at work, until the end."""
    with ExitStack() as stack:
        disk = stack.enter_context(Disk.mounted(folder / "disk"))
        server = stack.enter_context(DatabaseServer.running()) if database == "postgresql" else None
        here = Place(folder, disk, database=server, mutation=mutation)
        stack.callback(here.close)
        with here.node.running():
            here.node.tend()
            yield here
