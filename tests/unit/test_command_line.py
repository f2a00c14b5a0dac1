"""The command line as a whole: quick help, clear lines for mistakes, an example for every command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from config.errors import ConfigError, PeerUnavailable
from dicom_node.commands import main as command_line
from dicom_node.commands.main import app, run

HEAVY = {"torch", "numpy", "highdicom", "pydicom", "pynetdicom", "sqlalchemy", "alembic", "pydantic"}


def all_commands():
    def below(command, path):
        children = getattr(command, "commands", {})
        if not children:
            yield " ".join(path), command
        for name, child in children.items():
            yield from below(child, [*path, name])

    return dict(below(typer.main.get_command(app), []))


@pytest.fixture
def failing(monkeypatch):
    """A command line with one command more, which raises what it is given."""

    def fails_with(error):
        commands = typer.Typer(rich_markup_mode=None)

        @commands.callback()
        def callback(): ...

        @commands.command()
        def work():
            raise error

        monkeypatch.setattr(command_line, "app", commands)

    return fails_with


def test_help_imports_nothing_heavy():
    script = (
        "import sys\n"
        "from dicom_node.commands.main import run\n"
        "assert run(['--help']) == 0\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"
    assert "Commands:" in ran.stdout


def test_without_arguments_help_is_shown(capsys):
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "command"), all_commands().items())
def test_every_command_has_help_with_an_example(name, command, capsys):
    assert run([*name.split(), "--help"]) == 0
    assert f"fullfield {name}" in capsys.readouterr().out
    assert f"Example: fullfield {name}" in (command.help or "")
    assert all(parameter.help for parameter in command.params if parameter.name != "help")


def test_version_is_told(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fullfield ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "No such command 'nonsense'. See `fullfield --help`."),
        (["routes"], "Missing command. See `fullfield routes --help`."),
        (["routes", "test"], "Missing argument 'FILE'. See `fullfield routes test --help`."),
        (["routes", "check", "--port", "1"], "No such option: --port. See `fullfield routes check --help`."),
    ],
)
def test_wrong_usage_gets_one_line_and_status_2(arguments, line, capsys):
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"fullfield: {line}\n")


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (PeerUnavailable("PACS does not answer."), ["fullfield: PACS does not answer."]),
        (ConfigError("First.\nSecond."), ["fullfield: First.", "fullfield: Second."]),
        (
            FileNotFoundError(2, "No such file or directory", "a.dcm"),
            ["fullfield: a.dcm: No such file or directory."],
        ),
        (typer.Abort(), ["fullfield: cancelled."]),
        (
            ModuleNotFoundError("No module named 'accelerate.utils'", name="accelerate.utils"),
            ["fullfield: accelerate.utils is not installed; it comes with `pip install fullfield[train]`."],
        ),
    ],
)
def test_what_a_person_can_mend_is_told_without_a_traceback(failing, capsys, error, lines):
    failing(error)
    assert run(["work"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == ("", lines)


@pytest.mark.parametrize("fault", [ZeroDivisionError(), ModuleNotFoundError(name="config.setings")])
def test_a_fault_of_ours_keeps_its_traceback(failing, fault):
    failing(fault)
    with pytest.raises(type(fault)):
        run(["work"])


def test_a_command_may_choose_its_status(failing):
    failing(typer.Exit(3))
    assert run(["work"]) == 3


def test_an_interrupt_ends_with_the_status_of_one(failing):
    failing(KeyboardInterrupt())
    assert run(["work"]) == 130


def test_output_that_cannot_be_written_is_told_in_a_line():
    with Path("/dev/full").open("w") as full:
        ran = _commanded("--help", stdout=full)
    said = "fullfield: What the command makes or prints cannot be written: No space left on device.\n"
    assert (ran.returncode, ran.stderr) == (1, said)


def test_a_reader_that_has_read_enough_is_no_fault():
    reads, writes = os.pipe()
    os.close(reads)
    ran = _commanded("--help", stdout=writes)
    os.close(writes)
    assert (ran.returncode, ran.stderr) == (1, "")


@pytest.mark.parametrize(("chosen", "counts"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_the_threads_of_the_networks_wait_asleep_unless_the_machine_says_otherwise(chosen, counts):
    script = (
        "import os, sys\n"
        "from dicom_node.commands.main import main\n"
        "assert 'torch' not in sys.modules\n"
        "sys.argv = ['fullfield', '--version']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(os.environ['OMP_WAIT_POLICY'])\n"
    )
    surroundings = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    surroundings |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    ran = subprocess.run([sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == counts


def _commanded(*arguments, stdout):
    command = [sys.executable, "-m", "dicom_node", *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
