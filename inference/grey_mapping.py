"""Stored values to grey and back: the grey image is what a viewer shows first, on [-1, 1].

Modality LUT, then VOI window or VOI LUT, then the photometric interpretation (PS3.4 N.2). The result is monotone,
so that generated grey levels can be written in the stored values of their source.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi
from pydicom.uid import XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage

from config.errors import UnsupportedImage
from inference.header import items, numbers, value_of

Function = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

_PROJECTIONS = (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)


@dataclass(frozen=True, kw_only=True)
class GreyMapping:
    """A monotone, piecewise linear mapping between stored values and grey in [-1, 1].

    Beyond its first and last level the grey stays what it is there. Bits above `bits_stored`, which may hold
    overlays, never count.
    """

    #: Bits of a stored value that hold the pixel, 8 to 16; they are the lowest ones.
    bits_stored: int
    #: Bits of a stored value altogether, 8 or 16.
    bits_allocated: int
    #: Whether stored values are two's complement (Pixel Representation 1).
    signed: bool
    #: Stored values at which the grey is given, rising.
    levels: tuple[float, ...]
    #: The grey at each of `levels`, strictly rising or strictly falling.
    greys: tuple[float, ...]

    @classmethod
    def full_range(
        cls, *, bits_stored: int, bits_allocated: int | None = None, signed: bool = False, inverted: bool = False
    ) -> "GreyMapping":
        """All that the bits can hold, on [-1, 1]; `inverted`: the lowest value is the brightest (MONOCHROME1)."""
        lowest = -(2 ** (bits_stored - 1)) if signed else 0
        return cls(
            bits_stored=bits_stored,
            bits_allocated=bits_allocated or (8 if bits_stored == 8 else 16),
            signed=signed,
            levels=(lowest, lowest + 2**bits_stored - 1),
            greys=(1.0, -1.0) if inverted else (-1.0, 1.0),
        )

    @property
    def lowest(self) -> int:
        """The smallest value that the stored bits can hold."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest value that the stored bits can hold."""
        return self.lowest + (1 << self.bits_stored) - 1

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The type of stored values."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    def to_grey(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """Grey in [-1, 1], float32, of integers of any shape."""
        codes = stored.astype(np.uint16) & np.uint16(2**self.bits_stored - 1)
        return self._grey_of_code.take(codes)

    def to_stored(self, grey: NDArray[np.floating]) -> NDArray[np.integer]:
        """The stored values nearest to a grey, of the source's type and within what its bits can hold."""
        order = slice(None) if self.greys[0] < self.greys[-1] else slice(None, None, -1)
        nearest = np.rint(np.interp(grey, self.greys[order], self.levels[order]))
        stored: NDArray[np.integer] = np.clip(nearest, self.lowest, self.highest).astype(self.dtype)
        return stored

    @cached_property
    def _grey_of_code(self) -> NDArray[np.float32]:
        """The grey of every pattern of the stored bits, read as an unsigned number."""
        values = np.arange(2**self.bits_stored)
        if self.signed:
            values = np.where(values > self.highest, values - 2**self.bits_stored, values)
        return np.interp(values, self.levels, self.greys).astype(np.float32)


def grey_mapping(dataset: Dataset) -> GreyMapping:
    """The mapping that an image's header asks for; where functional groups differ by frame, the first frame's.

    The header's Image Pixel attributes must have been checked. Raises UnsupportedImage where a lookup table is
    broken or not monotone.
    """
    plain = GreyMapping.full_range(
        bits_stored=dataset.BitsStored,
        bits_allocated=dataset.BitsAllocated,
        signed=bool(dataset.PixelRepresentation),
    )
    values = np.arange(plain.lowest, plain.highest + 1, dtype=np.int32)
    modality = _modality_values(dataset, values)
    shown = _windowed(dataset, modality)
    if shown is None:
        shown = _looked_up(dataset, modality)
    if shown is None or np.ptp(shown) == 0:
        shown = (modality - modality.min()) / max(float(np.ptp(modality)), 1e-12)
    greys = 2 * shown - 1
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        greys = -greys
    levels, greys = _strictly_monotone(values.astype(np.float64), greys)
    return GreyMapping(
        bits_stored=plain.bits_stored,
        bits_allocated=plain.bits_allocated,
        signed=plain.signed,
        levels=tuple(levels.tolist()),
        greys=tuple(greys.tolist()),
    )


