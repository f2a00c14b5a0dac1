"""From stored values to what is seen: the grayscale pipeline of the source, and the same look in a result.

The Multi-frame Secondary Capture classes know only unsigned MONOCHROME2 (PS3.3 A.8.3.4, A.8.4.4), and bytes
only without a rescale. The stored values must not change, so a MONOCHROME1 source gets its look from a
rescale of negative slope, and windows are told in the units that come of it. What those classes cannot tell
needs the Secondary Capture class of single frames, which takes all.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from config.errors import UnsupportedImage
from dicom_node.objects.functional_groups import functional_group
from dicom_node.objects.source_header import copy_attributes, read_value
from inference.grey_mapping import Function, modality_lut_shows, voi_windows
from inference.header import items, numbers

Form = Literal["byte", "word", "frames"]


@dataclass(frozen=True, kw_only=True)
class GreyScale:
    """How the stored values of a source are shown (PS3.4 N.2): rescale, window or table, polarity."""

    bits_stored: int
    signed: bool
    #: MONOCHROME1: the lowest value is shown white.
    inverse: bool
    slope: float
    intercept: float
    rescale_type: str
    #: Centres and widths in rescaled values; the first is the one shown.
    windows: tuple[tuple[float, float], ...]
    function: Function
    #: A Modality LUT Sequence stands in place of the rescale.
    has_modality_table: bool
    has_voi_table: bool

    @property
    def form(self) -> Form:
        """The class that can hold these values with this look: multi-frame byte or word, or single frames."""
        if self.signed or self.has_modality_table or (self.has_voi_table and self.inverse):
            return "frames"
        if 9 <= self.bits_stored <= 16:
            return "word"
        rising = self.inverse == (self.slope < 0)
        rescaled = (self.slope, self.intercept) != (1, 0)
        if self.bits_stored == 8 and rising and not (self.has_voi_table and rescaled):
            return "byte"
        return "frames"


def read_grey_scale(source: Dataset) -> GreyScale:
    """Read the grayscale pipeline of a monochrome image; raises UnsupportedImage for others."""
    photometric = str(source.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UnsupportedImage(f"Photometric Interpretation {photometric or 'is missing'}: not a grey image.")
    shown = modality_lut_shows(source)
    rescale = functional_group(source, "PixelValueTransformationSequence") or source
    voi = functional_group(source, "FrameVOILUTSequence") or source
    function, windows = voi_windows(voi)
    return GreyScale(
        bits_stored=int(source.BitsStored),
        signed=bool(source.PixelRepresentation),
        inverse=photometric == "MONOCHROME1",
        slope=(_number(rescale, "RescaleSlope") or 1.0) if shown else 1.0,
        intercept=(_number(rescale, "RescaleIntercept") or 0.0) if shown else 0.0,
        rescale_type=str(read_value(rescale, "RescaleType") or "US") if shown else "US",
        windows=windows,
        function=function,
        has_modality_table=shown and bool(items(source, "ModalityLUTSequence")),
        has_voi_table=bool(items(source, "VOILUTSequence")),
    )


def put_multiframe_grey_scale(source: Dataset, grey: GreyScale, result: Dataset) -> None:
    """Give a multi-frame result the source's look, with the modules C.8.6.3 and C.11.2 alone."""
    top = grey.slope * (2**grey.bits_stored - 1)
    slope, intercept = {
        "word": (-grey.slope, grey.intercept + top) if grey.inverse else (grey.slope, grey.intercept),
        "byte": (1.0, 0.0),
    }[grey.form]
    result.PhotometricInterpretation = "MONOCHROME2"
    result.PresentationLUTShape = "IDENTITY"
    result.RescaleSlope = DSfloat(slope, auto_format=True)
    result.RescaleIntercept = DSfloat(intercept, auto_format=True)
    result.RescaleType = grey.rescale_type
    scale = slope / grey.slope
    _put_windows(grey, result, scale, intercept - scale * grey.intercept)
    copy_attributes(source, result, ("WindowCenterWidthExplanation", "VOILUTSequence"))


