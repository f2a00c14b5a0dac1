"""Disk and database fail under a whole node: senders are told, nothing is lost, and all goes on when they are back."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from storage.transitions import JobState
from tests.disks import disk, filled
from tests.hospital import Hospital, hospital, shows
from tests.nodes import LONG
from tests.peers import Told, wait_until

OUT_OF_RESOURCES = 0xA700
#: Room for the database with its log, and for small cines.
DISK_MB, FULL_BELOW_MB = 24, 2


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with (
        disk(folder / "disk", megabytes=DISK_MB) as root,
        hospital(folder, storage={"root": str(root), "full_below_mb": FULL_BELOW_MB}) as here,
    ):
        yield here


def _root(here: Hospital) -> Path:
    return here.folder / "disk"


@contextmanager
def _locked(here: Hospital) -> Iterator[None]:
    """Another program holds the database's only write lock."""
    with closing(sqlite3.connect(_root(here) / "fullfield.db", isolation_level=None, timeout=LONG)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _at_work(here: Hospital, jobs: int) -> bool:
    found = here.node.jobs()
    return len(found) > jobs and found[-1].state == JobState.RUNNING


def test_a_sender_waits_while_the_database_is_locked_for_a_moment(here: Hospital) -> None:
    cine, said = here.cine(), list[Told]()
    sender = threading.Thread(target=lambda: said.append(here.push(cine)))
    with _locked(here):
        sender.start()
        # The file is kept: only its row is still to come, and the sender hears nothing yet.
        wait_until(lambda: _kept(here, cine), what="the file in the store")
        assert said == []
    sender.join()
    assert said[0].statuses == [0]
    assert shows(here.result(cine), cine)


def test_while_the_database_stays_locked_senders_are_told_so_and_work_is_not_lost(here: Hospital) -> None:
    jobs = len(here.node.jobs())
    under_way, late = here.cine(frames=8), here.cine()
    assert here.push(under_way).accepted
    wait_until(lambda: _at_work(here, jobs), what="the worker to begin", seconds=LONG)
    with _locked(here):
        assert here.push(late).statuses == [OUT_OF_RESOURCES]
    assert here.push(late).accepted
    assert shows(here.result(under_way), under_way)
    assert shows(here.result(late), late)
    job = here.node.wait_until_settled(jobs + 2)[jobs]
    assert (job.state, job.attempts) == (JobState.DELIVERED, 1)
    assert _refusals(here)[-1].endswith(("database is locked.", "fullfield.db was busy for 10 s."))


def test_a_disk_that_is_nearly_full_is_told_to_senders_until_there_is_room(here: Hospital) -> None:
    cine = here.cine()
    with filled(_root(here), leaving=FULL_BELOW_MB << 19):
        assert here.push(cine).statuses == [OUT_OF_RESOURCES]
    assert _refusals(here)[-1] == "The disk is nearly full."
    assert here.push(cine).accepted
    assert shows(here.result(cine), cine)


def test_a_job_whose_disk_fills_up_waits_for_room_and_is_done(here: Hospital) -> None:
    jobs, cine = len(here.node.jobs()), here.cine(frames=4)
    assert here.push(cine).accepted
    wait_until(lambda: _at_work(here, jobs), what="the worker to begin", seconds=LONG)
    with filled(_root(here)):
        wait_until(lambda: "is full" in here.node.log.read_text(), what="the worker to notice", seconds=LONG)
        assert here.push(here.cine()).statuses == [OUT_OF_RESOURCES]
        assert here.results(cine) == []
    assert shows(here.result(cine), cine)
    assert here.goes_through()


def _kept(here: Hospital, cine: Path) -> bool:
    """Whether a file as large as a cine was put into the object store just now."""
    newest = max((_root(here) / "objects").glob("*/*/*"), key=lambda path: path.stat().st_mtime, default=None)
    return newest is not None and newest.stat().st_mtime > cine.stat().st_mtime


def _refusals(here: Hospital) -> list[str]:
    """Why each object that was refused was so."""
    return [row.details["reason"] for row in here.node.audit() if row.action == "object_refused"]
