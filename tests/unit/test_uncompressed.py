"""A stored file is written anew without compression: the same pixels, the same values, little endian."""

import subprocess

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.pixels import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom.dsutils import encode

from config.errors import UnsupportedImage
from dicom_node.stored_picture import opened
from dicom_node.uncompressed import write_uncompressed
from tests.factory import write, xa

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)
BEHIND = "za pikselami - Łódź"
#: dcmtk leaves such tables out of grey pictures.
WRITTEN_BY_DCMTK = (JPEGLosslessSV1, JPEGBaseline8Bit)


def with_more(**how):
    """A cine with words in a table, and an element behind its pixel data."""
    dataset = xa(frames=3, rows=65, columns=63, charset="ISO_IR 192", **how)
    dataset.RedPaletteColorLookupTableDescriptor = [4, 0, 16]
    dataset.RedPaletteColorLookupTableData = b"\x01\x02\x03\x04\x05\x06\x07\x08"
    dataset.add_new(0x7FE10010, "LO", "INVENTED")
    dataset.add_new(0x7FE11001, "LO", BEHIND)
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_every_stored_form_becomes_the_same_object_without_compression(tmp_path, syntax):
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    stored = write(with_more(bits_stored=bits), tmp_path / "stored.dcm", syntax)
    write_uncompressed(stored, tmp_path / "plain.dcm")
    plain, source = dcmread(tmp_path / "plain.dcm"), dcmread(stored)
    assert plain.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (pixel_array(plain) == pixel_array(source)).all()
    if syntax not in WRITTEN_BY_DCMTK:
        assert plain.RedPaletteColorLookupTableData == b"\x01\x02\x03\x04\x05\x06\x07\x08"
    # Of a private element implicit VR does not say what it is.
    assert plain[0x7FE11001].value in (BEHIND, BEHIND.encode())
    for element in source.group_dataset(0x0018):
        assert plain[element.tag] == element
    with opened(stored) as (_, picture):
        assert [picture.decoded(index) for index in range(3)] == [frame.tobytes() for frame in pixel_array(plain)]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
def test_with_implicit_vr_it_is_what_becomes_of_the_explicit_form(tmp_path, syntax):
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    stored = write(with_more(bits_stored=bits), tmp_path / "stored.dcm", syntax)
    write_uncompressed(stored, tmp_path / "plain.dcm")
    write_uncompressed(stored, tmp_path / "implicit.dcm", ImplicitVRLittleEndian)
    plain, implicit = dcmread(tmp_path / "plain.dcm"), dcmread(tmp_path / "implicit.dcm")
    assert implicit.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert encode(implicit, True, True) == encode(plain, True, True)


def test_dcmtk_makes_the_same_of_big_endian(tmp_path):
    stored = write(xa(frames=2), tmp_path / "stored.dcm", ExplicitVRBigEndian)
    write_uncompressed(stored, tmp_path / "plain.dcm")
    subprocess.run(["dcmconv", "+te", stored, tmp_path / "theirs.dcm"], check=True)
    ours, theirs = dcmread(tmp_path / "plain.dcm"), dcmread(tmp_path / "theirs.dcm")
    assert ours == theirs


def test_colour_that_was_compressed_becomes_rgb(tmp_path):
    plain = xa(frames=2, photometric="RGB", bits_stored=8)
    stored = write(plain, tmp_path / "stored.dcm", JPEGBaseline8Bit)
    assert dcmread(stored).PhotometricInterpretation == "YBR_FULL_422"
    write_uncompressed(stored, tmp_path / "plain.dcm")
    made = dcmread(tmp_path / "plain.dcm")
    assert made.PhotometricInterpretation == "RGB"
    assert np.abs(made.pixel_array.astype(int) - plain.pixel_array).mean() < 8


def test_an_object_without_pixels_keeps_all_it_has(tmp_path):
    dataset = with_more()
    del dataset.PixelData
    stored = write(dataset, tmp_path / "stored.dcm", ImplicitVRLittleEndian)
    write_uncompressed(stored, tmp_path / "plain.dcm")
    assert dcmread(tmp_path / "plain.dcm").PatientName == dataset.PatientName
    with opened(stored) as (header, picture):
        assert picture is None and header.PatientName == dataset.PatientName


def test_frames_of_one_bit_a_pixel_begin_at_a_byte_of_their_own(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (3, 5, 5), dtype=np.uint8)
    dataset = xa(stored=np.zeros((3, 5, 5), np.uint8), bits_stored=8, aperture=None)
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    path = write(dataset, tmp_path / "bits.dcm")
    with opened(path) as (_, picture):
        frames = [np.frombuffer(picture.decoded(index), np.uint8) for index in range(3)]
    for frame, wanted in zip(frames, bits, strict=True):
        assert (np.unpackbits(frame, bitorder="little")[:25] == wanted.reshape(-1)).all()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLSLossless], ids=["plain", "compressed"])
def test_pixel_data_that_are_cut_off_are_told(tmp_path, syntax):
    stored = write(xa(frames=3), tmp_path / "stored.dcm", syntax)
    dataset = dcmread(stored)
    dataset.NumberOfFrames = 5
    dcmwrite(stored, dataset)
    with opened(stored) as (_, picture), pytest.raises(UnsupportedImage, match="rame 5"):
        picture.decoded(4)


def test_a_frame_that_is_larger_than_memory_is_not_asked_for(tmp_path):
    dataset = xa(frames=1)
    dataset.Rows = dataset.Columns = 65535
    with opened(write(dataset, tmp_path / "lie.dcm")) as (_, picture), pytest.raises(UnsupportedImage, match="memory"):
        picture.decoded(0)
