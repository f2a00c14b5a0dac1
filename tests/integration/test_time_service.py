"""`fullfield doctor` on the clock: whether the time is plausible, and what systemd or chrony says of a time service."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import StorageSettings
from dicom_node.audit import Action, record
from dicom_node.checks import Finding, Level, check_clock
from storage.database import Database

Program = Callable[[str, str], None]

#: What chrony 4.3 says, shortened.
TRACKING = """\
Reference ID    : C0A80001 (192.168.0.1)
Stratum         : 3
System time     : 0.000012345 seconds fast of NTP time
Leap status     : {}
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Puts a program in place of that of the machine, which has no other: what it says, and with which exit code."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def put(name: str, says: str, code: int = 0) -> None:
        (programs / name).write_text(f"#!/bin/sh\n/bin/cat <<END\n{says}\nEND\nexit {code}\n")
        (programs / name).chmod(0o755)

    return put


def service(folder: Path) -> Finding:
    """What is found of the time service."""
    *_, found = check_clock(StorageSettings(root=folder))
    assert found.about == "time service"
    return found


def clock(storage: StorageSettings, now: datetime | None = None) -> Finding:
    """What is found of the clock."""
    found, *_ = check_clock(storage, now)
    assert found.about == "clock"
    return found


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [("yes", Level.OK, "It keeps the clock."), ("no", Level.WARN, "It does not keep the clock.")],
)
def test_systemd_is_asked_first(program: Program, tmp_path: Path, said: str, level: Level, words: str) -> None:
    program("timedatectl", f"{said}\n")
    program("chronyc", TRACKING.format("Normal" if said == "no" else "Not synchronised"))
    found = service(tmp_path)
    assert (found.level, found.said) == (level, words)
    assert ("timedatectl set-ntp true" in found.mend) == (level != Level.OK)


@pytest.mark.parametrize(
    ("leap", "level"), [("Normal", Level.OK), ("Insert second", Level.OK), ("Not synchronised", Level.WARN)]
)
def test_chrony_is_asked_where_systemd_says_nothing(program: Program, tmp_path: Path, leap: str, level: Level) -> None:
    program("timedatectl", "System has not been booted with systemd as init system (PID 1).", code=1)
    program("chronyc", TRACKING.format(leap))
    assert service(tmp_path).level == level


@pytest.mark.parametrize("there", [True, False])
def test_it_says_so_when_neither_answers(program: Program, tmp_path: Path, there: bool) -> None:
    if there:
        program("timedatectl", "", code=1)
        program("chronyc", "506 Cannot talk to daemon", code=1)
    found = service(tmp_path)
    assert found.level == Level.WARN
    assert "neither systemd nor chrony answers" in found.said


def test_a_time_that_cannot_be_is_told(database_url: str, tmp_path: Path) -> None:
    storage = StorageSettings(root=tmp_path, database=database_url)
    assert clock(storage).level == Level.OK
    found = clock(storage, datetime(2001, 1, 1, tzinfo=UTC))
    assert (found.level, "before this version was made" in found.said) == (Level.FAIL, True)
    database = Database(database_url)
    database.migrate()
    with database.transaction() as tx:
        record(tx, Action.NODE_STARTED, actor="node")
    database.close()
    assert clock(storage).level == Level.OK
    found = clock(storage, datetime.now(UTC) - timedelta(hours=1))
    assert (found.level, "but the audit trail tells of something at" in found.said) == (Level.FAIL, True)
    found = clock(storage, datetime.now(UTC) + timedelta(hours=1))
    # An SQLite database has this machine's clock, not that of the test.
    assert (found.level, "off the database's clock" in found.said) == (Level.WARN, True)
