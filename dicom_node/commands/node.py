"""`fullfield node`: receive, reconstruct and deliver, until told to stop."""

import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.commands.options import DEFAULT_FILE, SettingsFile, settings_in

if TYPE_CHECKING:
    from config.settings import Settings


def node(settings: SettingsFile = None) -> None:
    """Run the node: listener, workers and delivery, until SIGTERM or Ctrl-C.

    SIGHUP reads the routes file and the certificates again; one with a mistake changes nothing.

    Example: fullfield node --settings fullfield.toml
    """
    from dicom_node import service_manager
    from dicom_node.logs import configure_logs
    from dicom_node.node import Node
    from dicom_node.signals import Signals

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
        typer.echo(_ready(chosen, len(running.routes.table.routes)))
        while signals.next() == signal.SIGHUP:
            service_manager.reloading()
            running.reload()
            service_manager.ready()
    finally:
        service_manager.stopping()
        running.stop()


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
