"""`fullfield routes`: look for mistakes in the routes file, and ask which route an object would take."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.commands.options import SettingsFile, settings_in

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from config.routes import RouteTable

app = typer.Typer(help="Check the routes file, and try a DICOM file against it.")


@app.command()
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Routes file; without it the one that the settings name."),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Tell every mistake in a routes file by line and key.

    Exits with 1 if there is one; a node that reads such a file again keeps its old routes.

    Example: fullfield routes check routes.toml
    """
    from config.routes import load_routes

    file = file or settings_in(settings).routes
    table = load_routes(file)
    counted = f"{_count(len(table.routes), 'route')}, {_count(len(table.destinations), 'destination')}"
    typer.echo(f"{file}: no mistakes; {counted}.")
    for number, route in enumerate(table.routes, start=1):
        typer.echo(f"{number}. {route.name} -> {', '.join(route.destinations)}")


@app.command()
def test(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A DICOM file.")],
    calling_ae: Annotated[
        str | None,
        typer.Option(
            "--calling-ae",
            metavar="TITLE",
            help="AE title of the sender; without it the one that the file itself names, if any.",
        ),
    ] = None,
    called_ae: Annotated[
        str | None,
        typer.Option(
            "--called-ae",
            metavar="TITLE",
            help="AE title by which the node is called; without it `listener.ae_title`.",
        ),
    ] = None,
    routes: Annotated[
        Path | None,
        typer.Option("--routes", metavar="FILE", help="Routes file; without it the one that the settings name."),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Say which route would take a DICOM file, and why the others would not.

    Example: fullfield routes test cine.dcm --calling-ae CARM1
    """
    from config.routes import load_routes

    node = settings_in(settings)
    table = load_routes(routes or node.routes)
    header = _header(file)
    calling_ae = calling_ae if calling_ae is not None else _source_of(header)
    typer.echo(_verdict(table, header, calling_ae, called_ae or node.listener.ae_title))


def _verdict(table: "RouteTable", header: "Dataset", calling_ae: str, called_ae: str) -> str:
    from dicom_node.workflow.routing import choose

    decision = choose(table, header, calling_ae, called_ae)
    if decision.generated is not None:
        return f"No route takes it, whoever sends it, for {decision.generated}: it is kept and goes no further."
    who = f"Sent by {calling_ae} to {called_ae}" if calling_ae else f"Sent to {called_ae} by an unnamed sender"
    if decision.route is None:
        lines = [f"{who}, no route takes it: it is kept and goes no further."]
    else:
        route = decision.route
        lines = [f"{who}, route {route.name!r} takes it, and results go to {', '.join(route.destinations)}."]
    lines += [f"  {name}: {reason}" for name, reason in decision.reasons.items()]
    return "\n".join(lines)


def _header(file: Path) -> "Dataset":
    from pydicom import dcmread
    from pydicom.errors import BytesLengthException, InvalidDicomError

    from config.errors import UnsupportedImage

    try:
        header = dcmread(file, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise UnsupportedImage(f"{file}: is not a DICOM file.") from error
    except (
        BytesLengthException,
        EOFError,
        LookupError,
        NotImplementedError,
        ValueError,
        struct.error,
    ) as error:
        raise UnsupportedImage(f"{file}: is a damaged DICOM file.") from error
    if "SOPClassUID" not in header:
        raise UnsupportedImage(f"{file}: is no DICOM object, or a damaged one.")
    return header


def _source_of(header: "Dataset") -> str:
    """Source Application Entity Title (PS3.10 7.1) of the file."""
    meta = getattr(header, "file_meta", None)
    return str(meta.get("SourceApplicationEntityTitle", "")) if meta is not None else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
