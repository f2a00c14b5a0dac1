"""Measured pixels are untouched (promise 3): from the file of a source to the file of each result, for every kind of
pixel, look and aperture, in every profile."""

from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from config.mark import Mark
from config.objects import Beside, ObjectProfile
from dicom_node.workflow.reconstruction import objects_of
from inference.reconstruction import Reconstruction
from tests.drawn_sources import a_thousand_frames, reconstructed

NOTHING = Beside(segmentation=False, presentation_state=False, report=False)


def shown(source: Dataset, made: Reconstruction, profile: ObjectProfile, mark: Mark) -> np.ndarray:
    """(n, h, w) stored values of the results, each written to a file and read back."""
    carried = objects_of(source, made, route="r", mark=mark, profile=profile, beside=NOTHING)
    frames = []
    for result in carried.objects:
        file = BytesIO()
        dcmwrite(file, result, enforce_file_format=True)
        again = dcmread(BytesIO(file.getvalue()))
        assert (again.BitsStored, again.PixelRepresentation) == (source.BitsStored, source.PixelRepresentation)
        frames.append(again.pixel_array.reshape(-1, again.Rows, again.Columns))
    return np.concatenate(frames)


@settings(max_examples=100, deadline=None)
@given(
    case=reconstructed(),
    profile=st.sampled_from(get_args(ObjectProfile)),
    border=st.sampled_from(["solid", "dashed"]),
)
def test_measured_pixels_are_bit_equal_for_every_kind_of_source_look_aperture_and_profile(case, profile, border):
    source, made = case
    found = shown(source, made, profile, Mark(border=border))
    assert np.array_equal(found[made.aperture], source.pixel_array.reshape(found.shape)[made.aperture])


@pytest.mark.parametrize(
    "profile", ["multiframe_sc", "like_source", pytest.param("single_frames", marks=pytest.mark.long)]
)
def test_a_thousand_frames_with_an_aperture_each_keep_what_was_measured(profile):
    source, made = a_thousand_frames()
    found = shown(source, made, profile, Mark())
    assert len(found) == 1000
    assert np.array_equal(found[made.aperture], source.pixel_array[made.aperture])
