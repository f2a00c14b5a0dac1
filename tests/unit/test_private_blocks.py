"""Private attributes: all stay behind but the blocks of creators that a route names, each with its creator."""

import subprocess
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from config.mark import Mark
from config.objects import Beside
from config.routes import Route
from dicom_node.workflow.reconstruction import objects_of, read_image
from tests.factory import malformed, reconstruction, write, xa


def source():
    """A cine with two vendors' blocks in two groups, one of them in two blocks of a group."""
    made = xa()
    for group, number, creator, element, value in (
        (0x0019, 0x10, "OTHER", 0x01, "of the other"),
        (0x0019, 0x42, "VENDOR 1.0", 0x01, "first"),
        (0x0019, 0x42, "VENDOR 1.0", 0xFE, "last"),
        (0x0019, 0x50, "VENDOR 1.0", 0x01, "second block"),
        (0x0021, 0x11, "OTHER", 0x01, "of the other"),
        (0x0021, 0x12, "VENDOR 1.0", 0x02, "in another group"),
    ):
        made.add_new(Tag(group, number), "LO", creator)
        made.add_new(Tag(group, number << 8 | element), "LO", value)
    return made


NOTHING_BESIDE = Beside(segmentation=False, presentation_state=False, report=False)


def objects(image, creators=(), **options):
    results = objects_of(image, reconstruction(image), route="r", mark=Mark(), private_creators=creators, **options)
    return results.all()


def private(dataset):
    """The private elements of the root, as they were written, by their tags."""
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    again = dcmread(BytesIO(file.getvalue()))
    return {str(tag): again[tag].value for tag in again.keys() if tag.is_private}  # noqa: SIM118


def test_none_is_carried_unless_a_route_names_its_creator():
    assert Route(name="a", destinations=("pacs",)).private_creators == ()
    for result in objects(source(), beside=Beside(uncertainty=True)):
        assert private(result) == {}
    assert private(objects(source(), ["VENDOR"])[0]) == {}


@pytest.mark.parametrize("profile", ["multiframe_sc", "single_frames", "like_source"])
def test_the_blocks_of_a_named_creator_are_carried_with_it_and_numbered_anew(profile):
    for picture in objects(source(), ["VENDOR 1.0"], profile=profile, beside=NOTHING_BESIDE):
        assert private(picture) == {
            "(0019,0010)": "VENDOR 1.0",
            "(0019,1001)": "first",
            "(0019,10FE)": "last",
            "(0019,0011)": "VENDOR 1.0",
            "(0019,1101)": "second block",
            "(0021,0010)": "VENDOR 1.0",
            "(0021,1002)": "in another group",
        }


def test_what_goes_beside_the_picture_has_none():
    first, *beside = objects(source(), ["VENDOR 1.0"], beside=Beside(uncertainty=True))
    assert private(first) != {}
    assert len(beside) == 5
    assert [private(each) for each in beside] == [{}] * 5


def test_the_source_keeps_its_own():
    image = source()
    before = private(image)
    objects(image, ["VENDOR 1.0", "OTHER"])
    assert private(image) == before


def test_a_private_sequence_is_carried_whole_and_one_within_a_standard_sequence_is_not():
    image, item, request = xa(), Dataset(), Dataset()
    item.CodeMeaning = "kept"
    image.private_block(0x0019, "VENDOR", create=True).add_new(1, "SQ", [item])
    request.RequestedProcedureID = "P1"
    request.private_block(0x0041, "VENDOR", create=True).add_new(1, "LO", "left")
    image.RequestAttributesSequence = [request]
    [picture, *_] = objects(image, ["VENDOR"])
    assert picture[0x0019, 0x1001].value[0].CodeMeaning == "kept"
    assert len(picture.RequestAttributesSequence[0].group_dataset(0x0041)) == 0


@pytest.mark.filterwarnings("ignore")
def test_what_is_malformed_or_without_an_owner_stays_behind():
    image = xa()
    block = image.private_block(0x0019, "VENDOR", create=True)
    block.add_new(1, "LO", "sound")
    block.add_new(2, "DS", "0")
    malformed(image, 0x00191002, "DS", "no number")
    image.add_new(Tag(0x0019, 0x7701), "LO", "nobody's")
    image.add_new(Tag(0x0021, 0x0010), "LO", "VENDOR")
    image.add_new(Tag(0x7FE1, 0x0010), "LO", "VENDOR")
    image.add_new(Tag(0x7FE1, 0x1001), "OB", b"raw pixels")
    assert private(objects(image, ["VENDOR"])[0]) == {"(0019,0010)": "VENDOR", "(0019,1001)": "sound"}


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_values_survive_the_byte_order_of_the_source_and_dcmtk_reads_them(syntax, tmp_path):
    image = xa()
    block = image.private_block(0x0019, "VENDOR", create=True)
    block.add_new(1, "US", [1, 515])
    block.add_new(2, "OW", b"\x01\x02\x03\x04")
    received = read_image(write(image, tmp_path / "source.dcm", syntax))
    [picture, *_] = objects(received, ["VENDOR"])
    told = subprocess.run(["dcmdump", write(picture, tmp_path / "a.dcm")], capture_output=True, text=True, check=True)
    [creator] = [line for line in told.stdout.splitlines() if line.startswith("(0019,0010)")]
    assert "[VENDOR]" in creator
    if syntax == ExplicitVRBigEndian:  # of implicit ones nobody knows the representation: they stay bytes
        again = dcmread(tmp_path / "a.dcm")
        assert (list(again[0x0019, 0x1001].value), again[0x0019, 0x1002].value) == ([1, 515], b"\x01\x02\x03\x04")
    else:
        assert dcmread(tmp_path / "a.dcm")[0x0019, 0x1001].value == b"\x01\x00\x03\x02"


@pytest.mark.parametrize("creator", ["", " VENDOR", "VENDOR ", "A\\B", "A\nB", "A" * 65])
def test_a_route_names_creators_as_they_can_be(creator):
    with pytest.raises(ValueError, match="1 to 64 characters"):
        Route(name="a", destinations=("pacs",), private_creators=(creator,))
