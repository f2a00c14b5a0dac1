"""A picture in another transfer syntax: the same object, behind its pixel data too."""

import pytest
from pydicom import dcmread

from dicom_node.lossless import LOSSLESS, rewrite
from tests.factory import write, xa


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("columns", [64, 65])
def test_everything_is_as_it_was(tmp_path, syntax, columns):
    made = xa(frames=3, rows=65, columns=columns, bits_stored=8)
    made.private_block(0x7FE1, "INVENTED", create=True).add_new(1, "LO", "behind the pixels")
    source, target = write(made, tmp_path / "source.dcm"), tmp_path / "target.dcm"
    assert rewrite(source, syntax, target)
    was, now = dcmread(source), dcmread(target)
    assert now.file_meta.TransferSyntaxUID == syntax
    now.decompress(generate_instance_uid=False)
    assert now == was


@pytest.mark.parametrize("missing", ["Rows", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
def test_what_does_not_say_what_its_pixels_are_is_not_rewritten(tmp_path, missing):
    source = write(xa(missing=[missing]), tmp_path / "source.dcm")
    assert not rewrite(source, LOSSLESS[0], tmp_path / "target.dcm")
