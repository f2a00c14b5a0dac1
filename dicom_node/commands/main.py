"""The command line: which commands there are, and how a mistake is told.

A command's file imports nothing heavy at its top, so that `--help` is quick; what the work needs is imported
where the work begins.
"""

import errno
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from config.errors import FullfieldError
from dicom_node.commands import dataset, jobs, routes, storage, train
from dicom_node.commands.audit import audit
from dicom_node.commands.backup import backup, restore
from dicom_node.commands.demo import demo
from dicom_node.commands.doctor import doctor
from dicom_node.commands.evaluate import evaluate
from dicom_node.commands.import_checkpoint import import_checkpoint
from dicom_node.commands.node import node
from dicom_node.commands.output import give_up_output
from dicom_node.commands.reconstruct import reconstruct
from dicom_node.commands.send import send
from dicom_node.commands.worker import worker

app = typer.Typer(
    name="fullfield",
    add_completion=False,
    rich_markup_mode=None,
    # A traceback with values would print patient data.
    pretty_exceptions_enable=False,
)


#: Packages that not everyone needs, and the extra of the distribution that brings each.
_EXTRAS = {"accelerate": "train", "nanodrr": "train", "nibabel": "train", "psycopg": "postgres"}


#: What a disk answers to who writes; Python does not say to which file.
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fullfield {version('fullfield')}")
        raise typer.Exit


@app.callback()
def fullfield(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """A DICOM node that reconstructs the field of view a collimator hid, and says which pixels it made.

    Not a medical device. `fullfield COMMAND --help` explains a command.
    """


app.command()(node)
app.command()(worker)
app.command()(reconstruct)
app.command()(evaluate)
app.add_typer(train.app, name="train")
app.add_typer(dataset.app, name="dataset")
app.command()(import_checkpoint)
app.command()(demo)
app.command()(send)
app.add_typer(routes.app, name="routes")
app.add_typer(jobs.app, name="jobs")
app.add_typer(storage.app, name="storage")
app.command()(backup)
app.command()(restore)
app.command()(audit)
app.command()(doctor)


def main() -> None:
    """Run the command that the process was started with, and exit with its status."""
    if not sys.warnoptions:
        # Libraries warn about values in headers; those are patient data and nothing a user could mend.
        warnings.simplefilter("ignore")
    # PyTorch's threads would wait for each other in busy loops, and take ten times as long while something else has a
    # processor (docs/decisions/0041). It reads this when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit status: 0, 1 for a failure, 2 for arguments that are wrong.

    What a person can mend becomes a line on standard error; a traceback means a fault of ours.
    """
    try:
        status = app(list(arguments) or ["--help"], prog_name="fullfield", standalone_mode=False)
    except FullfieldError as error:
        return _complain(str(error), status=1)
    except typer.TyperException as error:
        return _complain(_usage(error), status=error.exit_code)
    except typer.Abort:
        return _complain("cancelled.", status=1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return _complain(f"{error.name} is not installed; it comes with `pip install fullfield[{extra}]`.", status=1)
    except BrokenPipeError:
        # Who reads it, such as `head`, has read enough.
        give_up_output()
        return 1
    except OSError as error:
        if error.filename is not None:
            return _complain(f"{error.filename}: {error.strerror}.", status=1)
        if error.errno not in _UNWRITABLE:
            raise
        give_up_output()
        return _complain(f"What the command makes or prints cannot be written: {error.strerror}.", status=1)
    return status if isinstance(status, int) else 0


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "fullfield"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message}. See `{command} --help`."


def _complain(message: str, *, status: int) -> int:
    for line in message.splitlines():
        with suppress(OSError):
            typer.echo(f"fullfield: {line}", err=True)
    return status
