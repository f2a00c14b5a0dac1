"""A systemd that runs the project's own unit, walled off from the machine (own_systemd.sh)."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nodes import LONG, NodeProcess
from tests.peers import Told, wait_until

UNIT = "fullfield.service"

_REPOSITORY = Path(__file__).parents[1]
_SCRIPT = Path(__file__).with_name("own_systemd.sh")
#: Apart from the machine: cgroups, mounts, processes, System V IPC, name, network.
_APART = ["--cgroup", "--mount", "--pid", "--ipc", "--uts", "--net"]

#: How a complaint begins that says more of the machine than of these tests.
_NOT_PERMITTED = ("unshare: ", "mount: ", "pivot_root: ", "what Python needs ")


class Systemd:
    """A running systemd with the unit installed as docs/how-to/install.md has it, its node at port 104."""

    def __init__(self, pid: int) -> None:
        """pid: of its process 1, as the machine counts."""
        self._pid = pid
        self.root = Path(f"/proc/{pid}/root")
        self.log = self.root / "var/log/node.log"

    def run(self, *command: str) -> Told:
        """Run a command inside."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._pid), "--all", *command], capture_output=True, text=True, timeout=LONG
        )
        return Told(done.returncode, done.stdout + done.stderr)

    def systemctl(self, verb: str, *options: str) -> Told:
        """Ask systemctl about the unit, or for something to be done with it."""
        return self.run("systemctl", verb, *options, UNIT)

    def shown(self, name: str) -> str:
        """A property of the unit."""
        return self.systemctl("show", "--value", f"--property={name}").output.strip()

    def answers(self) -> bool:
        """Whether the node answers a C-ECHO."""
        return self.run("echoscu", "-aec", "FULLFIELD", "127.0.0.1", "104").accepted

    def install(self, drop_in: str) -> None:
        """Write settings and routes, and what of the unit is to differ from the one that ships."""
        settings = self.root / "etc/fullfield"
        NodeProcess(settings, {"pacs": 1}, listener={"port": 104}, storage={"root": "/var/lib/fullfield"})
        differs = self.root / f"run/units/{UNIT}.d/test.conf"
        differs.parent.mkdir()
        differs.write_text(f"[Service]\nStandardOutput=append:/var/log/node.log\nStandardError=inherit\n{drop_in}\n")
        self.run("chown", "-R", "root:fullfield", "/etc/fullfield")
        self.run("chmod", "-R", "u=rwX,g=rX,o=", "/etc/fullfield")
        assert self.run("systemctl", "daemon-reload").accepted


@contextmanager
def systemd() -> Iterator[Systemd]:
    """A systemd from its start to its end; the test is skipped where none can be started."""
    cgroup = _cgroup()
    joined = ["sh", "-c", f'echo $$ >{cgroup}/cgroup.procs && exec "$@"', "sh"]
    # It dies with the tests, however they end.
    apart = ["setpriv", "--pdeathsig", "KILL", "unshare", *_APART, "--fork", "--kill-child=SIGKILL"]
    needs = [sys.base_prefix, str(_REPOSITORY), sysconfig.get_path("purelib")]
    process = subprocess.Popen(
        [*joined, *apart, "bash", str(_SCRIPT), *needs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _ready(process)
    finally:
        # With process 1 of its namespace all that it has started dies too, and every mount goes.
        process.kill()
        process.communicate()
        _remove(cgroup)


def _cgroup() -> Path:
    """A cgroup for it alone: to it, the only ones that there are."""
    if os.getuid() or not shutil.which("nsenter") or not Path("/lib/systemd/systemd").exists():
        pytest.skip("no systemd: it takes root, util-linux and Debian's package systemd")
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    unified = [Path(at) for _, at, kind, *_ in mounts if kind == "cgroup2"]
    if not unified:
        pytest.skip("no systemd: no unified cgroups are mounted")
    try:
        return Path(tempfile.mkdtemp(prefix="fullfield-test-", dir=unified[0]))
    except OSError as error:
        pytest.skip(f"no systemd: {error}")


def _ready(process: subprocess.Popen[str]) -> Systemd:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def answers() -> Systemd | None:
        if process.poll() is not None:
            assert process.stderr is not None
            why = process.stderr.read().strip()
            assert why.startswith(_NOT_PERMITTED), why
            pytest.skip(f"no systemd: {why}")
        found = children.read_text().split()
        if not found or Path(f"/proc/{found[0]}/comm").read_text() != "systemd\n":
            return None
        own = Systemd(int(found[0]))
        return own if own.run("systemctl", "is-system-running").accepted else None

    started: Systemd = wait_until(answers, what="systemd")
    return started


def _remove(cgroup: Path) -> None:
    wait_until(lambda: "populated 0" in (cgroup / "cgroup.events").read_text(), what="what it started to end")
    for folder, _, _ in os.walk(cgroup, topdown=False):
        Path(folder).rmdir()
