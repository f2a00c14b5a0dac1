"""A PostgreSQL server that can be killed and started again on what it has; it syncs, as a hospital's does."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers import free_port, wait_until


class DatabaseServer:
    """A cluster of its own with an empty database."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://fullfield@127.0.0.1:{self._port}/fullfield"

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["DatabaseServer"]:
        """A server, until the end."""
        # PostgreSQL will not run as root, and another user may not enter a folder that root was given.
        data = Path(tempfile.mkdtemp(prefix="fullfield-postgresql-"))
        server = cls(data)
        try:
            server._make()
            server.start()
            server._run("createdb", *server._address, "fullfield")
            yield server
        finally:
            server.stop()
            shutil.rmtree(data, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(self._programs / "postgres"), "-D", str(self._data / "cluster"), "-p", str(self._port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._data}"]
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._data, **self._user
            )
        ready = [str(self._programs / "pg_isready"), "-q", *self._address]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, what="PostgreSQL")

    def kill(self) -> None:
        """Kill all its processes with SIGKILL."""
        assert self._process is not None
        children = [
            int(pid)
            for task in Path(f"/proc/{self._process.pid}/task").glob("*/children")
            for pid in task.read_text().split()
        ]
        for pid in (self._process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it without waiting for its clients."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()

    @property
    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self._port), "-U", "fullfield"]

    @property
    def _user(self) -> dict[str, Any]:
        return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}

    def _make(self) -> None:
        if self._user:
            os.chown(self._data, pwd.getpwnam("postgres").pw_uid, -1)
        cluster = str(self._data / "cluster")
        self._run("initdb", "-D", cluster, "-U", "fullfield", "-A", "trust", "-E", "UTF8", **self._user)

    def _run(self, program: str, *arguments: str, **how: Any) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._data, **how)
