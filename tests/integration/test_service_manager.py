"""A service manager knows how the node fares, and takes the unit that comes with it."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from config.errors import StorageUnavailable
from config.settings import load_settings
from dicom_node import node as node_module
from dicom_node import service_manager
from dicom_node.node import Node
from tests.nodes import LONG, NodeProcess
from tests.peers import free_port, wait_until

UNIT = Path("config/examples/fullfield.service")
#: Of systemd-analyze, 0 to 10, the lower the better; above 2 it speaks of a medium exposure.
MOST_EXPOSURE = 2.0
#: For how long a clock may be silent in these tests; it ticks every half second.
SILENT = 2.0


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


def test_a_clock_that_hangs_in_its_work_is_told_by_the_page_and_by_silence_to_the_manager(
    manager, tmp_path, monkeypatch
):
    goes_on = threading.Event()
    goes_on.set()
    monkeypatch.setattr(node_module, "_SILENT_SECONDS", SILENT)
    monkeypatch.setattr(node_module, "complete_due", lambda *_, **__: goes_on.wait(LONG))
    with here(tmp_path) as live:
        assert told(manager, "WATCHDOG=1")
        assert live() == 200
        goes_on.clear()
        try:
            wait_until(lambda: live() == 503, what="the page to tell")
            assert not told_within(manager, SILENT)
        finally:
            goes_on.set()
        assert told(manager, "WATCHDOG=1")
        wait_until(lambda: live() == 200, what="the page to tell")


def test_a_clock_that_can_do_nothing_without_its_database_does_not_hang(manager, tmp_path, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise StorageUnavailable("The database is away.")

    monkeypatch.setattr(node_module, "_SILENT_SECONDS", SILENT)
    monkeypatch.setattr(node_module, "complete_due", away)
    with here(tmp_path) as live:
        end = time.monotonic() + 2 * SILENT
        while time.monotonic() < end:
            assert told(manager, "WATCHDOG=1")
            assert live() == 200


def test_a_node_counts_as_hung_for_its_page_when_it_does_for_the_manager():
    assert f"WatchdogSec={node_module._SILENT_SECONDS:g}\n" in UNIT.read_text()


def test_a_manager_that_is_gone_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    node = NodeProcess(tmp_path / "node", {"pacs": 1}, worker={"processes": 0})
    with node.running():
        os.kill(node.pid, signal.SIGHUP)
    assert "Traceback" not in node.log.read_text()


def test_a_process_that_is_out_of_descriptors_does_not_end_by_telling(manager):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        service_manager.alive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    service_manager.stopping()
    assert manager.recv(4096) == b"STOPPING=1"


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


@contextmanager
def here(folder: Path) -> Iterator:
    """A node in this process, from start to stop; asks `/live` for its status."""
    port = free_port()
    settings = load_settings(
        NodeProcess(folder / "node", {"pacs": 1}, worker={"processes": 0}, web={"port": port}).settings
    )
    node = Node(settings, [])
    node.start()
    try:
        yield lambda: requests.get(f"http://127.0.0.1:{port}/live", timeout=30).status_code
    finally:
        node.stop()


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


def told_within(manager: socket.socket, seconds: float) -> list[str]:
    """What it is told within so many seconds; what was told before is passed over."""
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while manager.recv(4096):
            pass
    time.sleep(seconds)
    said = []
    with suppress(BlockingIOError):
        while message := manager.recv(4096):
            said.append(message.decode())
    manager.settimeout(60)
    return said
