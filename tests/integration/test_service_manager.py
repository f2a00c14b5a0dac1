"""A service manager knows how the node fares, and takes the unit that comes with it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nodes import NodeProcess

UNIT = Path("config/examples/fullfield.service")
#: Of systemd-analyze, 0 to 10, the lower the better; above 2 it speaks of a medium exposure.
MOST_EXPOSURE = 2.0


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """What systemd listens with (sd_notify(3)); `recv` gives the next that it is told."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(address))
        listening.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        yield listening


def test_it_is_told_that_the_node_is_ready_alive_reloading_and_stopping(manager, tmp_path):
    node = NodeProcess(tmp_path / "node", {"pacs": 1}, worker={"processes": 0})
    with node.running():
        assert told(manager, "READY=1")
        assert told(manager, "WATCHDOG=1")
        os.kill(node.pid, signal.SIGHUP)
        assert "MONOTONIC_USEC=" in told(manager, "RELOADING=1")
        assert told(manager, "READY=1")
    assert told(manager, "STOPPING=1")


def test_a_manager_that_is_gone_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    node = NodeProcess(tmp_path / "node", {"pacs": 1}, worker={"processes": 0})
    with node.running():
        os.kill(node.pid, signal.SIGHUP)
    assert "Traceback" not in node.log.read_text()


def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path):
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fullfield/.venv/bin/fullfield", fullfield()))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE * 10:.0f}", "--no-pager", unit],
        capture_output=True,
        text=True,
    )
    assert judged.returncode == 0, judged.stdout


def fullfield() -> str:
    found = shutil.which("fullfield", path=str(Path(sys.executable).parent))
    assert found is not None
    return found


def told(manager: socket.socket, state: str) -> str:
    """The next message that says so; those between are passed over."""
    while True:
        message = manager.recv(4096).decode()
        if message.startswith(state):
            return message
