import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import XRayRadiofluoroscopicImageStorage

from config.errors import UnsupportedImage
from dicom_node.objects.grey_scale import read_grey_scale
from inference.grey_mapping import GreyMapping, grey_mapping
from tests.factory import malformed, xa

XRAY_SINGLE_FRAME_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def header(**attributes):
    return xa(frames=1, rows=16, columns=16, **attributes)


def values_of(mapping):
    return np.arange(mapping.lowest, mapping.highest + 1).astype(mapping.dtype)


@given(bits=st.integers(8, 16), signed=st.booleans(), inverted=st.booleans())
def test_every_stored_value_comes_back_from_its_grey(bits, signed, inverted):
    mapping = GreyMapping.full_range(bits_stored=bits, signed=signed, inverted=inverted)

    values = values_of(mapping)

    assert np.array_equal(mapping.to_stored(mapping.to_grey(values)), values)
    assert mapping.to_stored(mapping.to_grey(values)).dtype == values.dtype


@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    centre=st.floats(-1e5, 1e5),
    width=st.floats(0, 2e5),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_grey_is_monotone_within_bounds_and_what_it_shows_comes_back(
    bits, signed, photometric, centre, width, function
):
    dataset = header(bits_stored=bits, signed=signed, photometric=photometric, VOILUTFunction=function)
    dataset.WindowCenter, dataset.WindowWidth = float(f"{centre:.6g}"), float(f"{width:.6g}")
    try:
        mapping = grey_mapping(dataset)
    except UnsupportedImage:
        # A narrow sigmoid far from all values shows them as one grey: there is nothing to come back.
        assert function == "SIGMOID"
        reject()
    values = values_of(mapping)

    grey = mapping.to_grey(values)

    steps = np.diff(grey) * (-1 if photometric == "MONOCHROME1" else 1)
    assert grey.min() >= -1 and grey.max() <= 1 and steps.min() >= 0
    # Greys that float32 tells apart come back as the value they stand for.
    told_apart = np.concatenate([[0], steps]) > 1e-5
    told_apart[:-1] &= steps > 1e-5
    assert np.array_equal(mapping.to_stored(grey)[told_apart], values[told_apart])


def test_generated_grey_never_leaves_what_the_bits_can_hold():
    dataset = header(bits_stored=10, WindowCenter=512, WindowWidth=4000)
    mapping = grey_mapping(dataset)

    stored = mapping.to_stored(np.linspace(-3, 3, 101))

    assert stored.min() == 0 and stored.max() == 1023


def test_a_linear_window_follows_the_formula_of_the_standard():
    mapping = grey_mapping(header(WindowCenter=2048, WindowWidth=4096))

    grey = mapping.to_grey(np.array([0, 1024, 4095], dtype=np.uint16))

    assert grey == pytest.approx([-1, 2 * ((1024 - 2047.5) / 4095 + 0.5) - 1, 1], abs=1e-6)


