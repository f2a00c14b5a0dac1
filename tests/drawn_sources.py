"""Sources of every supported kind as hypothesis draws them, and what a model might make of them.

@given(reconstructed())
def test(case): source, reconstruction = case
"""

from io import BytesIO

import numpy as np
from hypothesis import strategies as st
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from dicom_node.workflow.reconstruction import read_image
from inference.aperture import apertures_from_attributes
from inference.composite import compose
from inference.pixels import read_cine
from inference.reconstruction import Reconstruction
from tests.factory import Box, measured, reconstruction, xa


@st.composite
def reconstructed(draw) -> tuple[Dataset, Reconstruction]:
    """A source as it was received, and a reconstruction of it, of an aperture of any shape."""
    source = _received(draw(_sources()))
    shape = source.pixel_array.reshape(-1, source.Rows, source.Columns).shape
    aperture = apertures_from_attributes(source, shape)
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if aperture is None:  # one for each frame: blobs, with holes and islands
        coarse = noise.random((shape[0], 4, 4)) < draw(st.floats(0.1, 0.9))
        aperture = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, : source.Rows, : source.Columns]
    return source, _composed(source, aperture, noise.uniform(-1.5, 1.5, shape).astype(np.float32))


def a_thousand_frames() -> tuple[Dataset, Reconstruction]:
    """A cine with an aperture for each frame, and a reconstruction of it."""
    noise = np.random.default_rng(3)
    stored = noise.integers(0, 4096, (1000, 17, 19)).astype("<u2")
    boxes = [Box(2 + at % 5, 1 + at % 3, 12 + at % 4, 11 + at % 5) for at in range(len(stored))]
    source = _received(xa(stored=stored, attributes_say="nothing"))
    aperture = measured(boxes, *stored.shape)
    return source, _composed(source, aperture, noise.uniform(-1, 1, aperture.shape).astype(np.float32))


@st.composite
def _sources(draw) -> Dataset:
    """A cine, or a single image, of any supported kind; its aperture stands in the attributes or in none."""
    rows, columns, frames = draw(st.integers(16, 61)), draw(st.integers(16, 61)), draw(st.integers(0, 5))
    bits, signed = draw(st.integers(8, 16)), draw(st.booleans())
    look: dict[str, object] = {"PixelIntensityRelationship": draw(st.sampled_from(["LIN", "LOG", "DISP"]))}
    if draw(st.booleans()):
        slope = draw(st.sampled_from([0.5, 1, 3, -2]))
        look |= {"RescaleSlope": slope, "RescaleIntercept": draw(st.integers(-900, 900)), "RescaleType": "US"}
    elif draw(st.booleans()) and bits < 15:
        look["ModalityLUTSequence"] = [_modality_table(draw, bits, signed)]
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
        **(_shutter(draw, rows, columns) if draw(st.booleans()) else {}),
    )


def _modality_table(draw, bits: int, signed: bool) -> Dataset:
    table = Dataset()
    table.LUTDescriptor = [2**bits % 65536, 0, 16]
    if signed:
        table["LUTDescriptor"].VR = "SS"
        table.LUTDescriptor = [2**bits if bits < 15 else 0, -(2 ** (bits - 1)), 16]
    table.ModalityLUTType = "US"
    entries = np.linspace(0, 65535, 2**bits).astype("<u2")
    table.add_new("LUTData", "OW", (entries if draw(st.booleans()) else entries[::-1]).tobytes())
    return table


def _shutter(draw, rows: int, columns: int) -> dict[str, object]:
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


def _received(source: Dataset) -> Dataset:
    file = BytesIO()
    dcmwrite(file, source, enforce_file_format=True)
    return read_image(BytesIO(file.getvalue()))


def _composed(source: Dataset, aperture: np.ndarray, generated: np.ndarray) -> Reconstruction:
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
