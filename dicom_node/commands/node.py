"""`fullfield node`: receive, reconstruct and deliver, until told to stop."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.commands.options import DEFAULT_FILE, SettingsFile, settings_in
from dicom_node.commands.output import say

if TYPE_CHECKING:
    from config.settings import Settings


def node(settings: SettingsFile = None) -> None:
    """Run the node: listener, workers and delivery, until SIGTERM or Ctrl-C.

    SIGHUP reads the routes file and the certificates again; one with a mistake changes nothing.

    Example: fullfield node --settings fullfield.toml
    """
    from dicom_node import service_manager
    from dicom_node.allocator import give_memory_back
    from dicom_node.logs import configure_logs
    from dicom_node.node import STOP_SECONDS, Node
    from dicom_node.signals import Signals

    give_memory_back()
    chosen = settings_in(settings)
    configure_logs(chosen.logs.format, chosen.logs.level)
    signals = Signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    running = Node(chosen, worker_command(settings))
    try:
        running.start()
        # What is there by now stays. pynetdicom has garbage collected every few seconds, and each time the whole of it
        # would be looked through while everything waits.
        gc.freeze()
        service_manager.ready()
        say(_ready(chosen, len(running.routes.table.routes)))
        while signals.next() == signal.SIGHUP:
            service_manager.reloading()
            running.reload()
            service_manager.ready()
    finally:
        service_manager.stopping()
        with _in_time(STOP_SECONDS):
            running.stop()
    _leave()


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """End the process when this is not done in time; what it leaves is as safe as after a crash."""
    overdue = threading.Timer(seconds, os._exit, [1])
    overdue.daemon = True
    overdue.start()
    try:
        yield
    finally:
        overdue.cancel()


def _leave() -> None:
    """End the process, whoever is still in a thread that waits for a peer or a disk."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        os._exit(0)


def worker_command(settings: Path | None) -> list[str]:
    """The command line of a worker with the same settings, which ends when its standard input does."""
    command = [sys.executable, "-m", "dicom_node", "worker", "--supervised"]
    if settings is None and DEFAULT_FILE.exists():
        settings = DEFAULT_FILE
    return [*command, "--settings", str(settings)] if settings is not None else command


def _ready(settings: "Settings", routes: int) -> str:
    listener = settings.listener
    counted = f"{routes} route{'' if routes == 1 else 's'}"
    ports = f"port {listener.port}" if listener.port else f"port {listener.tls_port} over TLS"
    if listener.port and listener.tls_port is not None:
        ports = f"{ports}, port {listener.tls_port} over TLS"
    return f"{listener.ae_title} is ready on {listener.host}, {ports}, with {counted}."