def test_an_exact_linear_window_follows_its_own_formula():
    mapping = grey_mapping(header(WindowCenter=1000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT"))

    grey = mapping.to_grey(np.array([400, 500, 1000, 1250, 1500, 1600], dtype=np.uint16))

    assert grey == pytest.approx([-1, -1, 0, 0.5, 1, 1], abs=1e-6)


def test_a_window_that_shows_no_picture_does_not_count():
    for attributes in ({"WindowWidth": 1}, {"WindowCenter": 100_000}, {"WindowWidth": None}):
        mapping = grey_mapping(header(**attributes))
        assert mapping == GreyMapping.full_range(bits_stored=12)


def test_only_the_first_of_several_windows_counts():
    mapping = grey_mapping(header(WindowCenter=[1000, 5], WindowWidth=[1001, 3]))

    assert mapping.to_grey(np.array([498, 1502], dtype=np.uint16)) == pytest.approx([-1, 1], abs=0.005)


def test_a_window_that_cannot_be_is_passed_over_as_in_the_result():
    mapping = grey_mapping(header(WindowCenter=[5, 1000], WindowWidth=[0, 1001]))
    assert mapping == grey_mapping(header(WindowCenter=1000, WindowWidth=1001))
    assert read_grey_scale(header(WindowCenter=[5, 1000], WindowWidth=[0, 1001])).windows == ((1000, 1001),)


def test_a_function_that_the_standard_does_not_know_is_linear_as_in_the_result():
    mapping = grey_mapping(header(WindowCenter=1000, WindowWidth=1001, VOILUTFunction="CUBIC"))
    assert mapping == grey_mapping(header(WindowCenter=1000, WindowWidth=1001))
    assert read_grey_scale(header(VOILUTFunction="CUBIC")).function == "LINEAR"


def test_low_values_are_bright_in_monochrome1():
    mapping = grey_mapping(header(photometric="MONOCHROME1"))

    assert list(mapping.to_grey(np.array([0, 4095], dtype=np.uint16))) == [1, -1]


def test_unused_high_bits_never_show():
    for signed in (False, True):
        mapping = grey_mapping(header(signed=signed))
        plain = values_of(mapping)
        with_overlay = (plain.astype(np.uint16) ^ np.uint16(0xA000)).astype(plain.dtype)
        assert np.array_equal(mapping.to_grey(with_overlay), mapping.to_grey(plain))


@pytest.mark.parametrize(
    ("image", "counts"),
    [
        ({"sop_class": XRAY_SINGLE_FRAME_CAPTURE}, True),
        ({"PixelIntensityRelationship": "LIN"}, True),
        ({"missing": ["PixelIntensityRelationship"]}, True),
        ({"PixelIntensityRelationship": "LOG"}, False),
        ({"PixelIntensityRelationship": "DISP", "sop_class": XRayRadiofluoroscopicImageStorage}, False),
        ({"PixelIntensityRelationship": "LOG", "sop_class": XRAY_SINGLE_FRAME_CAPTURE}, True),
    ],
)
def test_the_rescale_counts_but_where_it_leads_angiography_back_to_intensity(image, counts):
    rescaled = {"RescaleSlope": -2, "RescaleIntercept": 8190, "WindowCenter": 4096, "WindowWidth": 8192}
    mapping = grey_mapping(header(**image, **rescaled))

    grey = mapping.to_grey(np.array([0, 4095], dtype=np.uint16))

    assert grey == pytest.approx([1, -1] if counts else [-1, 0], abs=1e-3)


def lookup(entries, first=0, bits=16):
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = [int(entry) for entry in entries]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return [item]


def test_a_lookup_table_bends_the_grey():
    entries = (np.linspace(0, 1, 4096) ** 2 * 65535).round()
    dataset = header(VOILUTSequence=lookup(entries), missing=["WindowCenter", "WindowWidth"])

    mapping = grey_mapping(dataset)

    assert mapping.to_grey(np.array([2048], dtype=np.uint16)) == pytest.approx([-0.5], abs=0.001)
    assert abs(int(mapping.to_stored(np.array([-0.5]))[0]) - 2048) <= 1


def test_a_lookup_table_that_folds_values_is_declined():
    entries = np.concatenate([np.arange(2048), np.arange(2048)[::-1]])
    dataset = header(VOILUTSequence=lookup(entries, bits=12), missing=["WindowCenter", "WindowWidth"])

    with pytest.raises(UnsupportedImage, match="fold"):
        grey_mapping(dataset)


def test_an_enhanced_image_says_its_window_in_the_functional_groups():
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 500.5, 1001
    group = Dataset()
    group.FrameVOILUTSequence = [window]
    dataset = header(missing=["WindowCenter", "WindowWidth"], SharedFunctionalGroupsSequence=[group])

    assert grey_mapping(dataset).to_grey(np.array([0, 500, 1000], dtype=np.uint16)) == pytest.approx(
        [-1, 0, 1], abs=0.002
    )


def test_a_rescale_that_makes_one_grey_of_everything_is_declined():
    with pytest.raises(UnsupportedImage, match="fold"):
        grey_mapping(header(sop_class=XRAY_SINGLE_FRAME_CAPTURE, RescaleSlope=0, RescaleIntercept=7))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("value", ["abc", "100\\", "\\100", "nan", "inf", "1e400", ""])
def test_a_window_that_cannot_be_read_does_not_count(keyword, value):
    dataset = malformed(header(), keyword, "DS", value)

    assert grey_mapping(dataset) == GreyMapping.full_range(bits_stored=12)


@pytest.mark.parametrize("keyword", ["SharedFunctionalGroupsSequence", "VOILUTSequence"])
def test_a_sequence_that_is_none_does_not_count(keyword):
    for vr, value in (("SQ", "xx"), ("UN", "xx"), ("LO", "text")):
        assert grey_mapping(malformed(header(), keyword, vr, value)) == grey_mapping(header())
