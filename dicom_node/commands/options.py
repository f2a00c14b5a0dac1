"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from config.settings import Settings

#: Where settings are looked for when neither the option nor the variable names a file.
DEFAULT_FILE = Path("fullfield.toml")

#: The option `--settings`; give its value to `settings_in`.
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        envvar="FULLFIELD_SETTINGS",
        help=f"Settings file; without it {DEFAULT_FILE} in the working directory, if there is one.",
    ),
]


def settings_in(file: Path | None) -> "Settings":
    """The settings of `file`, else of the file at the default place, else the defaults; or ConfigError."""
    from config.settings import load_settings

    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    return load_settings(file)