def modality_lut_shows(dataset: Dataset) -> bool:
    """Whether the modality LUT is a step of display.

    In XA and XRF images of logarithmic or display values it leads back to X-ray intensity (PS3.3 C.8.7.1.1.2).
    """
    as_stored = value_of(dataset, "PixelIntensityRelationship") in ("LOG", "DISP")
    return not (as_stored and value_of(dataset, "SOPClassUID") in _PROJECTIONS)


def voi_windows(voi: Dataset) -> tuple[Function, tuple[tuple[float, float], ...]]:
    """The VOI LUT function, LINEAR where it is none, and centre and width of the windows that can be.

    A width of LINEAR is 1 or more (PS3.3 C.11.2.1.2.1), that of the others above 0.
    """
    named = str(value_of(voi, "VOILUTFunction") or "LINEAR")
    function: Function = named if named in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"  # type: ignore[assignment]
    linear = function == "LINEAR"
    pairs = zip(numbers(voi, "WindowCenter"), numbers(voi, "WindowWidth"), strict=False)
    return function, tuple((centre, width) for centre, width in pairs if (width >= 1 if linear else width > 0))


def _modality_values(dataset: Dataset, values: NDArray[np.int32]) -> NDArray[np.float64]:
    """What the modality LUT (PS3.3 C.11.1) makes of each stored value."""
    if not modality_lut_shows(dataset):
        return values.astype(np.float64)
    source = _functional_group(dataset, "PixelValueTransformationSequence") or dataset
    try:
        return np.asarray(apply_modality_lut(values, source), dtype=np.float64)
    except Exception as error:  # a broken table fails in as many ways as it has parts
        raise UnsupportedImage("The modality LUT cannot be read; the modality's vendor mends its header.") from error


def _windowed(dataset: Dataset, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What the first VOI window (PS3.3 C.11.2.1.2 and C.11.2.1.3) makes of values, on [0, 1]; None without one.

    A window that shows fewer than three different greys shows no picture and does not count.
    """
    source = _functional_group(dataset, "FrameVOILUTSequence") or dataset
    function, windows = voi_windows(source)
    if not windows:
        return None
    centre, width = windows[0]
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    relative = (values - centre) / max(width, 1e-3)
    shown: NDArray[np.float64] = np.clip(relative + 0.5, 0, 1)
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * relative, -500, 500)))
    if len(np.unique(shown)) < 3:
        return None
    return shown


def _looked_up(dataset: Dataset, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """What the first VOI LUT (PS3.3 C.11.2.1.1) makes of values, on [0, 1]; None without one."""
    source = _functional_group(dataset, "FrameVOILUTSequence") or dataset
    if not items(source, "VOILUTSequence"):
        return None
    try:
        bits = int(source.VOILUTSequence[0].LUTDescriptor[2])
        looked_up: NDArray[np.float64] = apply_voi(np.rint(values).astype(np.int32), source) / (2**bits - 1)
    except Exception as error:  # a broken table fails in as many ways as it has parts
        raise UnsupportedImage("The VOI LUT cannot be read; the modality's vendor mends its header.") from error
    return looked_up


def _strictly_monotone(
    values: NDArray[np.float64], greys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The fewest points that describe the same curve, none of them level with the one before."""
    steps = np.diff(greys)
    if not (np.all(steps >= 0) or np.all(steps <= 0)) or not steps.any():
        raise UnsupportedImage(
            "The lookup tables fold different stored values into one grey, so generated grey levels "
            "cannot be written back."
        )
    # Of a level stretch at either end, only the value next to the slope: stored values stay near the picture.
    moving = np.flatnonzero(steps)
    values, greys = values[moving[0] : moving[-1] + 2], greys[moving[0] : moving[-1] + 2]
    rising = np.concatenate([[True], np.diff(greys) != 0])
    values, greys = values[rising], greys[rising]
    slopes = np.diff(greys) / np.diff(values)
    bends = np.flatnonzero(np.abs(np.diff(slopes)) > 1e-9 * np.abs(slopes[1:])) + 1
    kept = np.concatenate([[0], bends, [len(values) - 1]])
    return values[kept], greys[kept]


def _functional_group(dataset: Dataset, keyword: str) -> Dataset | None:
    """The item of a functional group macro (PS3.3 C.7.6.16): shared, else the first frame's."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(dataset, groups)[:1]:
            if found := items(group, keyword):
                return found[0]
    return None