def put_frame_grey_scale(source: Dataset, grey: GreyScale, result: Dataset) -> None:
    """Give a single-frame result the source's look, attribute by attribute (C.11.1, C.11.2)."""
    result.PhotometricInterpretation = "MONOCHROME1" if grey.inverse else "MONOCHROME2"
    result.PresentationLUTShape = "INVERSE" if grey.inverse else "IDENTITY"
    if grey.has_modality_table:
        copy_attributes(source, result, ("ModalityLUTSequence",))
    else:
        result.RescaleSlope = DSfloat(grey.slope, auto_format=True)
        result.RescaleIntercept = DSfloat(grey.intercept, auto_format=True)
        result.RescaleType = grey.rescale_type
    _put_windows(grey, result, 1.0, 0.0)
    copy_attributes(source, result, ("WindowCenterWidthExplanation", "VOILUTSequence"))


def put_source_grey_scale(source: Dataset, grey: GreyScale, result: Dataset) -> None:
    """Give a result of the source's own class the source's look, as the source tells it (C.11.1, C.11.2)."""
    result.PhotometricInterpretation = "MONOCHROME1" if grey.inverse else "MONOCHROME2"
    copy_attributes(source, result, ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"))
    _put_windows(grey, result, 1.0, 0.0)
    copy_attributes(source, result, ("WindowCenterWidthExplanation", "VOILUTSequence"))


def black_and_white(grey: GreyScale, stored: NDArray[np.integer]) -> tuple[int, int]:
    """The stored values shown black and white: the ends of the window, else of the picture's own range.

    stored: (n, h, w). Both lie in what BitsStored can hold.
    """
    lowest = -(2 ** (grey.bits_stored - 1)) if grey.signed else 0
    highest = lowest + 2**grey.bits_stored - 1
    if grey.windows and not grey.has_modality_table:
        centre, width = grey.windows[0]
        ends = sorted((value - grey.intercept) / grey.slope for value in (centre - width / 2, centre + width / 2))
        dark, bright = (round(min(max(end, lowest), highest)) for end in ends)
    else:
        sample = _without_overlays(stored[:: max(1, len(stored) // 16), ::2, ::2], grey)
        dark, bright = int(sample.min()), int(sample.max())
    if dark == bright:
        dark, bright = lowest, highest
    falling = grey.inverse != (grey.slope < 0)
    return (bright, dark) if falling else (dark, bright)


def _without_overlays(stored: NDArray[np.integer], grey: GreyScale) -> NDArray[np.integer]:
    """The values of the stored bits alone; the bits above may hold overlays, or copies of the sign."""
    values: NDArray[np.int32] = stored.astype(np.int32) & (2**grey.bits_stored - 1)
    if grey.signed:
        values[values >= 2 ** (grey.bits_stored - 1)] -= 2**grey.bits_stored
    return values


def _put_windows(grey: GreyScale, result: Dataset, scale: float, offset: float) -> None:
    """Write the windows for values that are `scale` times the source's rescaled ones plus `offset`.

    LINEAR counts from half a value below its centre and over a width less one (C.11.2.1.2.1).
    """
    if not grey.windows:
        return
    half, one = (0.5, 1.0) if grey.function == "LINEAR" else (0.0, 0.0)
    result.WindowCenter = [
        DSfloat(scale * (centre - half) + offset + half, auto_format=True) for centre, _ in grey.windows
    ]
    result.WindowWidth = [DSfloat(abs(scale) * (width - one) + one, auto_format=True) for _, width in grey.windows]
    if grey.function != "LINEAR":
        result.VOILUTFunction = grey.function


def _number(dataset: Dataset, keyword: str) -> float | None:
    return next(iter(numbers(dataset, keyword)), None)
