"""A database of the first schema, with work in it, is upgraded to this version's and goes on where it stood."""

import pytest

from config.routes import QueuedRoute
from dicom_node.audit import Action, record
from storage.audit_trail import trail, verify
from storage.database import Database
from storage.objects import find_object, objects_of_job
from storage.outbox import claim_deliveries
from storage.queue import claim, get_job, retry
from storage.schema import Series
from storage.transitions import JobState
from tests.first_version import NOON, OF_SERIES, audit, delivery, job, kept, leave


@pytest.fixture
def old(database_url: str) -> Database:
    """A database as the first version left it, not migrated yet."""
    database = Database(database_url)
    leave(
        database,
        [
            ("jobs", job(1, JobState.QUEUED)),
            ("jobs", job(2, JobState.RECONSTRUCTED)),
            ("jobs", job(3, JobState.FAILED, reason="no weights")),
            ("jobs", job(4, JobState.QUEUED, priority=90)),
            *[("objects", kept(number, number, "original")) for number in (1, 2, 3, 4)],
            ("objects", kept(5, 2, "result")),
            ("objects", kept(6, None, "original")),
            ("series", {**OF_SERIES, "series_instance_uid": "1.2.6", "route": "thorax", "state": "open"}),
            ("deliveries", delivery(1, job_id=2, object_id=5)),
            *[("audit", row) for row in audit()],
        ],
    )
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
        ((due, *_),) = claim_deliveries(tx, "pacs", owner="one", lease_seconds=60)
        assert (due.job_id, due.object_id, due.destination) == (2, 5, "pacs")


def test_what_was_kept_is_found(old: Database) -> None:
    old.migrate()
    with old.reading() as tx:
        object = find_object(tx, "1.2.3.6")
        assert (object.digest, object.size, object.received_at) == (f"{6:064x}", 1000, NOON)
        assert [object.sop_instance_uid for object in objects_of_job(tx, 2, "result")] == ["1.2.3.5"]
        assert tx.get_one(Series, "1.2.6").route == "thorax"
        assert QueuedRoute.model_validate(get_job(tx, 1).settings).destinations == ("pacs",)


def test_the_audit_trail_is_whole_and_goes_on(old: Database) -> None:
    old.migrate()
    with old.transaction() as tx:
        assert verify(tx) == len(audit())
        record(tx, Action.NODE_STARTED, actor="node")
    with old.reading() as tx:
        assert verify(tx) == len(audit()) + 1
        assert [row.action for row in trail(tx, job=1)] == ["job_queued"]
