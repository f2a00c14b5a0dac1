"""What the commands that look into a node's database share: opening it, and printing what it holds."""

import getpass
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.commands.options import settings_in

if TYPE_CHECKING:
    from rich.table import Table

    from storage.database import Database
    from storage.files import ObjectStore
    from storage.schema import Table as Row

#: Columns of the output when it goes into a file or another program.
_WIDE = 240


@contextmanager
def database_of(settings_file: Path | None) -> Iterator["Database"]:
    """The database of the node with these settings, its schema checked; ConfigError if there is none yet."""
    from config.errors import ConfigError
    from storage.database import Database

    storage = settings_in(settings_file).storage
    file = storage.database_url.removeprefix("sqlite:///")
    if file != storage.database_url and not Path(file).is_file():
        raise ConfigError(
            f"There is no database {file} yet: start `fullfield node` once, or name its settings by --settings."
        )
    database = Database(storage.database_url)
    try:
        database.check()
        yield database
    finally:
        database.close()


@contextmanager
def storage_at(settings_file: Path | None) -> Iterator[tuple["Database", "ObjectStore"]]:
    """The database and the object store of the node with these settings; ConfigError if there are none yet."""
    from config.errors import ConfigError
    from storage.files import ObjectStore

    root = settings_in(settings_file).storage.root
    with database_of(settings_file) as database:
        if not root.is_dir():
            raise ConfigError(f"There is no object store {root}: is its disk mounted?")
        yield database, ObjectStore(root)


def person() -> str:
    """Who gives the command, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def print_table(table: "Table") -> None:
    """Print as wide as the terminal is, and without cutting anything where there is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = shutil.get_terminal_size().columns if console.is_terminal else _WIDE
    console.print(table)


def local(time: datetime | None) -> str:
    """A time in the machine's time zone, to the second; nothing for none."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time is not None else ""


def as_json(row: "Row") -> dict[str, Any]:
    """A row's columns by name, as JSON can hold them; times are UTC."""
    values = {column.key: getattr(row, column.key) for column in row.__table__.columns}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}
