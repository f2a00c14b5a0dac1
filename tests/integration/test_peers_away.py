"""A peer that is away is tried once for all that is due to it, not once for each, and gets all when it is back."""

from typing import Any

import pytest
from sqlalchemy import select

import dicom_node.rounds as rounds_module
from config.errors import DamagedDatabase, StorageUnavailable
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.rounds import Rounds
from dicom_node.workflow.commitment_seeker import CommitmentSeeker
from dicom_node.workflow.fetching import Fetcher
from storage.database import Database
from storage.fetches import add_fetch
from storage.schema import Fetch, SoughtCommitment
from storage.sought_commitments import add_sought
from storage.states import FetchState
from tests.jobs import queued
from tests.peers import wait_until
from tests.wards import TITLE, Archive

#: More than one association asks for.
DUE = 40
RESTS_LONG = DeliverySettings(first_wait_seconds=3600, timeout_seconds=30, poll_seconds=0.02)


@pytest.fixture(params=[Fetch, SoughtCommitment], ids=["fetches", "commitment"])
def kind(request: pytest.FixtureRequest) -> type[Fetch] | type[SoughtCommitment]:
    return request.param


def test_a_peer_that_is_away_is_tried_once_for_all_that_is_due_to_it(database: Database, kind):
    add(database, kind, "pacs", DUE)
    rounds = going_to(database, kind, RESTS_LONG, pacs=1, other=1)
    assert rounds.serve("pacs", "node")
    add(database, kind, "pacs", 1)
    assert not rounds.serve("pacs", "node")
    assert rounds.due() == []
    # What is due to another is served meanwhile.
    add(database, kind, "other", 1)
    assert rounds.due() == ["other"] and rounds.serve("other", "node")
    tried = 1 if kind is Fetch else 32
    assert sorted(attempts(database, kind, "pacs")) == [0] * (DUE + 1 - tried) + [1] * tried
    assert attempts(database, kind, "other") == [1]


def test_an_archive_that_is_back_is_asked_for_all_that_waited(database: Database):
    add(database, Fetch, "pacs", DUE)
    archive = Archive(node_port=1)
    quick = DeliverySettings(first_wait_seconds=0.05, longest_wait_seconds=0.2, timeout_seconds=30, poll_seconds=0.02)
    rounds = going_to(database, Fetch, quick, pacs=archive.port)
    rounds.start()
    try:
        wait_until(lambda: sum(attempts(database, Fetch, "pacs")) >= 3, what="three tries")
        with archive.running():
            wait_until(lambda: states(database) == {FetchState.FETCHED}, what="all fetches to be made")
    finally:
        rounds.stop()


def test_what_a_round_was_about_that_the_database_broke_off_is_taken_up_soon(database: Database, kind, monkeypatch):
    monkeypatch.setattr(rounds_module, "_REST_SECONDS", 0.05)
    add(database, kind, "pacs", 2)
    settings = RESTS_LONG.model_copy(update={"timeout_seconds": 2.0})
    rounds = going_to(database, kind, settings, pacs=1)
    postpone, broken = rounds._postpone, iter([True])

    def broken_off(*arguments: Any) -> None:
        if next(broken, False):
            raise StorageUnavailable("The database is away.")
        postpone(*arguments)

    # What cannot be read for a moment SQLite takes for damage.
    let_go, unread = rounds_module.let_go, iter([True])

    def unread_at_first(*arguments: Any) -> None:
        if next(unread, False):
            raise DamagedDatabase("The database is damaged.")
        let_go(*arguments)

    monkeypatch.setattr(rounds, "_postpone", broken_off)
    rounds._free_namesakes()
    monkeypatch.setattr(rounds_module, "let_go", unread_at_first)
    monkeypatch.setattr(rounds, "_free_namesakes", lambda: None)
    rounds._breakers.failed = lambda *_: 0.05
    rounds.start()
    try:
        wait_until(lambda: max(attempts(database, kind, "pacs")) >= 2, what="another try")
    finally:
        rounds.stop()


def going_to(database: Database, kind, settings: DeliverySettings, **ports: int) -> Rounds:
    """What serves what is due to peers at these ports."""
    to = [Destination(name=name, ae_title=TITLE, host="127.0.0.1", port=port) for name, port in ports.items()]
    table = RouteTable(destinations=tuple(to))
    if kind is Fetch:
        return Fetcher(database, settings, table=lambda: table, ae_title="FULLFIELD", name="node")
    return CommitmentSeeker(database, settings, table=lambda: table, calling_ae="FULLFIELD", name="node")


def add(database: Database, kind, to: str, count: int) -> None:
    """So much more is due to a peer, each for a job of its own."""
    with database.transaction() as tx:
        first = len(tx.scalars(select(kind.id if kind is Fetch else kind.transaction_uid)).all()) + 1
        for number in range(first, first + count):
            job = queued(tx, number, study=f"1.2.{number}")
            if kind is Fetch:
                add_fetch(tx, job, archive=to, modalities=["XA"])
            else:
                uid = f"2.25.{number}"
                add_sought(tx, job_id=job.id, destination=to, transaction_uid=uid, items=[["1.2", uid]])


def attempts(database: Database, kind, to: str) -> list[int]:
    whose = kind.archive if kind is Fetch else kind.destination
    with database.reading() as tx:
        return list(tx.scalars(select(kind.attempts).where(whose == to)))


def states(database: Database) -> set[FetchState]:
    with database.reading() as tx:
        return set(tx.scalars(select(Fetch.state)))
