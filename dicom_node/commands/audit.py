"""`fullfield audit`: the story of a study or a job, and whether anybody has touched the trail."""

import json
from typing import Annotated

import typer

from dicom_node.commands.options import SettingsFile
from dicom_node.commands.records import as_json, database_of, print_table


def audit(
    study: Annotated[str | None, typer.Option(metavar="UID", help="What happened to the study with this UID.")] = None,
    job: Annotated[int | None, typer.Option(metavar="N", help="What happened in this job.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many steps, the newest; without any choice 50.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that no row was changed or removed; only this, if alone.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of a table.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Tell what happened, step by step: who sent what, what was decided, what was made, where it went.

    Exits with 1 if nothing is known of the study or job, or if the trail was tampered with.

    Example: fullfield audit --study 1.2.840.99999.1 --verify
    """
    from config.errors import ConfigError
    from dicom_node.audit import story
    from storage import audit_trail

    chosen = study is not None or job is not None or limit is not None
    with database_of(settings) as database, database.reading() as tx:
        if verify:
            count = audit_trail.verify(tx)
            typer.echo(f"The audit trail is whole: {count} rows, each chained to the one before.", err=json_)
            if not chosen and not json_:
                return
        rows = audit_trail.trail(tx, study=study, job=job, limit=limit if chosen else 50)
    if not rows and chosen:
        named = [f"study {study}"] * (study is not None) + [f"job {job}"] * (job is not None)
        raise ConfigError(f"The audit trail tells nothing of {' and '.join(named) or 'anything'}.")
    if json_:
        typer.echo(json.dumps([as_json(row) for row in rows], indent=1))
    else:
        print_table(story(rows))
