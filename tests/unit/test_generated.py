"""A result is recognised by its header, whichever object of it comes back and whatever an archive has left of it."""

from copy import deepcopy

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from config.mark import Mark
from config.objects import Beside
from dicom_node.commands.demo import SAMPLE
from dicom_node.workflow.generated import why_generated
from dicom_node.workflow.reconstruction import objects_of
from tests.factory import malformed, reconstruction, xa

#: What may tell a picture for a result.
SIGNS = ("SyntheticData", "ImageType", "ContributingEquipmentSequence", "Manufacturer", "DerivationDescription")


@pytest.fixture(scope="module")
def results():
    source = xa()
    made = objects_of(source, reconstruction(source), route="all", mark=Mark(), beside=Beside(uncertainty=True))
    return made.all()


def test_every_object_of_a_result_is_recognised(results):
    assert {result.Modality for result in results} == {"XA", "SEG", "PR", "SR"}
    assert [result.SOPClassUID.name for result in results if why_generated(result) is None] == []


@pytest.mark.parametrize("left", SIGNS)
def test_one_sign_is_enough(results, left):
    header = Dataset({element.tag: element for element in results[0] if element.keyword != "PixelData"})
    picture = deepcopy(header)
    for sign in set(SIGNS) - {left}:
        delattr(picture, sign)
    assert left in why_generated(picture)
    delattr(picture, left)
    assert why_generated(picture) is None


def test_a_source_is_no_result():
    assert why_generated(xa()) is None
    assert why_generated(xa(SyntheticData="NO", ImageType=["DERIVED", "SECONDARY"])) is None


def test_the_sample_is_no_result():
    assert why_generated(dcmread(SAMPLE, stop_before_pixels=True)) is None


def test_equipment_that_did_something_else_is_no_sign():
    equipment = Dataset()
    equipment.Manufacturer = "Fullfield"
    equipment.PurposeOfReferenceCodeSequence = []
    assert why_generated(xa(ContributingEquipmentSequence=[equipment])) is None


def test_signs_that_cannot_be_read_are_none():
    assert why_generated(malformed(xa(), "ContributingEquipmentSequence", "SQ", b"\xff\xfe")) is None
