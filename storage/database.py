"""The database: SQLite in a file, or PostgreSQL, behind the same few methods."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    ExceptionContext,
    bindparam,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from config.errors import ConfigError, DamagedDatabase, FullfieldError, StorageFull, StorageUnavailable
from storage import migrations
from storage.fair_lock import FairLock
from storage.faultpoint import faultpoint
from storage.schema import UtcTime

_SQLITE_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MEND_DAMAGED = ": move it aside with its object store, and restore both from a backup with `fullfield restore`."
_POSTGRESQL_DISK_FULL = "53100"

#: The clock of `current_time` within a query, which saves asking for the time before, by the kind of database.
CLOCKS: dict[str, ColumnElement[datetime]] = {
    "sqlite": bindparam("clock", type_=UtcTime(), callable_=lambda: datetime.now(UTC)),
    "postgresql": func.clock_timestamp(type_=UtcTime()),
}


class Database:
    """A pool of connections to one database.

    url: as SQLAlchemy writes it, ``sqlite:///var/fullfield.db`` or ``postgresql://user@host/name``.
    Raises ConfigError for an address that cannot be one; connects at first use. While it is used, a
    database that is locked, unreachable or restarting raises StorageUnavailable, a full disk StorageFull.
    """

    def __init__(self, url: str, lock_timeout_seconds: float = 10) -> None:
        parsed = _parsed(url)
        #: The address without its password, for people.
        self.place = parsed.render_as_string(hide_password=True)
        self._lock_timeout = lock_timeout_seconds
        #: SQLite has one writer at a time and makes the others poll: the threads of this process queue
        #: up here instead, as long as the queue moves, and only the processes poll.
        self._turn = FairLock() if parsed.get_backend_name() == "sqlite" else None
        self._writer = _engine(parsed, lock_timeout_seconds)
        self._reader = self._writer.execution_options(reading=True)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Everything done in the session is committed at exit; nothing of it after an error."""
        with (
            self._taking_turns(),
            self._errors_in_words(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session
            faultpoint("database.before_commit")
        faultpoint("database.committed")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session to read in: it waits for no writer, and nothing done in it is kept."""
        with self._errors_in_words(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    def migrate(self) -> None:
        """Bring the schema to this version's; ConfigError if it is a newer version's already."""
        with self._taking_turns(), self._errors_in_words(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(migrations.LOCK)))
            migrations.upgrade(connection)

    def is_new(self) -> bool:
        """Whether no version has made its schema yet."""
        with self._errors_in_words(), self._reader.connect() as connection:
            return migrations.is_new(connection)

    def check_pages(self) -> None:
        """DamagedDatabase if pages of an SQLite file are broken; a PostgreSQL server looks after its own."""
        with self._errors_in_words(), self._reader.connect() as connection:
            if connection.dialect.name != "sqlite":
                return
            said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if said != "ok":
            raise DamagedDatabase(f"The database {self.place} is damaged, or not a database{_MEND_DAMAGED}")

    def check(self) -> str:
        """The revision of the schema; ConfigError unless it is this version's."""
        with self._errors_in_words(), self._reader.connect() as connection:
            return migrations.check(connection)

    def close(self) -> None:
        """Give back all connections."""
        self._writer.dispose()

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(self._lock_timeout):
            raise StorageUnavailable(f"The database {self.place} was busy for {self._lock_timeout:g} s.")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _errors_in_words(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise StorageUnavailable(f"No connection to the database {self.place} became free.") from error
        except DBAPIError as error:
            in_words = _in_words(error, self.place)
            if in_words is None:
                raise
            raise in_words from error


def current_time(tx: Session) -> datetime:
    """The time by the clock that all processes share: PostgreSQL's, or with SQLite this machine's."""
    if tx.get_bind().dialect.name == "sqlite":
        return datetime.now(UTC)
    return tx.scalars(select(CLOCKS["postgresql"])).one()


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError("The database's address is none; sqlite:///var/fullfield.db would be one.") from error
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"The database is to be sqlite or postgresql, not {backend}.")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.database in (None, "", ":memory:"):
        raise ConfigError("The database is to be a file: several processes share it.")
    return parsed


def _engine(url: URL, lock_timeout: float) -> Engine:
    # Parameters are UIDs and AE titles, which have no place in error texts: hide_parameters.
    shared: dict[str, Any] = {"pool_timeout": lock_timeout, "hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, lock_timeout, shared)
    return _postgresql(url, lock_timeout, shared)


def _sqlite(url: URL, lock_timeout: float, shared: dict[str, Any]) -> Engine:
    folder = Path(url.database or "").parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The database's folder {folder} cannot be made: {error.strerror}.") from error
    engine = create_engine(url, connect_args={"timeout": lock_timeout}, **shared)

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _: object) -> None:
        # The driver would begin transactions by itself, late and not IMMEDIATE.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # WAL lets readers read while one writes; FULL makes a commit survive a power cut.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that first reads and then writes would fail, not wait, if another wrote between.
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, lock_timeout: float, shared: dict[str, Any]) -> Engine:
    options = f"-c lock_timeout={int(lock_timeout * 1000)} -c timezone=UTC"
    try:
        engine = create_engine(
            url,
            connect_args={"connect_timeout": max(2, int(lock_timeout)), "options": options},
            pool_pre_ping=True,
            **shared,
        )
    except ModuleNotFoundError as error:
        raise ConfigError("PostgreSQL needs a driver: pip install 'fullfield[postgres]'.") from error

    @event.listens_for(engine, "handle_error")
    def leave_out_values(context: ExceptionContext) -> None:
        # The server's DETAIL of a broken constraint quotes the row.
        for error in (context.original_exception, context.sqlalchemy_exception):
            if error is not None and error.args:
                error.args = (str(error.args[0]).partition("\nDETAIL")[0],)

    return engine


def _in_words(error: DBAPIError, place: str) -> FullfieldError | None:
    """The error as one that says who mends it; None for a mistake in our own SQL."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        primary_code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if primary_code == sqlite3.SQLITE_FULL:
            return StorageFull(f"The disk with the database {place} is full.")
        if primary_code in _SQLITE_DAMAGED:
            return DamagedDatabase(f"The database {place} is damaged, or not a database{_MEND_DAMAGED}")
        if isinstance(error, OperationalError) and primary_code != sqlite3.SQLITE_ERROR:
            return StorageUnavailable(f"The database {place} cannot be used now: {cause}.")
        return None
    if getattr(cause, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
        return StorageFull(f"The disk of the database {place} is full.")
    if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError):
        first_line = str(cause).partition("\n")[0]
        return StorageUnavailable(f"The database {place} cannot be used now: {first_line}.")
    return None
