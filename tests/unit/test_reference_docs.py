"""The reference pages say what the code says."""

from pathlib import Path

import pytest

from config.mark import Mark
from config.routes import Destination, Match, Route, Rule
from config.settings import Settings
from dicom_node.commands.reference import PAGES, write_pages
from tests.unit.test_command_line import all_commands

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


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
            assert f"| `{key}` |" in page or f"## `[[{name}.{key}]]`" in page


def test_every_key_of_a_route_stands_in_the_reference():
    page = PAGES["routes.md"]()
    for model in (Route, Match, Rule, Mark, Destination):
        for key in model.model_fields:
            assert f"| `{key}` |" in page or f".{key}]" in page


def test_pages_are_written_into_a_folder_that_is_not_there_yet(tmp_path):
    write_pages(tmp_path / "docs" / "reference")
    assert {path.name for path in (tmp_path / "docs" / "reference").iterdir()} == set(PAGES)
