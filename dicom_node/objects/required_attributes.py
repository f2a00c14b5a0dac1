"""Attributes of type 1 (PS3.5 7.4.1) that a source lacks, and a result can be made without.

Without what says how its pixels lie there is no picture: that is declined (inference/pixels.py).
"""

from collections.abc import Iterator

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from inference.header import UNREADABLE, value_of

#: Keywords by section of PS3.3.
_Sections = dict[str, tuple[str, ...]]

_X_RAY: _Sections = {
    "C.7.3.1": ("Modality",),
    "C.7.6.3": ("HighBit",),
    "C.8.7.1": ("ImageType", "PixelIntensityRelationship"),
    "C.8.7.2": ("RadiationSetting",),
}
#: Frame Content (C.7.6.16.2.2) is mandatory, and never shared, so that there are groups of each frame.
_ENHANCED: _Sections = {
    "C.7.3.1": ("Modality",),
    "C.7.5.2": ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    "C.7.6.3": ("HighBit",),
    "C.7.6.16": (
        *("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
        *("InstanceNumber", "ContentDate", "ContentTime"),
    ),
    "C.8.19.1": ("SeriesNumber",),
    "C.8.19.2": (
        *("ImageType", "AcquisitionDateTime", "PlanesInAcquisition", "ContentQualification", "BurnedInAnnotation"),
        *("LossyImageCompression", "PresentationLUTShape"),
    ),
}
#: Modality is of type 3 here (C.8.6.1).
_CAPTURE: _Sections = {"C.7.6.3": ("HighBit",), "C.8.6.1": ("ConversionType",)}
_CAPTURE_OF_FRAMES: _Sections = _CAPTURE | {"C.7.6.6": ("NumberOfFrames",), "C.8.6.3": ("BurnedInAnnotation",)}

#: By SOP class, the attributes that its mandatory modules require.
REQUIRED: dict[str, _Sections] = {
    XRayAngiographicImageStorage: _X_RAY,
    XRayRadiofluoroscopicImageStorage: _X_RAY,
    EnhancedXAImageStorage: _ENHANCED,
    EnhancedXRFImageStorage: _ENHANCED,
    SecondaryCaptureImageStorage: _CAPTURE,
    MultiFrameSingleBitSecondaryCaptureImageStorage: _CAPTURE_OF_FRAMES,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage: _CAPTURE_OF_FRAMES,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage: _CAPTURE_OF_FRAMES,
    MultiFrameTrueColorSecondaryCaptureImageStorage: _CAPTURE_OF_FRAMES,
}
#: Classes with the Multi-frame module (C.7.6.6), where there are several frames.
_WITH_A_POINTER = tuple(each for each, sections in REQUIRED.items() if sections in (_X_RAY, _CAPTURE_OF_FRAMES))


def missing(source: Dataset) -> Iterator[str]:
    """Sentences on what the class of the source requires, and the source has not or has without a value."""
    sop_class = str(value_of(source, "SOPClassUID"))
    for section, keywords in REQUIRED.get(sop_class, {}).items():
        for keyword in keywords:
            if lack := _lack(source, keyword):
                yield f"{keyword} {lack} (PS3.3 {section})."
    if sop_class in _WITH_A_POINTER and frame_count(source) > 1:
        yield from _not_pointed_at(source)


def frame_count(source: Dataset) -> int:
    """Frames by Number of Frames (C.7.6.6); 1 where it says nothing."""
    try:
        return int(value_of(source, "NumberOfFrames") or 1)
    except UNREADABLE:
        return 1


def _not_pointed_at(source: Dataset) -> Iterator[str]:
    if lack := _lack(source, "FrameIncrementPointer"):
        yield f"FrameIncrementPointer {lack} (PS3.3 C.7.6.6)."
        return
    pointer = value_of(source, "FrameIncrementPointer")
    for tag in pointer if isinstance(pointer, MultiValue | list) else [pointer]:
        keyword = keyword_for_tag(tag) if isinstance(tag, int) else ""
        if keyword and (lack := _lack(source, keyword)):
            yield f"{keyword}, which FrameIncrementPointer names, {lack} (PS3.3 C.7.6.6.1.2)."


def _lack(source: Dataset, keyword: str) -> str | None:
    """What an attribute lacks; None too for one that cannot be read, which is told as a wrong value."""
    if keyword not in source:
        return "is missing"
    try:
        return "is empty" if source[keyword].value in (None, "", b"", []) else None
    except UNREADABLE:
        return None
