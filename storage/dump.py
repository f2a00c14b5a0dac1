"""A database as one file, and back: SQLite by its online backup, PostgreSQL by its own pg_dump and pg_restore."""

import os
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, func, make_url, select

from config.errors import ConfigError, DamagedObject, FullfieldError, StorageUnavailable
from storage.database import Database
from storage.files import StoredFile
from storage.schema import StoredObject

_FILES = select(StoredObject.digest, StoredObject.size).distinct().order_by(StoredObject.digest)


class ToolFailed(FullfieldError):
    """A program of PostgreSQL's could not do its work: the administrator mends it by what it says."""


def kind_of(url: str) -> str:
    """``sqlite`` or ``postgresql``: a dump can be loaded into its own kind only."""
    return make_url(url).get_backend_name()


def dump(url: str, database: Database, file: Path) -> list[StoredFile]:
    """Write all that is committed now into a new file, while others go on; the files of the objects in it."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _dump_sqlite(Path(parsed.database or ""), file)
    with database.reading() as tx:
        connection = tx.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        snapshot = connection.execute(select(func.pg_export_snapshot())).scalar_one()
        files = [StoredFile(digest, size) for digest, size in tx.execute(_FILES)]
        _run(parsed, "pg_dump", "--format=custom", "--no-owner", f"--snapshot={snapshot}", f"--file={file}")
    return files


def load(url: str, file: Path) -> None:
    """Make a database, which must not be there yet or be empty, what a dump holds; all of it or nothing."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        _run(parsed, "pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", str(file))
        return
    target = Path(parsed.database or "")
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as copy:
        source.backup(copy)
        _check(copy, file)
    for path in (part, target.parent):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    for beside in ("-wal", "-shm"):
        target.with_name(target.name + beside).unlink(missing_ok=True)
    part.rename(target)


def _dump_sqlite(source: Path, file: Path) -> list[StoredFile]:
    try:
        with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(file)) as copy:
            live.backup(copy)
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            _check(copy, source)
            rows = copy.execute(str(_FILES.compile())).fetchall()
    except sqlite3.OperationalError as error:
        raise StorageUnavailable(f"The database {source} cannot be copied now: {error}.") from error
    return [StoredFile(digest, size) for digest, size in rows]


def _check(connection: sqlite3.Connection, file: Path) -> None:
    try:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError:
        said = "damaged"
    if said != "ok":
        raise DamagedObject(f"The database {file} is damaged.")


def _run(url: URL, program: str, *arguments: str) -> None:
    """Not the password on the command line, where everybody on the machine could read it."""
    place = url.set(drivername="postgresql", password=None).render_as_string()
    environment = {**os.environ} | ({"PGPASSWORD": str(url.password)} if url.password else {})
    command: Sequence[str] = (program, f"--dbname={place}", *arguments)
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ConfigError(f"{program} is not installed; Debian has it in `postgresql-client`.") from error
    if done.returncode:
        first = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise ToolFailed(f"{program} could not do it: {first.removeprefix(f'{program}: ')}")
