"""The look of a result: measured pixels have the grey in it that they had in the source, and that the model saw."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from config.mark import Mark
from dicom_node.objects.secondary_capture import secondary_captures
from inference.pixels import read_cine
from tests.factory import reconstruction, xa

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_WINDOW = ["WindowCenter", "WindowWidth"]


def greys(source):
    """The grey levels of the first frame's measured pixels, in the source and in its result."""
    made = reconstruction(source)
    inside = made.aperture[0]
    capture = secondary_captures(source, made, route="r", mark=Mark())[0]
    file = BytesIO()
    dcmwrite(file, capture, enforce_file_format=True)
    cines = [read_cine(dataset) for dataset in (source, dcmread(BytesIO(file.getvalue())))]
    return [cine.mapping.to_grey(cine.stored[0])[inside] for cine in cines]


def table(falling=False):
    item = Dataset()
    values = list(range(0, 65536, 16))
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], values[::-1] if falling else values
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return [item]


def window(macro="FrameVOILUTSequence", **values):
    group, item = Dataset(), Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    setattr(group, macro, [item])
    return [group]


@pytest.mark.parametrize(
    "kind",
    [
        {"RescaleSlope": -1, "RescaleIntercept": 4095},
        {"RescaleSlope": -1, "RescaleIntercept": 4095, "PixelIntensityRelationship": "LOG"},
        {"RescaleSlope": -1, "RescaleIntercept": 4095, "photometric": "MONOCHROME1"},
        {"RescaleSlope": -1, "RescaleIntercept": 255, "bits_stored": 8},
        {"sop_class": CAPTURE, "ModalityLUTSequence": table(), "missing": NO_WINDOW},
        {"sop_class": CAPTURE, "ModalityLUTSequence": table(falling=True), "missing": NO_WINDOW},
        {"VOILUTSequence": table(), "missing": NO_WINDOW},
        {"VOILUTSequence": table(), "missing": NO_WINDOW, "photometric": "MONOCHROME1"},
        {"SharedFunctionalGroupsSequence": window(WindowCenter=900, WindowWidth=700)},
        {
            "SharedFunctionalGroupsSequence": window(
                "PixelValueTransformationSequence", RescaleSlope=-3, RescaleIntercept=7, RescaleType="US"
            ),
            "WindowCenter": -6000,
            "WindowWidth": 9000,
        },
    ],
)
def test_tables_rescales_and_groups_give_the_same_grey(kind):
    before, after = greys(xa(frames=2, **kind))

    assert np.ptp(before) > 0.2
    assert np.abs(after - before).max() < 1e-3


@settings(max_examples=60)
@given(
    bits=st.integers(8, 16),
    signed=st.booleans(),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.sampled_from([-2.5, -1, 0.25, 1, 3]),
    intercept=st.integers(-3000, 3000),
    low=st.floats(0, 0.6),
    share=st.floats(0.3, 1.5),
)
def test_every_window_gives_the_same_grey(bits, signed, photometric, function, slope, intercept, low, share):
    span = 2**bits
    middle = (low + share / 2) * span - (span / 2 if signed else 0)
    source = xa(
        frames=1,
        bits_stored=bits,
        signed=signed,
        photometric=photometric,
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        RescaleType="US",
        WindowCenter=round(slope * middle + intercept, 2),
        WindowWidth=round(abs(slope) * share * span + 2, 2),
    )

    before, after = greys(source)

    assert np.abs(after - before).max() < 1e-3
