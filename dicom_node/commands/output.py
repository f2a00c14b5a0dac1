"""Standard output, which may be a file on a full disk, or a pipe that nobody reads any more."""

import os
import sys
from pathlib import Path

import typer


def say(line: str) -> None:
    """Say it to whoever listens; a process that serves others goes on when nobody does."""
    try:
        typer.echo(line)
    except OSError:
        give_up_output()


def give_up_output() -> None:
    """Write nothing more: what is left in its buffer would fail again at the end, and be the exit status."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # until the process ends
