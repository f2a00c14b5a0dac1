"""From a DICOM image to stored values and grey levels, and back for generated pixels.

Stored values are kept as they are; a `GreyMapping` says what they look like (PS3.4 N.2: modality LUT, VOI LUT,
polarity), as a frame in [-1, 1].
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragmented_frames, parse_basic_offsets
from pydicom.pixels import iter_pixels
from pydicom.uid import UID, XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage

from config.errors import UnsupportedImage

#: Largest picture side and frame count of one object; a header beyond them is taken for damage.
MAX_SIDE, MAX_FRAMES = 8192, 20_000


@dataclass(frozen=True, kw_only=True)
class GreyMapping:
    """A straight line between stored values and grey levels.

    The stored value `low` is grey -1 and `high` is grey 1; `low` > `high` where low values are shown white.
    `smallest` and `largest` are the values that the stored bits can hold.
    """

    low: float
    high: float
    smallest: int
    largest: int

    @classmethod
    def full_range(cls, *, bits_stored: int, signed: bool = False) -> "GreyMapping":
        """The whole range of the stored bits, rising."""
        smallest = -(2 ** (bits_stored - 1)) if signed else 0
        largest = smallest + 2**bits_stored - 1
        return cls(low=smallest, high=largest, smallest=smallest, largest=largest)

    def to_grey(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """Stored values of any shape as grey levels, clipped to [-1, 1]; bits beyond BitsStored do not count."""
        span = self.largest - self.smallest + 1
        value = (stored.astype(np.int32) - self.smallest) % span + self.smallest
        grey = (value - np.float32(self.low)) * np.float32(2 / (self.high - self.low)) - 1
        return np.clip(grey, -1, 1, dtype=np.float32)

    def to_stored(self, grey: NDArray[np.float32], dtype: np.dtype[np.integer]) -> NDArray[np.integer]:
        """Grey levels in [-1, 1] as the nearest values that the stored bits can hold."""
        value = np.float32(self.low) + (grey + 1) * np.float32((self.high - self.low) / 2)
        return np.clip(np.rint(value), self.smallest, self.largest).astype(dtype)


@dataclass(frozen=True, kw_only=True)
class Cine:
    """The frames of one image as stored, and what they look like.

    stored: (n, h, w) integers in the type that BitsAllocated and PixelRepresentation name.
    """

    stored: NDArray[np.integer]
    mapping: GreyMapping


def read_cine(source: Dataset) -> Cine:
    """Decode a monochrome image of any number of frames. Raises UnsupportedImage with the reason.

    The header is held against the pixel data's real size before memory is taken for it.
    """
    frames, rows, columns = _check_header(source)
    _check_pixel_data(source, frames, rows, columns)
    signed = bool(source.PixelRepresentation)
    stored = np.empty((frames, rows, columns), np.dtype(f"{'i' if signed else 'u'}{source.BitsAllocated // 8}"))
    done = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for frame in iter_pixels(source, raw=True):
                stored[done] = frame
                done += 1
    except Exception as error:  # the decoders' own exceptions are of many kinds
        raise UnsupportedImage(
            f"Frame {done + 1} of the pixel data cannot be decoded; send the image again or check its source."
        ) from error
    if done != frames:
        raise UnsupportedImage(f"The header claims {frames} frames, but the pixel data hold {done}.")
    return Cine(stored=stored, mapping=_mapping(source))


def _check_header(source: Dataset) -> tuple[int, int, int]:
    """Frames, rows and columns of a picture that can be reconstructed."""
    for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"):
        if source.get(keyword) is None:
            raise UnsupportedImage(f"{keyword} is missing: not an image.")
    if "PixelData" not in source or not source["PixelData"].value:
        raise UnsupportedImage("The object has no pixel data.")
    if source.SamplesPerPixel != 1 or source.get("PhotometricInterpretation") not in ("MONOCHROME1", "MONOCHROME2"):
        kind = source.get("PhotometricInterpretation", "of unknown kind")
        raise UnsupportedImage(f"Only grey images are reconstructed; this one is {kind}.")
    allocated, stored = int(source.BitsAllocated), int(source.BitsStored)
    if allocated not in (8, 16) or not 8 <= stored <= allocated:
        raise UnsupportedImage(f"{stored} bits stored in {allocated} are not supported; 8 to 16 in 8 or 16 are.")
    if int(source.get("HighBit", stored - 1)) != stored - 1:
        raise UnsupportedImage(f"High Bit {source.HighBit} does not go with {stored} bits stored.")
    try:
        frames = int(source.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        raise UnsupportedImage("Number of Frames is not a number.") from None
    rows, columns = int(source.Rows), int(source.Columns)
    if not (16 <= rows <= MAX_SIDE and 16 <= columns <= MAX_SIDE):
        raise UnsupportedImage(f"A picture of {columns} x {rows} pixels is not supported; 16 to {MAX_SIDE} a side are.")
    if not 1 <= frames <= MAX_FRAMES:
        raise UnsupportedImage(f"The header claims {frames} frames; 1 to {MAX_FRAMES} are supported.")
    return frames, rows, columns


def _check_pixel_data(source: Dataset, frames: int, rows: int, columns: int) -> None:
    """Hold what the header claims against what is there."""
    syntax = getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise UnsupportedImage("The transfer syntax is not stated.")
    syntax, data = UID(syntax), source.PixelData
    if not syntax.is_compressed or not syntax.is_encapsulated:
        claimed = frames * rows * columns * int(source.BitsAllocated) // 8
        if len(data) < claimed:
            raise UnsupportedImage(f"The pixel data are cut short: {len(data)} bytes where the header claims {claimed}.")
        return
    try:
        parse_basic_offsets(data)
        # Each frame has at least one fragment; counting stops as soon as there are enough.
        found = sum(1 for _ in zip(range(frames), generate_fragmented_frames(data, number_of_frames=frames), strict=False))
    except Exception as error:  # pydicom raises several kinds for damaged encapsulation
        raise UnsupportedImage(
            f"The pixel data do not hold the {frames} frames that the header claims, or are cut short."
        ) from error
    if found < frames:
        raise UnsupportedImage(f"The header claims {frames} frames, but the pixel data hold {found}.")


def _mapping(source: Dataset) -> GreyMapping:
    """The line through modality LUT, first VOI window and polarity (PS3.3 C.11.1, C.11.2.1.2)."""
    full = GreyMapping.full_range(bits_stored=int(source.BitsStored), signed=bool(source.PixelRepresentation))
    slope, intercept = _rescale(source)
    low, high = full.low, full.high
    window = _window(source)
    if window is not None:
        low, high = ((edge - intercept) / slope for edge in window)
    elif slope < 0:
        low, high = high, low
    if source.PhotometricInterpretation == "MONOCHROME1":
        low, high = high, low
    return GreyMapping(low=low, high=high, smallest=full.smallest, largest=full.largest)


def _rescale(source: Dataset) -> tuple[float, float]:
    """Slope and intercept of the modality LUT; 1 and 0 where it is not applied for display (PS3.3 C.8.7.1.1.2)."""
    is_xray = source.get("SOPClassUID") in (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)
    if is_xray and source.get("PixelIntensityRelationship") in ("LOG", "DISP"):
        return 1.0, 0.0
    if source.get("ModalityLUTSequence"):
        raise UnsupportedImage("A Modality LUT Sequence that is no straight line is not supported.")
    group = _functional_group(source, "PixelValueTransformationSequence") or source
    return float(group.get("RescaleSlope") or 1), float(group.get("RescaleIntercept") or 0)


def _window(source: Dataset) -> tuple[float, float] | None:
    """Lower and upper edge of the first VOI window, in rescaled values, or None without one."""
    voi = source if source.get("WindowCenter") is not None else _functional_group(source, "FrameVOILUTSequence")
    if voi is None or voi.get("WindowCenter") is None or voi.get("WindowWidth") is None:
        return None
    centre, width = (float(np.atleast_1d(voi[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    if voi.get("VOILUTFunction", "LINEAR") == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return (centre - width / 2, centre + width / 2) if width > 0 else None


def _functional_group(source: Dataset, keyword: str) -> Dataset | None:
    """The first item of a shared or per-frame functional group of an enhanced image."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (source.get(groups) or [])[:1]:
            if items := group.get(keyword):
                item: Dataset = items[0]
                return item
    return None
