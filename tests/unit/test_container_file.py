"""The Containerfile takes along what the package is made of, and runs a command that there is."""

import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CONTAINERFILE = (CHECKOUT / "Containerfile").read_text()
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def _copied() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
    return {name for line in lines for name in line.split()[:-1]}


def test_it_takes_along_every_package_and_what_pip_reads() -> None:
    packages = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert _copied() == packages | {"constraints.txt", "pyproject.toml", PROJECT["project"]["readme"]}


def test_what_it_takes_along_is_not_ignored() -> None:
    lines = (CHECKOUT / ".containerignore").read_text().split()
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == _copied()


def test_it_installs_an_extra_and_runs_a_command_that_there_are() -> None:
    (extra,) = re.findall(r"'\.\[(\w+)\]'", CONTAINERFILE)
    (command,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', CONTAINERFILE, re.MULTILINE)
    assert extra in PROJECT["project"]["optional-dependencies"]
    assert command in PROJECT["project"]["scripts"]
