"""When deliveries are tried again: by themselves, after longer and longer waits, or because a person asks for it."""

from itertools import pairwise
from pathlib import Path

import pytest

from dicom_node import backoff
from dicom_node.audit import Action
from storage.files import ObjectStore
from storage.objects import objects_of_job
from storage.states import DeliveryState
from storage.transitions import JobState
from tests.couriers import QUICK, answering, delivering
from tests.peers import wait_until
from tests.stored_jobs import deliveries, job_of, reconstructed, steps, story, wait_for


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def test_the_wait_for_a_destination_that_is_away_doubles_up_to_the_longest(database, store, monkeypatch):
    monkeypatch.setattr(backoff.random, "uniform", lambda _, most: most)
    settings = QUICK.model_copy(update={"first_wait_seconds": 0.1, "longest_wait_seconds": 0.4})
    job = reconstructed(database, store, "pacs", objects=1)
    with delivering(database, store, settings, pacs=1):
        wait_until(lambda: deliveries(database, job)[0].attempts >= 5, what="five tries")
    postponed = [row for row in story(database, job) if row.action == Action.DELIVERY_POSTPONED][:5]
    waits = [row.details["wait_seconds"] for row in postponed]
    assert waits == [0.1, 0.2, 0.4, 0.4, 0.4][: len(waits)] and len(waits) >= 4
    # It waited for what it said, by the database's clock.
    passed = [(later.at - earlier.at).total_seconds() for earlier, later in pairwise(postponed)]
    assert all(seconds >= wait for seconds, wait in zip(passed, waits, strict=False))


def test_a_retry_by_a_person_sends_only_what_is_missing_and_the_job_is_delivered(
    database, database_url, store, tmp_path, fullfield
):
    (tmp_path / "fullfield.toml").write_text(f'[storage]\nroot = "."\ndatabase = "{database_url}"\n')
    statuses = iter([0x0000, 0x0124, 0x0000, 0x0000])
    with (
        answering(lambda: next(statuses)) as (pacs, to_pacs),
        answering(lambda: 0x0000) as (other, to_other),
        delivering(database, store, pacs=pacs, other=other),
    ):
        job = reconstructed(database, store, "pacs", "other", objects=3)
        wait_for(database, job, JobState.FAILED)
        assert fullfield("jobs", "retry", job)[0] == 0
        wait_for(database, job, JobState.DELIVERED)
    with database.reading() as tx:
        made = [object.sop_instance_uid for object in objects_of_job(tx, job, "result")]
    assert to_pacs == [*made, made[1]]
    assert to_other == made
    assert {each.state for each in deliveries(database, job)} == {DeliveryState.ACKNOWLEDGED}
    assert job_of(database, job).reason is None
    taken = steps(database, job)
    assert taken.count(Action.DELIVERED) == 6
    assert taken[taken.index(Action.JOB_FAILED) :] == [
        Action.JOB_FAILED,
        Action.JOB_RETRIED,
        Action.DELIVERED,
        Action.JOB_DELIVERED,
    ]
