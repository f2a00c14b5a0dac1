"""Whole nodes for the tests: `fullfield node` as a process, which can be killed and started again.

node = NodeProcess(tmp_path, {"pacs": pacs.port})
with node.running(): ...
node.kill(); node.start()
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from config.settings import load_settings
from storage.database import Database
from storage.queue import get_job
from storage.schema import AuditRow, Job
from storage.transitions import JobState
from tests.peers import PATIENCE, free_port, wait_until

#: States in which nothing more becomes of a job by itself.
SETTLED = {JobState.DELIVERED, JobState.COMMITTED, JobState.DECLINED, JobState.FAILED}

#: Seconds that a node and its worker may take on a machine that is busy with other things.
LONG = 10 * PATIENCE


class NodeProcess:
    """A node in a folder of its own, quick to try again, with one route to all its destinations."""

    def __init__(
        self,
        folder: Path,
        destinations: dict[str, int | str],
        *,
        database: str | None = None,
        titles: dict[str, str] | None = None,
        route: dict[str, Any] | None = None,
        **tables: dict[str, Any],
    ) -> None:
        """destinations: the port of each on this machine, or the address of its DICOMweb server; titles: AE titles of
        destinations; route: keys of the route; tables: of the settings file."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.settings = folder / "fullfield.toml"
        self.routes = folder / "routes.toml"
        self.log = folder / "node.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: Database | None = None
        chosen: dict[str, dict[str, Any]] = {
            "listener": {"port": self.port},
            "storage": {"full_below_mb": 0} | ({"database": database} if database else {}),
            "worker": {"lease_seconds": 5, "retry_wait_seconds": 0.2, "poll_seconds": 0.1},
            "delivery": {"first_wait_seconds": 0.1, "longest_wait_seconds": 1, "poll_seconds": 0.1},
        }
        for name, table in tables.items():
            chosen.setdefault(name, {}).update(table)
        self.settings.write_text("".join(_table(f"[{name}]", keys) for name, keys in chosen.items()))
        self.write_routes(destinations, titles or {}, **(route or {}))

    def write_routes(self, destinations: dict[str, int | str], titles: dict[str, str], **route: Any) -> None:
        """Write the routes file anew."""
        lines = _table("[[routes]]", {"name": "all", "destinations": list(destinations), **route})
        for name, at in destinations.items():
            here = {"ae_title": titles.get(name, "PACS"), "host": "127.0.0.1", "port": at}
            lines += _table("[[destinations]]", {"name": name} | ({"url": at} if isinstance(at, str) else here))
        self.routes.write_text(lines)

    @property
    def pid(self) -> int:
        """Of the node's own process."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def running(self) -> Iterator["NodeProcess"]:
        """The node from start to stop."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self) -> None:
        """Start it, and wait until it says that it is ready."""
        said_before = self._said().count(" is ready on ")
        self.launch()
        wait_until(
            lambda: self._alive() and self._said().count(" is ready on ") > said_before,
            what="the node",
            seconds=LONG,
        )

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dicom_node", "node", "--settings", str(self.settings)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """Stop it with SIGTERM, and wait; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        code = self.wait()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        return code

    def wait(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        return self._process.wait(LONG)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def workers(self) -> list[int]:
        """The processes that the node has started and that run."""
        children: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # A thread may end meanwhile.
                children += [int(pid) for pid in task.read_text().split()]
        return [pid for pid in children if is_alive(pid)]

    def database(self) -> Database:
        """Its database."""
        return Database(load_settings(self.settings).storage.database_url)

    def jobs(self) -> list[Job]:
        """All its jobs, oldest first."""
        return self._read(lambda tx: list(tx.scalars(select(Job).order_by(Job.id))))

    def job(self, number: int) -> Job:
        """One of its jobs."""
        return self._read(lambda tx: get_job(tx, number))

    def audit(self) -> list[AuditRow]:
        """All that it has told, oldest first."""
        return self._read(lambda tx: list(tx.scalars(select(AuditRow).order_by(AuditRow.id))))

    def wait_until_settled(self, jobs: int) -> list[Job]:
        """Wait until it has so many jobs, and nothing more becomes of any of them; the jobs."""
        wait_until(
            lambda: len(found := self.jobs()) >= jobs and all(job.state in SETTLED for job in found),
            what=f"{jobs} settled jobs",
            seconds=LONG,
        )
        return self.jobs()

    def told(self, action: str) -> int:
        """How often it has told of a step."""
        return self._read(lambda tx: tx.scalar(select(func.count()).where(AuditRow.action == action)))

    def _read(self, what: Any) -> Any:
        self._reader = self._reader or self.database()
        with self._reader.reading() as tx:
            return what(tx)

    def _said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _alive(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"The node ended with code {self._process.returncode}: {self._said()[-2000:]}")
        return True


def is_alive(pid: int) -> bool:
    """Whether a process runs: it is there, and not dead and waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill a process, or send it another signal."""
    os.kill(pid, number)


def _table(header: str, keys: dict[str, Any]) -> str:
    """A TOML table."""
    return "\n".join([header, *(f"{key} = {_toml(value)}" for key, value in keys.items()), "\n"])


def _toml(value: Any) -> str:
    """Strings, numbers and booleans are written as in JSON, and so are lists of them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
