"""`fullfield send`: push DICOM files to a node or an archive, as a modality would."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.errors import ConfigError, DamagedObject, PeerRefused, PeerUnavailable
from dicom_node.commands.inputs import Inputs, dicom_files
from dicom_node.commands.options import SettingsFile, settings_in

if TYPE_CHECKING:
    from config.routes import Destination
    from dicom_node.network.tls import Credentials

#: Storage Media Storage Directory (PS3.10 8.6): the table of contents of a medium, not an object to send.
_DIRECTORY = "1.2.840.10008.1.3.10"


def send(
    inputs: Inputs,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NAME|HOST:PORT:AE",
            help="Name of a destination in the routes file, or an address with the AE title to call.",
        ),
    ],
    calling_ae: Annotated[
        str | None,
        typer.Option("--calling-ae", metavar="TITLE", help="AE title to call by; without it `listener.ae_title`."),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Send DICOM files by C-STORE; a line for each that the peer refuses.

    Exits with 1 unless the peer has acknowledged all of them.

    Example: fullfield send cine/ --to localhost:11112:FULLFIELD --calling-ae CARM1
    """
    from rich.console import Console
    from rich.progress import Progress

    from dicom_node.network.tls import credentials_of

    node = settings_in(settings)
    destination = _destination(to, calling_ae, node.routes)
    title = destination.calling_ae or node.listener.ae_title
    credentials = credentials_of(node.tls) if destination.tls else None
    groups = _by_kind([found.path for found in dicom_files(inputs)])
    total = sum(len(group) for group in groups)
    acknowledged = 0
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    unreachable: PeerUnavailable | None = None
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Sending", total=total)
        try:
            for outcome in _outcomes(destination, title, groups, node.delivery.timeout_seconds, credentials):
                acknowledged += outcome.count if outcome.refusal is None else 0
                progress.advance(task, outcome.count)
                if outcome.refusal is not None:
                    progress.console.print(outcome.refusal, markup=False, highlight=False, soft_wrap=True)
        except PeerUnavailable as error:
            unreachable = error
    if unreachable is not None:
        raise PeerUnavailable(f"{unreachable} {acknowledged} of {total} objects were acknowledged.")
    typer.echo(f"{acknowledged} of {total} objects acknowledged by {where}.")
    if acknowledged < total:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Outcome:
    """What became of one object, or of several that share their fate."""

    count: int
    #: Why they were refused, in a line; None for acknowledged.
    refusal: str | None = None


def _outcomes(
    destination: "Destination",
    calling_ae: str,
    groups: list[list[Path]],
    timeout_seconds: float,
    credentials: "Credentials | None",
) -> Iterator[_Outcome]:
    """Send each group over an association, and over another one after each object that was refused."""
    from dicom_node.network.sender import ObjectRefused
    from dicom_node.network.sender import send as send_over_association

    for group in groups:
        left = group
        while left:
            done = 0
            try:
                for _ in send_over_association(destination, calling_ae, left, timeout_seconds, credentials):
                    done += 1
                    yield _Outcome(1)
                left = []
            except ObjectRefused as error:
                yield _Outcome(1, f"{left[done]}: {error}")
                left = left[done + 1 :]
            except DamagedObject as error:
                # It names the file; and it is in a group of its own.
                yield _Outcome(len(left), str(error))
                left = []
            except PeerRefused as error:
                # Not of this object: the association, or its kind, which the whole group shares.
                rest = left[done:]
                others = f" and {len(rest) - 1} like it" if len(rest) > 1 else ""
                yield _Outcome(len(rest), f"{rest[0]}{others}: {error}")
                left = []


def _by_kind(paths: list[Path]) -> list[list[Path]]:
    """Files of one SOP class and transfer syntax together, for a peer takes or declines these as one."""
    groups: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        kind = _kind(path)
        if kind[0] != _DIRECTORY:
            groups.setdefault(kind if all(kind) else (str(path),), []).append(path)
    if not groups:
        raise ConfigError("There is no object to send but the directory of a medium.")
    return list(groups.values())


def _kind(path: Path) -> tuple[str, str, str]:
    """SOP class and transfer syntax by the file's own header, empty if it is damaged."""
    from pydicom.filereader import read_file_meta_info

    try:
        meta = read_file_meta_info(path)
    except Exception:
        # Foreign bytes can do anything to the parser; the sender will say that the file cannot be sent.
        return "", "", ""
    identified = "yes" if meta.get("MediaStorageSOPInstanceUID") else ""
    return str(meta.get("MediaStorageSOPClassUID", "")), str(meta.get("TransferSyntaxUID", "")), identified


def _destination(to: str, calling_ae: str | None, routes: Path) -> "Destination":
    from pydantic import ValidationError

    from config.routes import Destination, load_routes

    if ":" not in to:
        named = load_routes(routes).destination(to)
        if named is None:
            raise ConfigError(f"--to {to}: is no destination of {routes}; an address is HOST:PORT:AE.")
        if named.url is not None:
            raise ConfigError(f"--to {to}: it takes objects by HTTP, and this command sends them over associations.")
        address = named.model_dump()
        calling_ae = calling_ae or named.calling_ae
    else:
        host, port, title = [*to.rsplit(":", 2), "", ""][:3]
        address = {"name": "command-line", "host": host.strip("[]"), "port": port, "ae_title": title}
    try:
        return Destination.model_validate(address | {"calling_ae": calling_ae or ""})
    except ValidationError as error:
        told = error.errors(include_url=False)[0]
        option = "--calling-ae" if "calling_ae" in told["loc"] else f"--to {to}"
        fault = told["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{option}: {fault[:1].lower()}{fault[1:]}; an address is HOST:PORT:AE.") from error
