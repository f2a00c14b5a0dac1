"""Where the harness plays: a node on a small disk, a PACS, and what lies between them and can be struck."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from storage.faultpoint import VARIABLE
from tests.harness import power
from tests.harness.disk import Disk
from tests.harness.product import CLOCK, FOLDER, JOURNAL, ORDERS
from tests.nodes import NodeProcess, is_alive, kill
from tests.peers import Orthanc, free_port, orthanc, wait_until

CHECKOUT = Path(__file__).parents[2]
PACS = "ORTHANC"
#: Attempts of a job: more than faults can hit one.
ATTEMPTS = 50


class StruckNode(NodeProcess):
    """A node that is started as `tests.harness.product`, and can lose its power."""

    def __init__(self, folder: Path, root: Path, pacs: int, *, database: str | None, mutation: str) -> None:
        storage = {"root": str(root)}
        super().__init__(
            folder,
            {"pacs": pacs},
            database=database,
            titles={"pacs": PACS},
            route={"complete": "multiframe", "quiet_seconds": 1.0},
            storage=storage,
            worker={"max_attempts": ATTEMPTS},
        )
        self.root = root
        self._mutation = mutation
        #: Seconds from each start after a death until it was ready.
        self.recoveries: list[float] = []

    def write_routes(self, destinations: dict[str, int], titles: dict[str, str], **route: Any) -> None:
        """As of every node, but what arrives is to be compared byte for byte with what was made."""
        super().write_routes(destinations, titles, **route)
        self.routes.write_text(self.routes.read_text().replace('name = "pacs"', 'name = "pacs"\ncompressed = false'))

    def launch(self) -> None:
        """Start it as it is to be struck."""
        self._process = self._started("node", stdin=subprocess.DEVNULL)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker beside the node's own, which nobody watches."""
        return self._started("worker", stdin=subprocess.DEVNULL)

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
        workers += self._orphans()
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

    def _orphans(self) -> list[int]:
        """Workers of this node whose parent has died: they are about to end by themselves."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                said = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.settings).encode() in said and b"--supervised" in said:
                found.append(int(process.name))
        return found

    def _started(self, command: str, **how: int) -> subprocess.Popen[bytes]:
        surroundings = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            VARIABLE: str(self._orders),
            FOLDER: str(self.folder),
            "OMP_NUM_THREADS": "1",
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

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        return self._running.enter_context(orthanc(self._folder, ae_title=PACS, port=self.port))


class Place:
    """All of it."""

    def __init__(self, folder: Path, disk: Disk, *, database: str | None, mutation: str) -> None:
        self.folder = folder
        self.disk = disk
        self.pacs = Archive(folder / "pacs")
        self.node = StruckNode(folder / "node", disk.root, self.pacs.port, database=database, mutation=mutation)


@contextmanager
def place(folder: Path, *, database: str | None = None, mutation: str = "none") -> Iterator[Place]:
    """A place at work, until the end."""
    with Disk.mounted(folder / "disk") as disk:
        here = Place(folder, disk, database=database, mutation=mutation)
        try:
            with here.node.running():
                yield here
        finally:
            here.pacs.stop()
