"""`fullfield backup` and `fullfield restore`: all that is kept, into a folder and back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.commands.options import SettingsFile, settings_in
from dicom_node.commands.records import person, storage_at

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


def backup(folder: Folder, settings: SettingsFile = None) -> None:
    """Back up database and object store while the node goes on; all that was acknowledged before is in it.

    Into the folder of an earlier backup only what is new is copied, and the earlier one is replaced when this one is
    whole. PostgreSQL needs pg_dump. Settings, routes and certificates are files of yours: keep them beside it.

    Example: fullfield backup /mnt/backup/fullfield
    """
    from dicom_node.audit import Action, record
    from storage.backup import back_up

    url = settings_in(settings).storage.database_url
    with storage_at(settings) as (database, store):
        with _bar("backing up") as progress:
            made = back_up(url, database, store, folder, progress)
        told = {"folder": str(folder.absolute()), "objects": made.objects, "bytes": made.bytes, "missing": made.missing}
        with database.transaction() as tx:
            record(tx, Action.BACKED_UP, actor=person(), outcome="failed" if made.missing else "success", details=told)
    typer.echo(f"{made.objects - made.missing} objects and the database, {made.bytes >> 20} MB, as of {made.made_at}.")
    if made.missing:
        typer.echo(
            f"fullfield: {made.missing} objects are missing or damaged here, and are not in the backup; "
            "`fullfield storage verify` names them.",
            err=True,
        )
        raise typer.Exit(1)


def restore(folder: Folder, settings: SettingsFile = None) -> None:
    """Put a backup into a data root that is empty, with a database that is new; then start the node as ever.

    What was received after the backup is not in it. What was being done then is done again: results have the same
    UIDs, and PACS takes them as the same. PostgreSQL needs pg_restore, and an empty database.

    Example: fullfield restore /mnt/backup/fullfield --settings fullfield.toml
    """
    from config.errors import ConfigError
    from dicom_node.audit import Action, record
    from storage.backup import read_backup, restore
    from storage.database import Database
    from storage.files import ObjectStore
    from storage.root_lock import RootLock

    storage = settings_in(settings).storage
    held = read_backup(folder)
    storage.root.mkdir(parents=True, exist_ok=True)
    lock = RootLock(storage.root, shared=False)
    lock.acquire()
    store, database = ObjectStore(storage.root), Database(storage.database_url)
    try:
        if not database.is_new() or next(store.files(), None) is not None:
            raise ConfigError(
                f"{storage.root} or {database.place} is not empty: a backup is restored into an empty root and a new "
                "database; move aside what is there."
            )
        database.close()
        with _bar("restoring") as progress:
            lacking = restore(storage.database_url, store, folder, progress)
        told = {"folder": str(folder.absolute()), "made_at": held.made_at, "missing": len(lacking)}
        with database.transaction() as tx:
            record(tx, Action.RESTORED, actor=person(), outcome="failed" if lacking else "success", details=told)
    finally:
        database.close()
        lock.release()
    typer.echo(f"{held.objects - len(lacking)} objects and the database, as of {held.made_at}.")
    for digest in lacking:
        typer.echo(f"missing: {digest}")
    if lacking:
        typer.echo(f"fullfield: {len(lacking)} objects of the backup are missing or damaged in it.", err=True)
        raise typer.Exit(1)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that shows how many bytes are done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)
