"""The audit trail is append-only, and shows it when someone got past that."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from config.errors import DamagedObject
from storage.audit_trail import BEGINNING, AuditEntry, append, trail, verify
from storage.database import Database
from storage.schema import Series
from storage.states import SeriesState


def entry(action: str = "object_received", **told) -> AuditEntry:
    return AuditEntry(action=action, outcome="success", actor="listener", **told)


def test_rows_are_numbered_and_chained(database: Database) -> None:
    with database.transaction() as tx:
        append(tx, entry("first"))
        append(tx, entry("second"))
    with database.transaction() as tx:
        append(tx, entry("third"))
    with database.reading() as tx:
        rows = trail(tx)
        assert [(row.id, row.action) for row in rows] == [(1, "first"), (2, "second"), (3, "third")]
        assert [row.previous_hash for row in rows] == [BEGINNING, rows[0].hash, rows[1].hash]
        assert verify(tx) == 3


def test_an_empty_trail_is_whole(database: Database) -> None:
    with database.reading() as tx:
        assert verify(tx) == 0


def test_a_row_tells_all_it_was_told(database: Database) -> None:
    told = {
        "peer_ae": "CARM",
        "peer_address": "127.0.0.1",
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "sop_instance_uid": "1.2.3.4",
        "job_id": 7,
        "model_digest": "d" * 64,
        "details": {"reason": "größer \ud83d", "seed": 2**53, "share": 0.1, "list": [1, None, {"b": 1}]},
    }
    with database.transaction() as tx:
        row = append(tx, entry(**told))
    with database.reading() as tx:
        [read] = trail(tx)
        assert {name: getattr(read, name) for name in told} == told
        assert read.at == row.at and read.at.utcoffset().total_seconds() == 0
        assert verify(tx) == 1


def test_what_is_told_in_a_transaction_is_undone_with_it(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as tx:
        append(tx, entry())
        raise RuntimeError
    with database.reading() as tx:
        assert trail(tx) == []


def test_a_row_can_be_read_in_the_transaction_that_tells_it(database: Database) -> None:
    with database.transaction() as tx:
        append(tx, entry("first"))
        assert [row.action for row in trail(tx)] == ["first"]
        append(tx, entry("second"))
    with database.reading() as tx:
        assert verify(tx) == 2


def test_details_that_json_cannot_hold_are_refused_at_once(database: Database) -> None:
    with database.transaction() as tx:
        with pytest.raises(TypeError):
            append(tx, entry(details={"folder": object()}))
        with pytest.raises(ValueError):
            append(tx, entry(details={"psnr": float("nan")}))


def test_the_trail_of_a_study_and_of_a_job(database: Database) -> None:
    with database.transaction() as tx:
        append(tx, entry("a", study_instance_uid="1.2"))
        append(tx, entry("b", study_instance_uid="1.3", job_id=1))
        append(tx, entry("c", study_instance_uid="1.2", job_id=2))
        append(tx, entry("d"))
    with database.reading() as tx:
        assert [row.action for row in trail(tx, study="1.2")] == ["a", "c"]
        assert [row.action for row in trail(tx, job=1)] == ["b"]
        assert [row.action for row in trail(tx, limit=2)] == ["c", "d"]


@pytest.mark.parametrize("command", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_rows_cannot_be_changed_or_deleted(database: Database, command: str) -> None:
    with database.transaction() as tx:
        append(tx, entry())
    with pytest.raises(DBAPIError, match="append-only"), database.transaction() as tx:
        tx.execute(text(command))
    with database.reading() as tx:
        assert verify(tx) == 1


def test_the_trail_cannot_be_truncated_on_postgresql(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    database.migrate()
    with pytest.raises(DBAPIError, match="append-only"), database.transaction() as tx:
        tx.execute(text("TRUNCATE audit"))
    database.close()


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'nobody'",
        "outcome = 'refused'",
        "peer_ae = NULL",
        "sop_instance_uid = '1.2'",
        "at = (SELECT at FROM audit WHERE id = 3)",
        "details = '{}'",
        "hash = (SELECT hash FROM audit WHERE id = 3)",
    ],
)
def test_a_changed_row_is_found(database: Database, change: str) -> None:
    fill_and_tamper(database, f"UPDATE audit SET {change} WHERE id = 2")
    with database.reading() as tx, pytest.raises(DamagedObject, match="Row 2 of the audit trail was changed"):
        verify(tx)


def test_a_deleted_row_is_found(database: Database) -> None:
    fill_and_tamper(database, "DELETE FROM audit WHERE id = 2")
    with database.reading() as tx, pytest.raises(DamagedObject, match="Row 2 of the audit trail is missing"):
        verify(tx)


def fill_and_tamper(database: Database, command: str) -> None:
    with database.transaction() as tx:
        for number in range(3):
            append(tx, entry(peer_ae="CARM", details={"number": number}))
    with database.transaction() as tx:
        if tx.get_bind().dialect.name == "postgresql":
            tx.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
        else:
            tx.execute(text("DROP TRIGGER audit_no_update"))
            tx.execute(text("DROP TRIGGER audit_no_delete"))
        tx.execute(text(command))


def test_many_writers_make_one_chain(database: Database) -> None:
    def write(number: int) -> None:
        with database.transaction() as tx:
            append(tx, entry(f"{number} a"))
            append(tx, entry(f"{number} b"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(40)))
    with database.reading() as tx:
        assert verify(tx) == 80


def test_writers_that_tell_early_and_lock_late_do_not_block_each_other(database: Database) -> None:
    """One tells and then asks for a row, the other holds the row and then tells: both come through."""
    with database.transaction() as tx:
        append(tx, entry("before"))
        row = Series(series_instance_uid="1.2", study_instance_uid="1", state=SeriesState.OPEN, route="r")
        row.last_received_at = append(tx, entry()).at
        tx.add(row)
    together = threading.Barrier(2)

    def tell_then_lock() -> None:
        with database.transaction() as tx:
            append(tx, entry("told first"))
            if database.place.startswith("postgresql"):
                together.wait(30)
            tx.get(Series, "1.2", with_for_update=True).route = "late"

    def lock_then_tell() -> None:
        with database.transaction() as tx:
            tx.get(Series, "1.2", with_for_update=True).route = "early"
            if database.place.startswith("postgresql"):
                together.wait(30)
            append(tx, entry("told last"))

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(tell_then_lock), threads.submit(lock_then_tell)]:
            done.result(60)
    with database.reading() as tx:
        assert verify(tx) == 4
