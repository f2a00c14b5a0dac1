import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from config.errors import UnsupportedImage
from inference.pixels import read_cine
from tests.factory import COMPRESSED, malformed, write, xa

SYNTAXES = (None, ImplicitVRLittleEndian, *COMPRESSED)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_signed_values_survive_compression(tmp_path, syntax):
    dataset = xa(frames=2, signed=True)

    assert np.array_equal(
        read_cine(dcmread(write(dataset, tmp_path / "a.dcm", syntax))).stored, read_cine(dataset).stored
    )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_transfer_syntax_gives_the_stored_values(tmp_path, syntax, bits):
    dataset = xa(frames=3, rows=40, columns=56, bits_stored=bits)
    plain = read_cine(dataset).stored

    cine = read_cine(dcmread(write(dataset, tmp_path / "a.dcm", syntax)))

    assert cine.stored.shape == (3, 40, 56)
    assert cine.stored.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert np.array_equal(cine.stored, plain)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_every_depth_is_read_as_written(bits, signed):
    stored = np.random.default_rng(0).integers(0, 2**bits, (2, 16, 20))
    stored = stored - 2 ** (bits - 1) if signed else stored

    cine = read_cine(xa(stored=stored, bits_stored=bits, signed=signed))

    assert np.array_equal(cine.stored, stored)
    assert cine.stored.dtype.kind == ("i" if signed else "u")
    assert cine.stored.dtype == cine.mapping.dtype


def test_a_single_frame_without_number_of_frames_is_a_cine_of_one(tmp_path):
    assert read_cine(dcmread(write(xa(frames=0), tmp_path / "a.dcm"))).stored.shape == (1, 64, 64)


def test_a_deflated_object_is_read(tmp_path):
    dataset = xa()
    path = write(dataset, tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)

    assert np.array_equal(read_cine(dcmread(path)).stored, read_cine(dataset).stored)


def test_overlay_bits_stay_in_the_stored_values():
    stored = np.full((1, 16, 16), 0xA123)
    dataset = xa(stored=stored, bits_stored=16)
    dataset.BitsStored, dataset.HighBit = 12, 11

    cine = read_cine(dataset)

    assert np.array_equal(cine.stored, stored)
    assert cine.mapping.to_grey(cine.stored).max() < 0


def declined(dataset, *words):
    with pytest.raises(UnsupportedImage) as caught:
        read_cine(dataset)
    sentence = str(caught.value)
    assert sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence
    for word in words:
        assert word in sentence


def test_no_pixel_data_are_declined():
    declined(xa(missing=["PixelData"]), "no PixelData (PS3.3 C.7.6.3)")
    declined(xa(PixelData=b""), "no PixelData (PS3.3 C.7.6.3)")


def test_truncated_pixel_data_are_declined():
    dataset = xa(frames=4)
    dataset.PixelData = dataset.PixelData[:-1000]

    declined(dataset, "frame 4 of 4", "truncated")


def test_a_header_that_claims_fewer_frames_than_there_are_is_declined():
    dataset = xa(frames=4)
    dataset.NumberOfFrames = 2

    declined(dataset, "hold 4 frames", "NumberOfFrames is 2")


@pytest.mark.parametrize("syntax", [None, *COMPRESSED])
def test_a_header_that_claims_60000_frames_takes_no_memory_for_them(tmp_path, monkeypatch, syntax):
    dataset = dcmread(write(xa(frames=2), tmp_path / "a.dcm", syntax))
    dataset.NumberOfFrames = 60_000
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory was taken"))

    declined(dataset, "60000")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"photometric": "RGB", "bits_stored": 8}, ["color by SamplesPerPixel (PS3.3 C.7.6.3.1.1)"]),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, ["PALETTE COLOR"]),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, ["BitsStored is 32"]),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, ["BitsStored is 1, BitsAllocated 1"]),
        ({"HighBit": 15}, ["HighBit 15"]),
        ({"BitsStored": 7, "HighBit": 6}, ["BitsStored is 7"]),
        ({"Rows": 0}, ["64 x 0", "by Columns and Rows (PS3.3 C.7.6.3)"]),
        ({"missing": ["Columns"]}, ["Columns", "missing"]),
        ({"missing": ["PixelRepresentation"]}, ["PixelRepresentation"]),
        ({"PixelRepresentation": 7}, ["PixelRepresentation", "PS3.3"]),
        ({"NumberOfFrames": 0}, ["NumberOfFrames is 0"]),
        ({"FloatPixelData": b"\0\0\0\0"}, ["FloatPixelData", "DoubleFloatPixelData", "PS3.3 C.7.6.24, C.7.6.25"]),
    ],
)
def test_what_is_no_grey_picture_is_declined(attributes, words):
    declined(xa(**attributes), *words)


def test_an_object_without_transfer_syntax_is_declined():
    dataset = xa()
    del dataset.file_meta.TransferSyntaxUID

    declined(dataset, "TransferSyntaxUID is missing or not one UID (PS3.10 7.1)")


def test_a_film_in_pixel_data_is_declined():
    dataset = xa()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"

    declined(dataset, "MPEG-4", "by TransferSyntaxUID (PS3.5 10)", "another transfer syntax")


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_corrupt_compressed_frames_are_declined(tmp_path, syntax):
    dataset = dcmread(write(xa(frames=2), tmp_path / "a.dcm", syntax))
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51 no picture at all", b"nor this"])

    declined(dataset, "Frame 1 of 2", "PixelData are corrupt (PS3.5 8.2)")


