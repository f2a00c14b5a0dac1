"""The reference pages say what the code says, and no page names what is not there."""

import re
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from config.mark import Mark
from config.routes import Destination, Match, Route, Rule, load_routes
from config.settings import Settings, load_settings
from dicom_node.commands.reference import PAGES, write_pages
from tests.unit.test_command_line import all_commands

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
WRITTEN = [page for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if page.is_file()]

every_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name):
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_every_command_stands_in_the_reference():
    page = PAGES["cli.md"]()
    for name, command in all_commands().items():
        assert f"## `fullfield {name}`" in page
        for parameter in command.params:
            if not parameter.hidden:
                named = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
                assert named in page


def test_every_setting_stands_in_the_reference():
    page = PAGES["settings.md"]()
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        assert (f"## `[{name}]`" if inner else f"| `{name}` |") in page
        for key in inner or {}:
            assert f"| `{key}` |" in page or f"[{name}.{key}]" in page


def test_every_key_of_a_route_stands_in_the_reference():
    page = PAGES["routes.md"]()
    for model in (Route, Match, Rule, Mark, Destination):
        for key in model.model_fields:
            assert f"| `{key}` |" in page or f".{key}]" in page


def test_pages_are_written_into_a_folder_that_is_not_there_yet(tmp_path):
    write_pages(tmp_path / "docs" / "reference")
    assert all((tmp_path / "docs" / "reference" / name).is_file() for name in PAGES)


@every_page
def test_every_link_of_a_page_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
    within = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in within if not (page.parent / link).exists()] == []


@every_page
def test_every_test_that_a_page_names_is_there(page):
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8"))
    assert [name for name in named if not _is_there(*name)] == []


@every_page
def test_every_command_that_a_page_writes_out_is_there(page):
    # A line of code, up to what a shell puts after it.
    lines = re.findall(r"^ {4,}(?:\.venv/bin/)?fullfield ([^&|\n]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    for words in map(str.split, lines):
        known = [name for name in all_commands() if name.split() == words[: len(name.split())]]
        assert known, words
        options = {option for parameter in all_commands()[known[-1]].params for option in parameter.opts}
        assert [word for word in words if word.startswith("-") and word not in options] == []


@every_page
def test_every_example_of_a_file_is_right(page, tmp_path):
    for number, block in enumerate(re.findall(r"^ *```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.S | re.M)):
        file = tmp_path / f"{number}.toml"
        file.write_text(dedent(block), encoding="utf-8")
        if "[[destinations]]" in block:
            load_routes(file)
        elif "[routes.mark]" in block:
            Mark.model_validate(tomllib.loads(block)["routes"]["mark"])
        else:
            load_settings(file)


def _is_there(file: str, test: str) -> bool:
    path = ROOT / file
    return path.exists() and (not test or f"def {test}(" in path.read_text(encoding="utf-8"))
