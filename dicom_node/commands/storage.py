"""`fullfield storage`: what is kept and why, legal holds, and whether it is all still as it came."""

from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import SettingsFile, settings_in
from dicom_node.commands.records import local, person, print_table, storage_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.files import StoredFile
    from storage.scrub import Verdict

app = typer.Typer(help="Show what is kept, hold studies, and compare all files with their digests.")

Study = Annotated[str, typer.Argument(metavar="STUDY", help="Study Instance UID.")]


@app.command()
def show(settings: SettingsFile = None) -> None:
    """Show how much is kept of each kind, how much room there is, what is damaged, and which studies are held.

    Example: fullfield storage show
    """
    from rich.table import Table
    from rich.text import Text

    from storage.refetches import last_refetch
    from storage.retention import holds, kept
    from storage.scrub import damaged

    chosen = settings_in(settings).storage
    with storage_at(settings) as (database, store), database.reading() as tx:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for kind, (count, size) in kept(tx).items():
            table.add_row(kind.value, f"{count} objects, {size >> 20} MB")
        free = f"{store.free_bytes() >> 20} MB; low below {chosen.low_mb} MB, full below {chosen.full_below_mb} MB"
        table.add_row("free", free)
        for object in damaged(tx):
            fetch = last_refetch(tx, object.sop_instance_uid)
            reason = f", {fetch.reason}" if fetch is not None and fetch.reason else ""
            asked = f"; asked for again of {fetch.archive}: {fetch.state}{reason}" if fetch is not None else ""
            table.add_row("damaged", Text(f"{object.sop_instance_uid}: {object.damage}{asked}"))
        for hold in holds(tx):
            since = f"since {local(hold.placed_at)}, by {hold.placed_by}: {hold.reason}"
            table.add_row("held", Text(f"{hold.study_instance_uid}, {since}"))
    print_table(table)


@app.command()
def hold(
    study: Study,
    reason: Annotated[str, typer.Option(help="Why, for those who come after.")],
    settings: SettingsFile = None,
) -> None:
    """Have nothing of a study deleted, until it is released; also what is yet to come of it.

    Example: fullfield storage hold 1.2.840.99999.1 --reason "case 4711"
    """
    from dicom_node.audit import Action, record
    from storage.retention import place_hold

    with storage_at(settings) as (database, _), database.transaction() as tx:
        is_new = place_hold(tx, study, reason=reason, by=person())
        if is_new:
            told = {"reason": reason}
            record(tx, Action.HOLD_PLACED, actor=person(), study_instance_uid=study, details=told)
    typer.echo(f"Study {study} is held{'' if is_new else ' already'}.")


@app.command()
def release(study: Study, settings: SettingsFile = None) -> None:
    """Lift the legal hold of a study: it is deleted when its days are over.

    Example: fullfield storage release 1.2.840.99999.1
    """
    from config.errors import ConfigError
    from dicom_node.audit import Action, record
    from storage.retention import lift_hold

    with storage_at(settings) as (database, _), database.transaction() as tx:
        if not lift_hold(tx, study):
            raise ConfigError(f"Study {study} is not held.")
        record(tx, Action.HOLD_LIFTED, actor=person(), study_instance_uid=study)
    typer.echo(f"Study {study} is released.")


@app.command()
def verify(settings: SettingsFile = None) -> None:
    """Compare every file with its digest now, and look for files that no object has; a line for each finding.

    A file that has changed is moved into `quarantine`. Exits with 1 if an object is damaged. May run beside a node.

    Example: fullfield storage verify
    """
    count = broken = 0
    for verdict in _verdicts(settings):
        count += 1
        if verdict.damage is not None:
            broken += 1
            typer.echo(f"{verdict.damage}: object {verdict.sop_instance_uid}, {verdict.digest}")
        elif verdict.is_news:
            typer.echo(f"whole again: object {verdict.sop_instance_uid}, {verdict.digest}")
    with storage_at(settings) as (database, store):
        from storage.scrub import orphans

        for file in orphans(database, store):
            typer.echo(f"orphan: no object has {file.digest}, {file.size} bytes")
    if broken:
        typer.echo(f"fullfield: {broken} of {count} objects are damaged.", err=True)
        raise typer.Exit(1)
    typer.echo(f"All {count} objects are whole.")


@app.command()
def repair(settings: SettingsFile = None) -> None:
    """Mend what is safe to mend: files that no object has are moved aside, and what is damaged is looked at again.

    What can be mended by nobody but a person is told, with what to do. Nothing is deleted. May run beside a node, which
    then asks anew for originals whose route has `refetch`.

    Example: fullfield storage repair
    """
    from dicom_node.audit import Action, record
    from dicom_node.workflow.scrubbing import scrub
    from storage.scrub import damaged, orphans

    with storage_at(settings) as (database, store):
        moved: list[StoredFile] = []
        for file in orphans(database, store):
            if store.quarantine(file.digest) is not None:
                moved.append(file)
                typer.echo(f"moved aside: {store.quarantined / file.digest}")
        if moved:
            told = {"files": len(moved), "bytes": sum(file.size for file in moved)}
            with database.transaction() as tx:
                record(tx, Action.ORPHANS_MOVED, actor=person(), details=told)
        with database.reading() as tx:
            broken = damaged(tx)
        verdicts = scrub(database, store, broken, lambda _: True) if broken else []
    left = [verdict for verdict in verdicts if verdict.damage is not None]
    for verdict in left:
        typer.echo(f"still {verdict.damage}: object {verdict.sop_instance_uid}, {verdict.digest}")
    typer.echo(f"{len(moved)} files moved aside, {len(verdicts) - len(left)} objects whole again, {len(left)} damaged.")
    if left:
        ways = "when it is sent again, from a backup, or from an archive that its route names with `refetch`"
        typer.echo(f"fullfield: What is damaged comes back {ways}.", err=True)
        raise typer.Exit(1)


def _verdicts(settings: SettingsFile) -> "Iterator[Verdict]":
    """Of every object that was kept before now, with a bar that shows how far it is."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from dicom_node.workflow.scrubbing import AT_ONCE, scrub
    from storage.database import current_time
    from storage.scrub import bytes_unread, longest_unread

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with storage_at(settings) as (database, store), Progress(*columns, console=Console(stderr=True)) as progress:
        with database.reading() as tx:
            began = current_time(tx)
            task = progress.add_task("", total=bytes_unread(tx, before=began))
        while True:
            with database.reading() as tx:
                objects = longest_unread(tx, before=began, limit=AT_ONCE)
            if not objects:
                return
            for verdict in scrub(database, store, objects, lambda _: True):
                progress.advance(task, verdict.size)
                yield verdict
