"""The FRACTIONAL Segmentation says of each generated pixel how wide its interval is, and of which frame it speaks."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmwrite

from config.mark import Mark
from dicom_node.objects.identity import Origin
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.uncertainty import Uncertainty
from tests.factory import reconstruction, xa


def made(source, uncertainty=None):
    """The pictures, the map as highdicom reads it, and the reconstruction that both are of."""
    result = reconstruction(source)
    if uncertainty is not None:
        result = replace(result, uncertainty=uncertainty)
    pictures = secondary_captures(source, result, route="chest", mark=Mark())
    origin = Origin.of(result.provenance, route="chest", mark=Mark())
    file = BytesIO()
    dcmwrite(file, Uncertainty(source, pictures, result, origin=origin), enforce_file_format=True)
    return pictures, segread(BytesIO(file.getvalue())), result


@pytest.mark.parametrize("cine", [{}, {"frames": 1, "rows": 33, "columns": 31}, {"frames": 0}])
def test_a_pixel_holds_the_share_of_the_grey_range_that_its_interval_takes_up(cine):
    source = xa(**cine)
    shape = reconstruction(source).uncertainty.shape
    widths = np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    _, read, _ = made(source, widths)
    shown = read.pixel_array.reshape(shape) / read.MaximumFractionalValue
    assert np.abs(shown - widths).max() <= 0.5 / 255 + 1e-6


def test_an_interval_wider_than_the_grey_range_is_all_of_it():
    _, read, _ = made(xa(), np.full((4, 64, 64), 1.7, dtype=np.float32))
    assert (read.pixel_array == 255).all()


def test_each_frame_names_the_frame_of_the_picture_that_it_speaks_of():
    (picture,), read, result = made(xa())
    shown = read.get_pixels_by_source_frame(picture.SOPInstanceUID, [1, 2, 3, 4], rescale_fractional=True)
    assert np.allclose(shown[..., 0], result.uncertainty, atol=0.5 / 255)


def test_single_pictures_are_named_one_by_one():
    pictures, read, _ = made(xa(frames=3, signed=True))
    named = [
        groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        for groups in read.PerFrameFunctionalGroupsSequence
    ]
    assert named == [picture.SOPInstanceUID for picture in pictures]


def test_it_says_what_its_values_mean():
    _, read, _ = made(xa())
    (segment,) = read.SegmentSequence
    assert read.SegmentationType == "FRACTIONAL"
    assert segment.SegmentLabel == "Width of the 90 % interval"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "+/-, range of measurement uncertainty"
