"""`fullfield doctor`: look at everything that a node needs, and say how to mend what is amiss."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.commands.options import SettingsFile, settings_in

if TYPE_CHECKING:
    from dicom_node.checks import Finding

_STYLES = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


def doctor(settings: SettingsFile = None) -> None:
    """Check settings, routes, port, database, disk, weights, device, destinations and clock, a line each.

    Below what is amiss stands how to mend it. Exits with 1 if anything fails.

    Example: fullfield doctor --settings fullfield.toml
    """
    from rich.console import Console

    # Else the one thing that a person looks for would be cut or wrapped where there is no terminal.
    console = Console(highlight=False, soft_wrap=True)
    failed = 0
    for finding in _findings(settings):
        failed += finding.level == "FAIL"
        console.print(f"{finding.level:4}", style=_STYLES[finding.level], end="  ")
        console.print(f"{finding.about}: {finding.said}", markup=False)
        if finding.mend:
            console.print(f"      -> {finding.mend}", markup=False)
    if failed:
        typer.echo(f"fullfield: {failed} of the checks failed.", err=True)
        raise typer.Exit(1)


def _findings(file: Path | None) -> Iterator["Finding"]:
    from config.errors import ConfigError
    from config.routes import load_routes
    from dicom_node.checks import Finding, Level, check_all

    mend = "Correct it; config/examples explains every key."
    try:
        settings = settings_in(file)
    except ConfigError as error:
        for said in str(error).splitlines():
            yield Finding(Level.FAIL, "settings", said, mend)
        return
    yield Finding(Level.OK, "settings", f"node {settings.listener.ae_title}, data in {settings.storage.root}.")
    table = None
    try:
        table = load_routes(settings.routes)
        counted = f"{_counted(len(table.routes), 'route')} to {_counted(len(table.destinations), 'destination')}"
        if table.routes:
            yield Finding(Level.OK, "routes", f"{settings.routes}: {counted}.")
        else:
            said = f"{settings.routes} has no route: what is received goes no further."
            yield Finding(Level.WARN, "routes", said, "Write one; config/examples/routes.toml explains how.")
    except ConfigError as error:
        for said in str(error).splitlines():
            yield Finding(Level.FAIL, "routes", said, mend)
    yield from check_all(settings, table)


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