def test_a_jpeg_2000_frame_cut_in_the_middle_is_declined(tmp_path):
    dataset = dcmread(write(xa(frames=1), tmp_path / "a.dcm", JPEG2000Lossless))
    dataset.PixelData = encapsulate([get_frame(dataset.PixelData, 0, number_of_frames=1)[:120]])

    declined(dataset, "corrupt")


def test_bytes_that_are_no_fragments_are_declined(tmp_path):
    dataset = dcmread(write(xa(frames=2), tmp_path / "a.dcm", JPEG2000Lossless))
    dataset.PixelData = b"\1\2\3\4\5\6\7\x08" * 8

    declined(dataset, "broken")


def test_a_compressed_frame_of_another_size_is_declined(tmp_path):
    dataset = dcmread(write(xa(frames=1), tmp_path / "a.dcm", JPEG2000Lossless))
    dataset.Rows = 48

    declined(dataset)


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_compressed_frame_that_is_cut_off_is_declined_and_not_made_up(tmp_path, syntax, share):
    dataset = dcmread(write(xa(frames=2), tmp_path / "a.dcm", syntax))
    whole, cut = (get_frame(dataset.PixelData, index, number_of_frames=2) for index in range(2))
    dataset.PixelData = encapsulate([whole, cut[: int(len(cut) * share)]])

    declined(dataset, "Frame 2 of 2", "corrupt")


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless])
def test_a_frame_may_be_padded_behind_its_end_and_lie_in_several_fragments(tmp_path, syntax):
    dataset = dcmread(write(xa(frames=2), tmp_path / "a.dcm", syntax))
    plain = read_cine(dataset).stored
    frames = [get_frame(dataset.PixelData, index, number_of_frames=2) for index in range(2)]

    dataset.PixelData = encapsulate([frame + b"\0" * 6 for frame in frames])
    assert np.array_equal(read_cine(dataset).stored, plain)
    dataset.PixelData = encapsulate(frames, fragments_per_frame=3)
    assert np.array_equal(read_cine(dataset).stored, plain)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", COMPRESSED)
def test_whatever_happened_to_compressed_frames_they_are_read_or_declined(tmp_path, syntax):
    dataset = dcmread(write(xa(frames=1), tmp_path / "a.dcm", syntax))
    whole = get_frame(dataset.PixelData, 0, number_of_frames=1)
    rng = np.random.default_rng(0)
    for _ in range(60):
        spoilt = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            spoilt[at] = rng.integers(256)
        dataset.PixelData = encapsulate([bytes(spoilt)])
        try:
            assert read_cine(dataset).stored.shape == (1, 64, 64)
        except UnsupportedImage as error:
            assert "Frame 1 of 1" in str(error)


def test_frames_that_would_decode_to_more_than_the_machine_has_are_declined(tmp_path, monkeypatch):
    """60,000 frames that are really there: a few megabytes that stand for a hundred gigabytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=500 << 30))
    dataset = dcmread(write(xa(stored=np.zeros((1, 1024, 1024))), tmp_path / "a.dcm", JPEG2000Lossless))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame] * 60_000, has_bot=False)
    dataset.NumberOfFrames = 60_000

    declined(dataset, "GiB of disk", "larger machine")


@pytest.mark.parametrize(
    "keyword", ["Rows", "Columns", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"]
)
@pytest.mark.parametrize("value", [b"\1", b"\1\0\2\0", b"\xff\xff"])
def test_a_malformed_number_of_the_header_is_declined(keyword, value):
    declined(malformed(xa(frames=1), keyword, "US", value))


@pytest.mark.parametrize("keyword", ["PixelData", "PhotometricInterpretation"])
def test_a_value_representation_that_there_is_not_is_declined(keyword):
    declined(malformed(xa(frames=1), keyword, "Q?", b"\0\0"))


def test_two_transfer_syntaxes_are_declined():
    dataset = xa(frames=1)
    malformed(dataset.file_meta, "TransferSyntaxUID", "UI", "1.2.840.10008.1.2\\1.2.840.10008.1.2.1")

    declined(dataset, "TransferSyntaxUID is missing or not one UID (PS3.10 7.1)")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", ["two ", "1\\2 ", "1.5 ", "-1", "0 ", "99999999999 "])
def test_a_malformed_number_of_frames_is_declined(count):
    declined(malformed(xa(frames=1), "NumberOfFrames", "IS", count), "rame")


@pytest.mark.parametrize(("syntax", "bits"), [(JPEGBaseline8Bit, 8), (JPEGExtended12Bit, 12)])
def test_a_scan_header_that_no_sequential_jpeg_has_is_mended(tmp_path, syntax, bits):
    dataset = dcmread(write(xa(frames=2, bits_stored=bits), tmp_path / "a.dcm", syntax))
    right = read_cine(dataset).stored
    frames = [bytearray(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=2)]
    for frame in frames:
        at = frame.index(b"\xff\xda")
        end = at + 2 + int.from_bytes(frame[at + 2 : at + 4])
        assert frame[end - 3 : end] == b"\0\x3f\0"
        frame[end - 3 : end] = b"\0\0\0"
    wrong = encapsulate([bytes(frame) for frame in frames])
    dataset.PixelData = wrong

    assert np.array_equal(read_cine(dataset).stored, right)
    assert dataset.PixelData == wrong
