"""What has had its days is deleted, rows before files and with an audit row; what anybody needs is not."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from config.errors import DamagedObject
from config.retention import RetentionSettings
from dicom_node.audit import Action
from dicom_node.workflow.retention import Retention
from storage.audit_trail import trail
from storage.catalogue import catalogue
from storage.database import Database, current_time
from storage.faultpoint import VARIABLE
from storage.files import ObjectStore
from storage.objects import find_object, keep_object
from storage.outbox import acknowledge
from storage.queue import cancel, move
from storage.retention import RESULTS, deletable, delete_objects, lift_hold, place_hold, remove_files
from storage.schema import (
    CataloguedObject,
    CataloguedSeries,
    CataloguedStudy,
    Delivery,
    FileToRemove,
    Series,
    StoredObject,
)
from storage.series import touch_series
from storage.sought_commitments import add_sought, settle_sought
from storage.states import ObjectKind, SeriesState, SoughtState
from storage.transitions import JobState
from tests.factory import xa
from tests.peers import wait_until
from tests.stored_jobs import received, reconstructed

DAYS = RetentionSettings(originals_days=30, results_days=30)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def _kept(database: Database, store: ObjectStore, **attributes: object) -> StoredObject:
    """An original that no job takes in."""
    dataset = xa(frames=1, rows=16, columns=16, **attributes)
    with database.transaction() as tx:
        kept = keep_object(tx, received(store, dataset)).object
        catalogue(tx, kept, dataset)
    return kept


def _delivered(database: Database, store: ObjectStore, *, asked: SoughtState | None = None) -> int:
    """A job whose results are delivered; asked: what became of the commitment that their destination was asked for."""
    number = reconstructed(database, store, "pacs")
    with database.transaction() as tx:
        move(tx, number, JobState.DELIVERING)
        for delivery in tx.scalars(select(Delivery).where(Delivery.job_id == number)).all():
            acknowledge(tx, delivery.id, status=0)
        move(tx, number, JobState.DELIVERED)
        if asked is not None:
            row = add_sought(tx, job_id=number, destination="pacs", transaction_uid=f"1.{number}", items=[["1", "2"]])
            settle_sought(tx, row, asked)
            if asked == SoughtState.COMMITTED:
                move(tx, number, JobState.COMMITTED)
    return number


def _age(database: Database, days: float) -> None:
    """So much time passes for all that is kept."""
    with database.transaction() as tx:
        then = current_time(tx) - timedelta(days=days)
        tx.execute(update(StoredObject).values(received_at=then))


def _pass(database: Database, store: ObjectStore, settings: RetentionSettings = DAYS) -> int:
    return Retention(database, store, settings, threading.Event()).keep_to_days()


def _left(database: Database) -> int:
    with database.reading() as tx:
        return tx.scalar(select(func.count()).select_from(StoredObject))


def test_by_default_everything_is_kept_for_ever(database, store):
    _kept(database, store)
    _age(database, 10_000)
    assert _pass(database, store, RetentionSettings()) == 0
    assert _left(database) == 1


def test_what_has_had_its_days_is_gone_from_disk_database_and_catalogue_and_told(database, store):
    old = _kept(database, store)
    _age(database, 31)
    young = _kept(database, store)
    assert _pass(database, store) == 1
    assert [file.digest for file in store.files()] == [young.digest]
    with database.reading() as tx:
        assert find_object(tx, old.sop_instance_uid) is None
        for table in (CataloguedObject, CataloguedSeries, CataloguedStudy, StoredObject):
            assert tx.scalar(select(func.count()).select_from(table)) == 1
        assert tx.scalar(select(func.count()).select_from(FileToRemove)) == 0
        (row,) = trail(tx, study=old.study_instance_uid)
    assert (row.action, row.actor, row.sop_instance_uid) == (Action.OBJECT_DELETED, "retention", old.sop_instance_uid)
    assert row.details["digest"] == old.digest
    assert row.details["reason"] == "kept for 30 days"


def test_each_kind_has_days_of_its_own(database, store):
    job = _delivered(database, store)
    _age(database, 31)
    assert _pass(database, store, RetentionSettings(results_days=30)) == 2
    with database.reading() as tx:
        kinds = list(tx.scalars(select(StoredObject.kind).where(StoredObject.job_id == job)))
    assert kinds == [ObjectKind.ORIGINAL]
    assert _pass(database, store, RetentionSettings(originals_days=30)) == 1


def test_a_series_and_a_study_stay_in_the_catalogue_until_their_last_object_goes(database, store):
    first = _kept(database, store)
    with database.transaction() as tx:
        tx.execute(update(StoredObject).values(received_at=current_time(tx) - timedelta(days=31)))
    _kept(
        database,
        store,
        study_instance_uid=first.study_instance_uid,
        series_instance_uid=first.series_instance_uid,
        seed=2,
    )
    assert _pass(database, store) == 1
    with database.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(CataloguedStudy)) == 1
    _age(database, 31)
    assert _pass(database, store) == 1
    with database.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(CataloguedStudy)) == 0


def _undelivered(database: Database, store: ObjectStore) -> None:
    reconstructed(database, store, "pacs")


def _failed(database: Database, store: ObjectStore) -> None:
    number = reconstructed(database, store, "pacs")
    with database.transaction() as tx:
        cancel(tx, number, "test")


def _asked_for_commitment(database: Database, store: ObjectStore) -> None:
    _delivered(database, store, asked=SoughtState.ASKED)


def _without_an_answer(database: Database, store: ObjectStore) -> None:
    _delivered(database, store, asked=SoughtState.UNANSWERED)


def _of_an_open_series(database: Database, store: ObjectStore) -> None:
    kept = _kept(database, store)
    with database.transaction() as tx:
        touch_series(tx, kept, "all", None)


def _under_a_hold(database: Database, store: ObjectStore) -> None:
    kept = _kept(database, store)
    with database.transaction() as tx:
        place_hold(tx, kept.study_instance_uid, reason="a case", by="test")


@pytest.mark.parametrize(
    "needed",
    [_undelivered, _failed, _asked_for_commitment, _without_an_answer, _of_an_open_series, _under_a_hold],
    ids=lambda needed: needed.__name__.strip("_"),
)
def test_what_is_needed_is_kept_whatever_its_age_and_however_low_the_disk_is(
    database: Database, store: ObjectStore, needed: Callable[[Database, ObjectStore], None]
):
    needed(database, store)
    _age(database, 10_000)
    before = _left(database)
    assert _pass(database, store) == 0
    _kept(database, store)  # The youngest, which nobody needs, is all that makes room.
    anything = RetentionSettings(results_make_room=True, originals_make_room=True)
    assert Retention(database, store, anything, threading.Event()).make_room(lambda: True) == 1
    assert _left(database) == before == len(list(store.files()))


def test_what_is_committed_goes_and_its_job_is_still_told_of(database, store):
    job = _delivered(database, store, asked=SoughtState.COMMITTED)
    _age(database, 31)
    assert _pass(database, store) == 3
    with database.reading() as tx:
        assert tx.scalar(select(func.count()).select_from(Delivery)) == 0
        assert len([row for row in trail(tx, job=job) if row.action == Action.OBJECT_DELETED]) == 3


def test_what_a_later_job_still_delivers_is_kept(database, store):
    _delivered(database, store)
    other = reconstructed(database, store, "pacs", objects=0)
    with database.transaction() as tx:
        shared = tx.scalars(select(StoredObject).where(StoredObject.kind == ObjectKind.RESULT)).first()
        tx.add(
            Delivery(
                job_id=other,
                object_id=shared.id,
                destination="other",
                state="waiting",
                attempts=0,
                not_before=current_time(tx),
                created_at=current_time(tx),
            )
        )
    _age(database, 31)
    _pass(database, store)
    with database.reading() as tx:
        assert tx.get(StoredObject, shared.id) is not None
    assert store.path(shared.digest).exists()


def test_a_hold_that_is_lifted_lets_the_study_go(database, store):
    kept = _kept(database, store)
    _age(database, 31)
    with database.transaction() as tx:
        assert place_hold(tx, kept.study_instance_uid, reason="a case", by="test")
        assert not place_hold(tx, kept.study_instance_uid, reason="again", by="test")
    assert _pass(database, store) == 0
    with database.transaction() as tx:
        assert lift_hold(tx, kept.study_instance_uid)
        assert not lift_hold(tx, kept.study_instance_uid)
    assert _pass(database, store) == 1


def test_room_is_made_by_the_oldest_and_no_more_than_is_needed(database, store):
    oldest, second, third = (_kept(database, store, seed=number) for number in (1, 2, 3))
    retention = Retention(database, store, RetentionSettings(originals_make_room=True), threading.Event())
    asked = []

    def is_low() -> bool:
        asked.append(_left(database))
        return _left(database) > 1

    # One object at a time, so that it can stop in between.
    retention_module = "dicom_node.workflow.retention._AT_ONCE"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention_module, 1)
        assert retention.make_room(is_low) == 2
    assert [file.digest for file in store.files()] == [third.digest]
    assert not store.path(oldest.digest).exists() and not store.path(second.digest).exists()


def test_results_make_room_before_originals_and_only_where_they_may(database, store):
    _delivered(database, store)
    low = threading.Event()
    nothing = Retention(database, store, RetentionSettings(), low).make_room(lambda: True)
    results = Retention(database, store, RetentionSettings(results_make_room=True), low).make_room(lambda: True)
    assert (nothing, results, _left(database)) == (0, 2, 1)


def test_what_a_crash_between_rows_and_file_leaves_is_removed_by_the_next_pass(database, store):
    kept = _kept(database, store)
    with database.transaction() as tx:
        (gone,) = delete_objects(tx, [kept.id])
    assert store.path(gone.digest).exists()
    assert _pass(database, store, RetentionSettings()) == 0
    assert not store.path(gone.digest).exists()


def test_an_object_that_comes_again_before_its_file_is_removed_keeps_it(database, store):
    dataset = xa(frames=1, rows=16, columns=16)
    with database.transaction() as tx:
        kept = keep_object(tx, received(store, dataset)).object
    with database.transaction() as tx:
        delete_objects(tx, [kept.id])
    with database.transaction() as tx:
        assert keep_object(tx, received(store, dataset)).outcome == "new"
    assert remove_files(database, store) == 0
    store.verify(kept.digest)


def test_an_object_whose_file_is_removed_while_it_comes_again_is_not_entered_unseen(database, store):
    dataset = xa(frames=1, rows=16, columns=16)
    again = received(store, dataset)
    with database.transaction() as tx:
        kept = keep_object(tx, again).object
    with database.transaction() as tx:
        delete_objects(tx, [kept.id])
    # Its file has come; then the earlier one's removal takes place, and then it is entered.
    remove_files(database, store)
    with pytest.raises(DamagedObject), database.transaction() as tx:
        keep_object(tx, again)
        store.open(again.digest)
    assert _left(database) == 0


def test_an_object_that_comes_again_while_its_rows_are_deleted_keeps_its_file(postgresql_url, store):
    database = Database(postgresql_url)
    database.migrate()
    dataset = xa(frames=1, rows=16, columns=16)
    again = received(store, dataset)
    with database.transaction() as tx:
        kept = keep_object(tx, again).object
    entered, removed, outcomes = threading.Event(), threading.Event(), []

    def enter() -> None:
        with database.transaction() as tx:
            outcomes.append(keep_object(tx, again).outcome)
            entered.set()
            removed.wait(60)

    other = threading.Thread(target=enter)
    with database.transaction() as tx:
        delete_objects(tx, [kept.id])
        other.start()
        # It waits for this transaction, of which it cannot know yet whether it will be kept.
        wait_until(lambda: _waits_for_a_lock(database), what="the other to wait")
    assert entered.wait(60)
    assert remove_files(database, store) == 0
    removed.set()
    other.join()
    assert outcomes == ["new"]
    store.verify(kept.digest)
    database.close()


def _waits_for_a_lock(database: Database) -> bool:
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with database.reading() as tx:
        return tx.execute(waiting).scalar_one() > 0


def test_what_another_transaction_is_about_is_left_alone(postgresql_url, store):
    database = Database(postgresql_url)
    database.migrate()
    kept = _kept(database, store)
    with database.transaction() as other:
        keep = other.get(StoredObject, kept.id, with_for_update={"read": True, "key_share": True})
        assert keep is not None
        with database.transaction() as tx:
            assert delete_objects(tx, [kept.id]) == []
    database.close()


def test_only_results_are_looked_at_where_only_results_are_asked_for(database, store):
    _delivered(database, store)
    with database.reading() as tx:
        numbers = deletable(tx, RESULTS, limit=10)
        assert [tx.get(StoredObject, number).kind for number in numbers] == [ObjectKind.RESULT] * 2
        assert deletable(tx, RESULTS, after=numbers[0], limit=10) == numbers[1:]


def test_an_unrouted_series_holds_nothing(database, store):
    kept = _kept(database, store)
    with database.transaction() as tx:
        touch_series(tx, kept, None, None)
    _age(database, 31)
    assert _pass(database, store) == 1
    with database.reading() as tx:
        assert tx.get(Series, kept.series_instance_uid).state == SeriesState.UNROUTED


@pytest.mark.parametrize("point", ["retention.deleted", "retention.removed", "database.before_commit"])
def test_a_death_in_the_middle_leaves_no_row_without_its_file_and_the_next_pass_clears_up(
    sqlite_url: str, store: ObjectStore, tmp_path: Path, point: str
):
    database = Database(sqlite_url)
    database.migrate()
    for number in range(3):
        _kept(database, store, seed=number)
    _age(database, 31)
    orders = tmp_path / "orders"
    orders.write_text(f"1 {point} 1 kill")
    program = """if True:
        import sys, threading
        from pathlib import Path
        from config.retention import RetentionSettings
        from dicom_node.workflow.retention import Retention
        from storage.database import Database
        from storage.files import ObjectStore
        settings = RetentionSettings(originals_days=30)
        Retention(Database(sys.argv[1]), ObjectStore(Path(sys.argv[2])), settings, threading.Event()).keep_to_days()
    """
    command = [sys.executable, "-c", program, sqlite_url, str(store.root)]
    ended = subprocess.run(command, env={**os.environ, VARIABLE: str(orders)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    with database.reading() as tx:
        for digest in tx.scalars(select(StoredObject.digest)):
            store.verify(digest)
    _pass(database, store)
    assert (_left(database), list(store.files())) == (0, [])
    with database.reading() as tx:
        assert len([row for row in trail(tx) if row.action == Action.OBJECT_DELETED]) == 3
    database.close()
