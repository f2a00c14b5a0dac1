"""A database of the first schema, with work in it, is upgraded to this version's and goes on where it stood."""

from datetime import UTC, datetime

import pytest
from alembic import command
from sqlalchemy import MetaData, insert

from storage import migrations
from storage.audit_trail import trail, verify
from storage.database import Database
from storage.objects import find_object, objects_of_job
from storage.outbox import claim_deliveries
from storage.queue import claim, get_job, retry
from storage.schema import Series
from storage.transitions import JobState

FIRST = "0001"
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def old(database_url: str) -> Database:
    """A database as the first version left it, not migrated yet."""
    database = Database(database_url)
    with database.transaction() as tx:
        config = migrations._alembic()
        config.attributes["connection"] = tx.connection()
        command.upgrade(config, FIRST)
    with database.transaction() as tx:
        tables = MetaData()
        tables.reflect(tx.connection())
        for name, row in [
            ("jobs", job(1, JobState.QUEUED)),
            ("jobs", job(2, JobState.RECONSTRUCTED)),
            ("jobs", job(3, JobState.FAILED, reason="no weights")),
            ("jobs", job(4, JobState.QUEUED, priority=90)),
            *[("objects", kept(number, number, "original")) for number in (1, 2, 3, 4)],
            ("objects", kept(5, 2, "result")),
            ("objects", kept(6, None, "original")),
            ("series", {**OF_SERIES, "series_instance_uid": "1.2.6", "route": "thorax", "state": "open"}),
            ("deliveries", delivery(1, job_id=2, object_id=5)),
        ]:
            tx.execute(insert(tables.tables[name]).values(**row))
    yield database
    database.close()


def test_what_was_queued_is_worked_on_in_its_order(old: Database) -> None:
    old.migrate()
    with old.transaction() as tx:
        assert [claim(tx, owner="one", lease_seconds=60)[0].id for _ in range(2)] == [4, 1]
        assert claim(tx, owner="one", lease_seconds=60) is None
        assert retry(tx, 3).state == JobState.QUEUED
        assert claim(tx, owner="one", lease_seconds=60)[0].id == 3


def test_what_was_to_be_sent_is_sent(old: Database) -> None:
    old.migrate()
    with old.transaction() as tx:
        ((due, _),) = claim_deliveries(tx, "pacs", owner="one", lease_seconds=60)
        assert (due.job_id, due.object_id, due.destination) == (2, 5, "pacs")


def test_what_was_kept_is_found(old: Database) -> None:
    old.migrate()
    with old.reading() as tx:
        object = find_object(tx, "1.2.3.6")
        assert (object.digest, object.size, object.received_at) == (f"{6:064x}", 1000, NOON)
        assert [object.sop_instance_uid for object in objects_of_job(tx, 2, "result")] == ["1.2.3.5"]
        assert tx.get_one(Series, "1.2.6").route == "thorax"
        assert get_job(tx, 1).settings == {"name": "thorax"}
        verify(tx)
        assert trail(tx) == []


OF_SERIES = {"study_instance_uid": "1.2", "last_received_at": NOON, "due_at": NOON}


def job(number: int, state: JobState, *, priority: int = 50, reason: str | None = None) -> dict[str, object]:
    return {
        "id": number,
        "route": "thorax",
        "profile": "fullfield",
        "mode": "mean",
        "series_instance_uid": f"1.2.{number}",
        "study_instance_uid": "1.2",
        "state": state.value,
        "priority": priority,
        "attempts": 0,
        "max_attempts": 3,
        "not_before": NOON,
        "lease_token": 0,
        "progress": 0.0,
        "reason": reason,
        "settings": {"name": "thorax"},
        "created_at": NOON,
        "updated_at": NOON,
    }


def kept(number: int, job_id: int | None, kind: str) -> dict[str, object]:
    return {
        "id": number,
        "sop_instance_uid": f"1.2.3.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.12.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": "1.2",
        "series_instance_uid": f"1.2.{number}",
        "modality": "XA",
        "frames": 16,
        "digest": f"{number:064x}",
        "size": 1000,
        "kind": kind,
        "calling_ae": "CARM",
        "called_ae": "FULLFIELD",
        "peer_address": "10.0.0.7",
        "received_at": NOON,
        "job_id": job_id,
    }


def delivery(number: int, *, job_id: int, object_id: int) -> dict[str, object]:
    return {
        "id": number,
        "job_id": job_id,
        "object_id": object_id,
        "destination": "pacs",
        "state": "waiting",
        "attempts": 0,
        "not_before": NOON,
        "created_at": NOON,
    }
