"""`fullfield worker`: reconstruct what is queued, beside the workers that a node starts itself."""

import os
import signal
import threading
from typing import Annotated

import typer

from dicom_node.commands.options import SettingsFile, settings_in

#: A worker whose node is gone has so long to give its job back.
_GRACE_SECONDS = 30.0


def worker(
    settings: SettingsFile = None,
    once: Annotated[bool, typer.Option("--once", help="End when no job is due.")] = False,
    name: Annotated[
        str | None,
        typer.Option(hidden=True, help="Name of the worker whose place it takes, and whose job it resumes."),
    ] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", hidden=True, help="End when standard input ends.")
    ] = False,
) -> None:
    """Run a worker: take jobs from the queue and reconstruct them, until SIGTERM or Ctrl-C.

    A job that is under way then goes back to the queue. Any number of workers may run, on any machine that
    reaches the database and the object store.

    Example: fullfield worker --settings fullfield.toml
    """
    from dicom_node.logs import configure_logs
    from dicom_node.node import run_worker

    chosen = settings_in(settings)
    configure_logs(chosen.logs.format, chosen.logs.level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if supervised:
        # Ctrl-C goes to every process at the terminal; the node tells its workers itself.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_standard_input, args=(stopping,), daemon=True).start()
    run_worker(chosen, stopping, name=name, once=once)


def _end_with_standard_input(stopping: threading.Event) -> None:
    """The node holds the other end: it is gone, in whatever way, when there is nothing more to read."""
    # Not through sys.stdin, whose lock would be in the way of the interpreter's end.
    while os.read(0, 1):
        pass
    stopping.set()
    threading.Event().wait(_GRACE_SECONDS)
    os._exit(1)
