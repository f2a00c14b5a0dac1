"""The files and folders that a command is given, as the DICOM files they stand for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from config.errors import ConfigError

#: The argument IN...; give its value to `dicom_files`.
Inputs = Annotated[
    list[Path],
    typer.Argument(metavar="IN...", help="DICOM files, or folders that are looked through for them."),
]


@dataclass(frozen=True)
class Found:
    """A DICOM file, with its place below what the command was given."""

    path: Path
    #: ``a/b/1.dcm`` for a file below a folder that was given, ``1.dcm`` for one that was given itself.
    place: Path


def dicom_files(inputs: Iterable[Path]) -> list[Found]:
    """The files named, and below the folders named every file that is a DICOM file (PS3.10 7.1).

    Raises ConfigError for a path that is not there, and for a file named that is no DICOM file.
    """
    found: dict[Path, Found] = {}
    for given in inputs:
        if given.is_dir():
            for path in sorted(path for path in given.rglob("*") if path.is_file() and is_dicom(path)):
                found.setdefault(path.resolve(), Found(path, path.relative_to(given)))
        elif not given.exists():
            raise ConfigError(f"{given}: there is no such file or folder.")
        elif not is_dicom(given):
            raise ConfigError(f"{given}: is not a DICOM file.")
        else:
            found.setdefault(given.resolve(), Found(given, Path(given.name)))
    if not found:
        raise ConfigError(f"There is no DICOM file in {', '.join(map(str, inputs))}.")
    return list(found.values())


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do: 128 bytes of anything, then ``DICM``."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
