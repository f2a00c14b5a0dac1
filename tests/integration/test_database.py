"""The database keeps what was committed, has the schema of this version, and says what is wrong with it."""

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, StatementError

from config.errors import ConfigError, DamagedDatabase, StorageFull, StorageUnavailable
from storage.database import Database, current_time
from storage.schema import Delivery, Series, StoredObject, Table
from storage.states import DeliveryState, SeriesState
from tests.peers import free_port, postgresql

NOON = datetime(2024, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)


def series(uid: str = "1.2.3", **columns) -> Series:
    told = {"study_instance_uid": "1.2", "state": SeriesState.OPEN, "last_received_at": NOON}
    return Series(series_instance_uid=uid, **{**told, **columns})


def count(database: Database) -> int:
    with database.reading() as tx:
        return tx.scalars(select(func.count()).select_from(Series)).one()


# Schema


def test_migrating_makes_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.reading() as tx:
        context = MigrationContext.configure(tx.connection(), opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    revision = database.check()
    with database.transaction() as tx:
        tx.add(series())
    database.migrate()
    assert database.check() == revision
    assert count(database) == 1


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    program = "import sys; from storage.database import Database; Database(sys.argv[1]).migrate()"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, database_url], stderr=subprocess.PIPE) for _ in range(4)
    ]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error.decode()
    database = Database(database_url)
    database.check()
    database.close()


def test_a_database_without_tables_is_told_from_one_that_is_ready(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(ConfigError, match="older schema"):
        database.check()
    database.close()


def test_the_schema_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer schema \\(9999\\)"):
        database.check()
    with pytest.raises(ConfigError, match="newer schema \\(9999\\)"):
        database.migrate()


# Transactions


def test_what_is_committed_stays_and_an_error_undoes_everything(database: Database) -> None:
    with database.transaction() as tx:
        tx.add(series("1"))
    with pytest.raises(RuntimeError), database.transaction() as tx:
        tx.add(series("2"))
        tx.flush()
        raise RuntimeError
    assert count(database) == 1


def test_nothing_done_while_reading_is_kept(database: Database) -> None:
    with database.reading() as tx:
        tx.add(series())
        tx.flush()
    assert count(database) == 0


def test_readers_wait_for_no_writer(database: Database) -> None:
    with database.transaction() as writer:
        writer.add(series())
        writer.flush()
        assert count(database) == 0
    assert count(database) == 1


def test_rows_can_be_used_after_their_transaction(database: Database) -> None:
    with database.transaction() as tx:
        row = series()
        tx.add(row)
    assert row.state == SeriesState.OPEN


def test_many_threads_that_write_lose_nothing(database: Database) -> None:
    def write(number: int) -> None:
        with database.transaction() as tx:
            assert tx.scalars(select(func.count()).select_from(Series)).one() >= 0
            tx.add(series(str(number)))

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(write, range(60)))
    assert count(database) == 60


