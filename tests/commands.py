"""The command line for the tests: in this process, in an empty folder, untouched by the machine's settings.

status, out, err = fullfield("jobs", "list")
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.commands.main import run

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fullfield(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in `tmp_path`; its exit status, and what it said on standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("FULLFIELD")]:
        monkeypatch.delenv(name)

    def command(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return command
