"""Objects are kept once, and none of a series is forgotten on its way to a job."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.database import Database
from storage.objects import ReceivedObject, find_object, keep_object, objects_of_job
from storage.queue import enqueue
from storage.schema import Job, Series, StoredObject
from storage.series import close_series, due_series, touch_series, waiting_objects
from storage.states import ObjectKind, SeriesState

NOON = datetime(2024, 5, 6, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def received(number: int = 1, **facts) -> ReceivedObject:
    """The object with this number of one series, as its peer sent it."""
    told = {
        "sop_instance_uid": f"1.2.3.{number}",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.12.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "modality": "XA",
        "frames": 1,
        "digest": f"{number:064x}",
        "size": 3 * 2**30,
        "calling_ae": "CARM",
        "called_ae": "FULLFIELD",
        "peer_address": "127.0.0.1",
        "received_at": NOON + number * SECOND,
    }
    return ReceivedObject(**{**told, **facts})


def queue(tx: Session, objects: list[StoredObject]) -> Job:
    return enqueue(
        tx,
        objects=objects,
        route="thorax",
        profile="fullfield",
        mode="mean",
        priority=50,
        max_attempts=3,
        settings={},
    )


# Objects


def test_a_kept_object_is_found_with_all_that_was_told_of_it(database: Database) -> None:
    with database.transaction() as tx:
        assert keep_object(tx, received()).outcome == "new"
    with database.reading() as tx:
        found = find_object(tx, "1.2.3.1")
        told = _row_of(received())
        assert found.kind == ObjectKind.ORIGINAL and found.job_id is None
        assert {name: getattr(found, name) for name in told} == told
        assert find_object(tx, "1.2.3.2") is None


def test_an_object_sent_again_is_kept_once(database: Database) -> None:
    with database.transaction() as tx:
        first = keep_object(tx, received())
    with database.transaction() as tx:
        again = keep_object(tx, received(calling_ae="OTHER", received_at=None))
        assert (again.outcome, again.object.id) == ("repeated", first.object.id)
        assert again.object.calling_ae == "CARM"


def test_other_content_under_the_same_uid_is_kept_aside(database: Database) -> None:
    other = received(digest="f" * 64)
    with database.transaction() as tx:
        first = keep_object(tx, received()).object
        aside = keep_object(tx, other)
        assert (aside.outcome, aside.object.kind) == ("aside", ObjectKind.ASIDE)
        assert find_object(tx, "1.2.3.1") is first
        assert keep_object(tx, other).outcome == "repeated"
        assert keep_object(tx, received(digest="e" * 64)).outcome == "aside"
        touch_series(tx, first, "thorax", None)
        assert waiting_objects(tx, "1.2.3") == [first]


def test_the_database_itself_refuses_a_second_object_under_one_uid(database: Database) -> None:
    def add(tx: Session, kind: ObjectKind, digest: str) -> None:
        told = {**_row_of(received()), "kind": kind, "digest": digest * 64}
        tx.add(StoredObject(**told))
        tx.flush()

    with database.transaction() as tx:
        add(tx, ObjectKind.ORIGINAL, "a")
        add(tx, ObjectKind.ASIDE, "b")
        add(tx, ObjectKind.ASIDE, "c")
    for kind, digest in [(ObjectKind.ORIGINAL, "d"), (ObjectKind.RESULT, "d"), (ObjectKind.ASIDE, "a")]:
        with pytest.raises(IntegrityError), database.transaction() as tx:
            add(tx, kind, digest)


def test_a_result_belongs_to_the_job_that_made_it(database: Database) -> None:
    with database.transaction() as tx:
        originals = [keep_object(tx, received(number)).object for number in (2, 1)]
        job = queue(tx, originals)
        made = replace(received(9), kind=ObjectKind.RESULT, job_id=job.id, received_at=None, calling_ae="")
        result = keep_object(tx, made).object
        assert objects_of_job(tx, job.id) == originals[::-1]
        assert objects_of_job(tx, job.id, "result") == [result]
        assert waiting_objects(tx, "1.2.3") == []


def test_a_result_of_no_job_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as tx:
        keep_object(tx, received(kind=ObjectKind.RESULT, job_id=99))


def test_associations_that_send_one_object_at_once_keep_it_once(database: Database) -> None:
    together = threading.Barrier(6)

    def send(number: int) -> str:
        together.wait(30)
        with database.transaction() as tx:
            kept = keep_object(tx, received(digest=f"{number % 2:064x}"))
            touch_series(tx, kept.object, "thorax", NOON)
        return kept.outcome

    with ThreadPoolExecutor(6) as threads:
        outcomes = sorted(threads.map(send, range(6)))
    assert outcomes == ["aside", "new", "repeated", "repeated", "repeated", "repeated"]
    with database.reading() as tx:
        assert tx.scalars(select(func.count()).select_from(StoredObject)).one() == 2
        assert tx.scalars(select(func.count()).select_from(Series)).one() == 1


# Series


def arrive(tx: Session, number: int, route: str | None = "thorax", due_at: datetime | None = None) -> Series:
    object = keep_object(tx, received(number)).object
    touch_series(tx, object, route, due_at)
    return tx.get_one(Series, object.series_instance_uid, populate_existing=True)


def test_a_series_is_due_when_its_quiet_time_is_over(database: Database) -> None:
    with database.transaction() as tx:
        series = arrive(tx, 1, due_at=NOON + 10 * SECOND)
        assert (series.state, series.route, series.study_instance_uid) == (SeriesState.OPEN, "thorax", "1.2")
        assert due_series(tx, NOON + 9 * SECOND) == []
        assert due_series(tx, NOON + 10 * SECOND) == [series]


def test_each_object_puts_the_end_of_the_quiet_time_off(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, 1, due_at=NOON + 10 * SECOND)
        series = arrive(tx, 2, due_at=NOON + 20 * SECOND)
        assert series.last_received_at == NOON + 2 * SECOND
        assert due_series(tx, NOON + 10 * SECOND) == []


def test_a_series_completed_by_another_rule_has_no_quiet_time(database: Database) -> None:
    with database.transaction() as tx:
        assert arrive(tx, 1).state == SeriesState.OPEN
        assert due_series(tx, NOON + timedelta(days=1)) == []


def test_a_series_that_no_route_takes_is_never_due(database: Database) -> None:
    with database.transaction() as tx:
        assert arrive(tx, 1, route=None, due_at=NOON).state == SeriesState.UNROUTED
        assert due_series(tx, NOON + timedelta(days=1)) == []
        assert arrive(tx, 2, due_at=NOON).state == SeriesState.OPEN


def test_an_object_that_no_route_takes_leaves_its_open_series_open(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, 1, due_at=NOON)
        series = arrive(tx, 2, route=None)
        assert (series.state, series.route, series.due_at) == (SeriesState.OPEN, "thorax", NOON)


def test_a_closed_series_is_opened_again_by_a_late_object(database: Database) -> None:
    with database.transaction() as tx:
        arrive(tx, 1, due_at=NOON)
        queue(tx, waiting_objects(tx, "1.2.3"))
        close_series(tx, "1.2.3")
        assert due_series(tx, NOON) == []
    with database.transaction() as tx:
        series = arrive(tx, 2, due_at=NOON + SECOND)
        assert series.state == SeriesState.OPEN
        assert due_series(tx, NOON + SECOND) == [series]
        assert [late.sop_instance_uid for late in waiting_objects(tx, "1.2.3")] == ["1.2.3.2"]


def test_closing_an_unknown_series_is_no_mistake(database: Database) -> None:
    with database.transaction() as tx:
        close_series(tx, "9.9")
        assert waiting_objects(tx, "9.9") == []


def test_objects_that_arrive_while_series_are_closed_are_in_exactly_one_job(database: Database) -> None:
    """Four associations send, two nodes close whatever is due: no object is lost or taken twice."""
    sent = threading.Event()

    def send(first: int) -> None:
        for number in range(first, 60, 4):
            with database.transaction() as tx:
                arrive(tx, number, due_at=NOON)

    def close() -> None:
        last_round = False
        while not last_round:
            last_round = sent.is_set()
            with database.transaction() as tx:
                for series in due_series(tx, NOON):
                    waiting = waiting_objects(tx, series.series_instance_uid)
                    if waiting:
                        queue(tx, waiting)
                    close_series(tx, series.series_instance_uid)

    with ThreadPoolExecutor(6) as threads:
        closing = [threads.submit(close) for _ in range(2)]
        for sending in [threads.submit(send, first) for first in range(4)]:
            sending.result(60)
        sent.set()
        for done in closing:
            done.result(60)
    with database.transaction() as tx:
        assert waiting_objects(tx, "1.2.3") == []
        taken = [one for job in tx.scalars(select(Job.id)) for one in objects_of_job(tx, job)]
        assert len(taken) == 60
        assert tx.scalars(select(Series)).one().state == SeriesState.COMPLETE


def _row_of(object: ReceivedObject) -> dict[str, Any]:
    """What its row tells of a received object; the header goes to the catalogue."""
    return {name: value for name, value in vars(object).items() if name != "header"}
