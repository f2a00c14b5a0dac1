"""Headers that are not as the standard wants them: a result is made without what cannot be read."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.uid import SecondaryCaptureImageStorage

from config.errors import UnsupportedImage
from config.mark import Mark
from dicom_node.objects.secondary_capture import secondary_captures
from tests.factory import malformed, reconstruction, xa

pytestmark = pytest.mark.filterwarnings("ignore")

NO_TIME = ["FrameTime", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"]


def results(source, made=None):
    """The results of a source, each written to a file and read back."""
    captures = secondary_captures(source, made or reconstruction(source), route="r", mark=Mark())
    files = [BytesIO() for _ in captures]
    for file, capture in zip(files, captures, strict=True):
        dcmwrite(file, capture, enforce_file_format=True)
    return [dcmread(BytesIO(file.getvalue())) for file in files]


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("WindowCenter", "DS", "abc"),
        ("WindowCenter", "DS", "100\\"),
        ("WindowCenter", "DS", "nan"),
        ("WindowWidth", "DS", "inf"),
        ("WindowWidth", "DS", "0.5"),
        ("WindowWidth", "DS", "-5"),
        ("VOILUTSequence", "LO", "no sequence"),
        ("SharedFunctionalGroupsSequence", "UN", "xx"),
        ("PerFrameFunctionalGroupsSequence", "LO", "xx"),
        ("ContributingEquipmentSequence", "SQ", b"\xff\xfe\xfd\xfc"),
        ("RequestAttributesSequence", "SQ", "x"),
        ("TimezoneOffsetFromUTC", "SH", "+9999"),
        ("TimezoneOffsetFromUTC", "SH", "+2400"),
        ("TimezoneOffsetFromUTC", "SH", "later"),
        ("FrameTime", "DS", "abc"),
        ("FrameTime", "DS", "inf"),
        ("FrameTime", "DS", "1\\2"),
        ("FrameTimeVector", "DS", "0\\x\\1\\1"),
        ("CineRate", "IS", "x"),
        ("ImageType", "CS", b"\xff"),
        ("PatientName", "PN", b"\xff\xfe\x80"),
        ("SpecificCharacterSet", "CS", "KLINGON"),
        ("StudyDate", "DA", "the sixth"),
        ("SeriesNumber", "IS", "99999999999"),
        ("InstanceNumber", "IS", "first"),
        ("InstanceNumber", "IS", "2."),
        ("PixelSpacing", "DS", "wide"),
        ("Modality", "CS", ""),
    ],
)
def test_what_cannot_be_read_does_not_stop_a_result(keyword, vr, value):
    source = xa(frames=4)
    made = reconstruction(source)

    [result] = results(malformed(source, keyword, vr, value), made)

    assert np.array_equal(result.pixel_array[made.aperture], source.pixel_array[made.aperture])


def test_a_window_that_cannot_be_is_left_out_and_a_good_one_beside_it_stays():
    [result] = results(xa(WindowCenter=[2000, 900], WindowWidth=[0.25, 500]))

    assert (result.WindowCenter, result.WindowWidth) == (900, 500)


def test_a_narrow_exact_window_stays():
    [result] = results(xa(WindowCenter=2000, WindowWidth=0.25, VOILUTFunction="LINEAR_EXACT"))

    assert float(result.WindowWidth) == 0.25


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("FrameTimeVector", "DS", "0\\x\\1\\1"),
        ("FrameTimeVector", "DS", "0\\nan\\1\\1"),
        ("FrameTime", "DS", "0"),
        ("CineRate", "IS", "1\\2\\x"),
    ],
)
def test_without_a_time_that_can_be_read_frames_are_numbered(keyword, vr, value):
    source = xa(frames=4)
    made = reconstruction(source)
    for other in NO_TIME:
        del source[other]

    [result] = results(malformed(source, keyword, vr, value), made)

    assert result.PageNumberVector == [1, 2, 3, 4]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
@pytest.mark.parametrize("value", ["1.2\\1.3", "none of them", "1." * 40, b"\xff\xff"])
def test_a_uid_that_is_none_is_declined(keyword, value):
    source = xa(frames=1)
    made = reconstruction(source)

    with pytest.raises(UnsupportedImage, match=f"{keyword} is not one UID \\(PS3.5 9.1\\); the modality's vendor"):
        results(malformed(source, keyword, "UI", value), made)


def test_the_frames_of_a_cine_with_the_highest_number_still_get_numbers():
    source = xa(frames=2, signed=True, instance_number=2**31 - 1)

    assert [result.InstanceNumber for result in results(source)] == [1, 2]


@pytest.mark.parametrize("signed", [False, True])
def test_overlays_in_the_high_bits_do_not_count_for_the_greys_of_the_mark(signed):
    source = xa(frames=1, rows=128, columns=128, signed=signed, missing=["WindowCenter", "WindowWidth"])
    made = reconstruction(source)
    made.stored[made.aperture] |= 0x2000  # neither the sign nor one of the 12 bits

    for result in results(source, made):
        drawn = np.frombuffer(result.PixelData, made.stored.dtype).reshape(made.stored.shape)
        lowest = -2048 if signed else 0
        assert result.SOPClassUID == SecondaryCaptureImageStorage or not signed
        assert drawn[~made.aperture].min() >= lowest and drawn[~made.aperture].max() < lowest + 4096
