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
from dicom_node.workflow.reconstruction import objects_of, read_image
from inference.aperture import apertures_from_attributes
from inference.composite import compose
from inference.pixels import read_cine
from inference.reconstruction import Reconstruction
from tests.factory import Box, measured, reconstruction, xa

NOTHING = Beside(segmentation=False, presentation_state=False, report=False)


def modality_table(draw, bits: int, signed: bool) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [2**bits % 65536, 0, 16]
    if signed:
        table["LUTDescriptor"].VR = "SS"
        table.LUTDescriptor = [2**bits if bits < 15 else 0, -(2 ** (bits - 1)), 16]
    table.ModalityLUTType = "US"
    entries = np.linspace(0, 65535, 2**bits).astype("<u2")
    table.add_new("LUTData", "OW", (entries if draw(st.booleans()) else entries[::-1]).tobytes())
    return table


def shutter(draw, rows: int, columns: int) -> dict[str, object]:
    """Attributes of one shape: Display Shutter (C.7.6.11) or X-Ray Collimator (C.8.7.3)."""
    kind, shape = draw(st.sampled_from(["Shutter", "Collimator"])), draw(st.sampled_from(["box", "circle", "polygon"]))
    if shape == "box":
        left, top = draw(st.integers(1, columns // 2)), draw(st.integers(1, rows // 2))
        names = ("LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge")
        edges = (left, draw(st.integers(left + 1, columns)), top, draw(st.integers(top + 1, rows)))
        found = {f"{kind}{name}": edge for name, edge in zip(names, edges, strict=True)}
        return found | {f"{kind}Shape": "RECTANGULAR"}
    if shape == "circle":
        centre = [draw(st.integers(1, rows)), draw(st.integers(1, columns))]
        radius = draw(st.integers(1, max(rows, columns)))
        return {f"{kind}Shape": "CIRCULAR", f"CenterOfCircular{kind}": centre, f"RadiusOfCircular{kind}": radius}
    corners = draw(st.lists(st.tuples(st.integers(1, rows), st.integers(1, columns)), min_size=3, max_size=7))
    return {
        f"{kind}Shape": "POLYGONAL",
        f"VerticesOfThePolygonal{kind}": [side for corner in corners for side in corner],
    }


@st.composite
def sources(draw) -> Dataset:
    """A cine, or a single image, of any supported kind; its aperture stands in the attributes or in none."""
    rows, columns, frames = draw(st.integers(16, 61)), draw(st.integers(16, 61)), draw(st.integers(0, 5))
    bits, signed = draw(st.integers(8, 16)), draw(st.booleans())
    look: dict[str, object] = {"PixelIntensityRelationship": draw(st.sampled_from(["LIN", "LOG", "DISP"]))}
    if draw(st.booleans()):
        slope = draw(st.sampled_from([0.5, 1, 3, -2]))
        look |= {"RescaleSlope": slope, "RescaleIntercept": draw(st.integers(-900, 900)), "RescaleType": "US"}
    elif draw(st.booleans()) and bits < 15:
        look["ModalityLUTSequence"] = [modality_table(draw, bits, signed)]
    lowest = -(2 ** (bits - 1)) if signed else 0
    kind = f"<{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return xa(
        stored=noise.integers(lowest, lowest + 2**bits, (max(1, frames), rows, columns)).astype(kind),
        bits_stored=bits,
        bits_allocated=16 if bits > 8 else draw(st.sampled_from([8, 16])),
        signed=signed,
        photometric=draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        attributes_say="nothing",
        missing=["NumberOfFrames"] if frames == 0 else [],
        **look,
        **(shutter(draw, rows, columns) if draw(st.booleans()) else {}),
    )


def received(source: Dataset) -> Dataset:
    file = BytesIO()
    dcmwrite(file, source, enforce_file_format=True)
    return read_image(BytesIO(file.getvalue()))


def composed(source: Dataset, aperture: np.ndarray, generated: np.ndarray) -> Reconstruction:
    """A reconstruction as the product composes it: grey levels (n, h, w) wherever `aperture` is False."""
    cine = read_cine(source)
    frames = [compose(*parts, cine.mapping) for parts in zip(cine.stored, generated, aperture, strict=True)]
    made = reconstruction(source, aperture)
    return Reconstruction(
        stored=np.stack(frames),
        aperture=aperture,
        elsewhen=np.zeros_like(aperture),
        uncertainty=made.uncertainty,
        provenance=made.provenance,
    )


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
@given(data=st.data(), profile=st.sampled_from(get_args(ObjectProfile)), border=st.sampled_from(["solid", "dashed"]))
def test_measured_pixels_are_bit_equal_for_every_kind_of_source_look_aperture_and_profile(data, profile, border):
    source = received(data.draw(sources()))
    stored = source.pixel_array.reshape(-1, source.Rows, source.Columns)
    told = apertures_from_attributes(source, stored.shape)
    noise = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    if told is None:  # one for each frame: blobs, with holes and islands
        coarse = noise.random((len(stored), 4, 4)) < data.draw(st.floats(0.1, 0.9))
        told = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, : source.Rows, : source.Columns]
    made = composed(source, told, noise.uniform(-1.5, 1.5, stored.shape).astype(np.float32))
    found = shown(source, made, profile, Mark(border=border))
    assert np.array_equal(found[told], stored[told])


@pytest.mark.parametrize(
    "profile", ["multiframe_sc", "like_source", pytest.param("single_frames", marks=pytest.mark.long)]
)
def test_a_thousand_frames_with_an_aperture_each_keep_what_was_measured(profile):
    boxes = [Box(2 + at % 5, 1 + at % 3, 12 + at % 4, 11 + at % 5) for at in range(1000)]
    noise = np.random.default_rng(3)
    source = received(xa(stored=noise.integers(0, 4096, (1000, 17, 19)).astype("<u2"), attributes_say="nothing"))
    aperture = measured(boxes, 1000, 17, 19)
    made = composed(source, aperture, noise.uniform(-1, 1, aperture.shape).astype(np.float32))
    found = shown(source, made, profile, Mark())
    assert len(found) == 1000
    assert np.array_equal(found[aperture], source.pixel_array[aperture])