def test_a_process_killed_in_a_transaction_leaves_the_committed_ones(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    program = """if True:
        import sys, time
        from storage.database import Database
        from tests.integration.test_database import series
        database = Database(sys.argv[1])
        with database.transaction() as tx:
            tx.add(series("1"))
        with database.transaction() as tx:
            tx.add(series("2"))
            tx.flush()
            print("flushed", flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", program, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"flushed\n"
        process.send_signal(signal.SIGKILL)
    assert count(database) == 1
    with database.transaction() as tx:
        tx.add(series("2"))
    assert count(database) == 2
    database.close()


def test_a_row_that_refers_to_no_job_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as tx:
        told = {"attempts": 0, "not_before": NOON, "created_at": NOON, "state": DeliveryState.WAITING}
        tx.add(Delivery(job_id=1, object_id=1, destination="pacs", **told))


def test_sqlite_syncs_every_commit_to_a_write_ahead_log(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.reading() as tx:
        settings = {
            name: tx.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000}
    database.close()


# Times


def test_times_come_back_in_utc_to_the_microsecond(database: Database) -> None:
    with database.transaction() as tx:
        tx.add(series(last_received_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))))
    with database.reading() as tx:
        read = tx.scalars(select(Series)).one()
        assert read.last_received_at == NOON
        assert read.last_received_at.utcoffset() == timedelta(0)
        assert read.due_at is None
        assert tx.scalars(select(Series).where(Series.last_received_at <= NOON)).one() is read
        assert tx.scalars(select(Series).where(Series.last_received_at < NOON)).one_or_none() is None


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without a time zone"), database.transaction() as tx:
        tx.add(series(last_received_at=datetime(2024, 5, 6)))


def test_the_current_time_is_now_in_utc(database: Database) -> None:
    with database.reading() as tx:
        first, second = current_time(tx), current_time(tx)
    assert first <= second and first.utcoffset() == timedelta(0)
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


# What goes wrong


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another process's transaction that will not end."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    else:
        other = psycopg.connect(url)
        other.execute("LOCK TABLE series IN ACCESS EXCLUSIVE MODE")
    yield
    other.close()


def test_a_locked_database_is_unavailable_until_it_is_free(database: Database, database_url: str) -> None:
    impatient = Database(database_url, lock_timeout_seconds=0.2)
    with (
        locked(database_url),
        pytest.raises(StorageUnavailable, match="cannot be used now"),
        impatient.transaction() as tx,
    ):
        tx.add(series())
    with impatient.transaction() as tx:
        tx.add(series())
    assert count(database) == 1
    impatient.close()


def test_a_thread_that_waits_too_long_for_another_is_told_so(sqlite_url: str) -> None:
    database = Database(sqlite_url, lock_timeout_seconds=0.2)
    database.migrate()
    inside, done = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with database.transaction() as tx:
            tx.add(series("1"))
            inside.set()
            done.wait(30)

    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(write_slowly)
        inside.wait(30)
        with pytest.raises(StorageUnavailable, match="was busy for"), database.transaction():
            pass
        done.set()
        slow.result(30)
    assert count(database) == 1
    database.close()


def test_a_full_disk_is_told_as_such_and_what_was_committed_stays(small_disk: Path) -> None:
    database = Database(f"sqlite:///{small_disk / 'fullfield.db'}")
    database.migrate()
    with database.transaction() as tx:
        tx.add(series("1"))
    with pytest.raises(StorageFull, match="is full"):
        for number in range(2, 2000):
            with database.transaction() as tx:
                tx.add(series(str(number), route="r" * 10000))
    assert count(database) >= 1
    database.close()


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / "fullfield.db").write_bytes(b"no database" * 1000)
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}")
    with pytest.raises(DamagedDatabase, match="damaged, or not a database"):
        database.migrate()
    database.close()


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told() -> None:
    database = Database(f"postgresql://fullfield:secret@127.0.0.1:{free_port()}/fullfield")
    with pytest.raises(StorageUnavailable, match="cannot be used now") as told:
        database.check()
    assert "secret" not in str(told.value)
    database.close()


def test_a_server_that_comes_back_is_used_again(tmp_path: Path) -> None:
    with postgresql(tmp_path / "server") as url:
        database = Database(url)
        database.migrate()
        with pytest.raises(StorageUnavailable), database.transaction() as tx:
            tx.add(series("1"))
            tx.flush()
            end_other_connections(url)
            tx.add(series("2"))
        with database.transaction() as tx:
            tx.add(series("3"))
        assert count(database) == 1
        end_other_connections(url)
        assert count(database) == 1
        database.close()


def end_other_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("fullfield.db", "address"),
        ("mysql://127.0.0.1/fullfield", "sqlite or postgresql, not mysql"),
        ("sqlite://", "a file"),
        ("sqlite:///:memory:", "a file"),
    ],
)
def test_an_address_that_cannot_be_one_is_a_mistake_of_the_settings(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Database(url)


def test_the_folder_of_the_database_is_made(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a' / 'b' / 'fullfield.db'}")
    database.migrate()
    database.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        Database(f"sqlite:///{tmp_path / 'file' / 'fullfield.db'}")


def test_a_mistake_in_a_query_is_not_taken_for_a_database_that_is_unavailable(database: Database) -> None:
    with pytest.raises((OperationalError, ProgrammingError)), database.reading() as tx:
        tx.execute(text("SELECT * FROM nothing"))


def test_error_texts_hold_no_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as told, database.transaction() as tx:
        tx.add(StoredObject(study_instance_uid="1.2.840.999", received_at=NOON))
    assert "1.2.840.999" not in f"{told.value} {told.value.orig}"
