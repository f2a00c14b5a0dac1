"""The Segmentation object says of each pixel whether it was measured, and of which frame of which picture it speaks."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from highdicom.seg import Segmentation as Read
from highdicom.seg import segread
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import dcmread, dcmwrite

from config.mark import Mark
from dicom_node.objects.identity import Origin
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from tests.factory import Box, measured, reconstruction, xa

GENERATED, ELSEWHEN = 1, 2


def made(source, aperture=None, elsewhen=None, **provenance):
    """The pictures and their Segmentation, as a peer reads them."""
    result = reconstruction(source, aperture, **provenance)
    if elsewhen is not None:
        result = replace(result, elsewhen=elsewhen)
    pictures = secondary_captures(source, result, route="chest", mark=Mark())
    return pictures, written(
        Segmentation(source, pictures, result, origin=Origin.of(result.provenance, route="chest", mark=Mark()))
    )


def written(dataset):
    file = BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def read(file) -> Read:
    return segread(BytesIO(file))


def mask(pictures, file, segment=GENERATED):
    """(n, h, w) bool: the segment on each frame of the pictures, as highdicom finds it by what the frames refer to."""
    found = read(file)
    if segment not in found.segment_numbers:
        return np.zeros((found.NumberOfFrames, found.Rows, found.Columns), dtype=bool)
    options = {"segment_numbers": [segment], "assert_missing_frames_are_empty": True}
    if len(pictures) == 1 and "NumberOfFrames" in pictures[0]:
        numbers = range(1, pictures[0].NumberOfFrames + 1)
        shown = found.get_pixels_by_source_frame(pictures[0].SOPInstanceUID, numbers, **options)
    else:
        shown = found.get_pixels_by_source_instance([picture.SOPInstanceUID for picture in pictures], **options)
    return shown[..., 0].astype(bool)


def ellipse(frames, rows, columns):
    down, across = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.broadcast_to((down / 0.6) ** 2 + (across / 0.8) ** 2 < 1, (frames, rows, columns)).copy()


CINES = {
    "one frame": ({"frames": 1}, None),
    "no number of frames": ({"frames": 0}, None),
    "many frames": ({"frames": 70, "rows": 16, "columns": 16}, None),
    "odd sizes": ({"frames": 9, "rows": 33, "columns": 31}, None),
    "one odd frame": ({"frames": 1, "rows": 33, "columns": 31}, None),
    "an ellipse": ({"frames": 3, "rows": 65, "columns": 63}, ellipse(3, 65, 63)),
    "an aperture that moves": ({}, measured([Box(8 + at, 3 + at, 40 + at, 50) for at in range(4)], 4, 64, 64)),
    "an aperture that opens": ({}, measured([Box(at, 0, 64 - at, 64) for at in (9, 5, 1, 0)], 4, 64, 64)),
    "single frames": ({"frames": 3, "signed": True, "rows": 33, "columns": 31}, None),
}


@pytest.mark.parametrize(("cine", "aperture"), CINES.values(), ids=CINES)
def test_the_segment_is_what_was_not_measured_frame_by_frame(cine, aperture):
    source = xa(**cine)
    pictures, file = made(source, aperture)
    assert np.array_equal(mask(pictures, file), ~reconstruction(source, aperture).aperture)


@pytest.mark.parametrize(("cine", "aperture"), CINES.values(), ids=CINES)
def test_it_lies_on_the_frames_of_the_source_too(cine, aperture):
    source = xa(**cine)
    _, file = made(source, aperture)
    assert np.array_equal(mask([source], file), ~reconstruction(source, aperture).aperture)
    assert read(file).ReferencedSeriesSequence[1].SeriesInstanceUID == source.SeriesInstanceUID


@settings(deadline=None, max_examples=50)
@given(
    aperture=arrays.arrays(
        bool, st.tuples(st.integers(1, 20), st.integers(8, 20), st.integers(8, 20)), elements=st.booleans()
    )
)
def test_whatever_the_aperture_is_it_comes_back(aperture):
    pictures, file = made(xa(stored=aperture.astype(np.uint16), aperture=None), aperture)
    assert np.array_equal(mask(pictures, file), ~aperture)
    assert np.array_equal(dcmread(BytesIO(file)).pixel_array.reshape(aperture.shape), ~aperture)


def test_what_was_measured_at_another_time_is_a_segment_of_its_own():
    source = xa()
    elsewhen = np.zeros((4, 64, 64), dtype=bool)
    elsewhen[1:3, 5:12, 20:40] = True
    pictures, file = made(source, elsewhen=elsewhen)
    aperture = reconstruction(source).aperture
    assert np.array_equal(mask(pictures, file, ELSEWHEN), elsewhen)
    assert np.array_equal(mask(pictures, file), ~(aperture | elsewhen))
    assert [item.SegmentLabel for item in read(file).SegmentSequence] == [
        "Generated pixels",
        "Measured at another time",
    ]
    assert read(file).NumberOfFrames == 6


def test_a_segment_that_is_not_used_is_not_there():
    _, file = made(xa())
    assert [item.SegmentLabel for item in read(file).SegmentSequence] == ["Generated pixels"]


def test_it_names_the_model_that_generated():
    _, file = made(xa(), mode="sample", seed=5)
    (segment,) = read(file).SegmentSequence
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("fullfield", "1.0")
    assert algorithm.AlgorithmParameters == f"sha256={'0123456789abcdef' * 4},mode=sample,seed=5,aperture=attributes"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Estimated"


def test_it_belongs_to_the_patient_and_the_study_of_the_source():
    source = xa(patient_name="Müller^Jörg")
    source.private_block(0x0011, "VENDOR", create=True).add_new(1, "LO", "secret")
    _, file = made(source)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "AccessionNumber", "BodyPartExamined"):
        assert read(file)[keyword].value == source[keyword].value
    assert read(file).SeriesDescription == "Mask of GENERATED pixels: Invented cine"
    assert not [element for element in read(file) if element.tag.is_private]


def test_it_lies_in_a_series_of_its_own_beside_that_of_the_pictures():
    source = xa()
    pictures, file = made(source)
    uids = {source.SeriesInstanceUID, pictures[0].SeriesInstanceUID, read(file).SeriesInstanceUID}
    assert len(uids) == 3
    assert (pictures[0].SeriesNumber, read(file).SeriesNumber) == (201, 202)


@pytest.mark.parametrize("number", [10_000_000, 2**31 - 1])
def test_its_series_number_is_one_that_dicom_can_hold(number):
    _, file = made(xa(SeriesNumber=number))
    assert read(file).SeriesNumber <= 2**31 - 1


def test_the_side_of_the_body_is_told_of_the_image():
    assert read(made(xa(Laterality="L"))[1]).ImageLaterality == "L"


def test_frames_have_no_frame_of_reference_for_projections_lie_in_none():
    _, file = made(xa(FrameOfReferenceUID="1.2.3"))
    assert "FrameOfReferenceUID" not in read(file)


def test_the_same_arguments_give_the_same_bytes():
    source = xa()
    result = reconstruction(source)
    pictures = secondary_captures(source, result, route="chest", mark=Mark())
    one, other = (
        written(Segmentation(source, pictures, result, origin=Origin.of(result.provenance, route="chest", mark=Mark())))
        for _ in range(2)
    )
    assert one == other
