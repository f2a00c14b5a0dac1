"""What a result takes over from the header of its source: patient, study, equipment and geometry.

Only what the standard defines is copied, by keyword; private attributes stay behind, at every level, but for those that
private_blocks.py lets through.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from highdicom.base import SOPClass
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_node.objects.character_set import TEXT, as_meant, is_named, is_repeated
from dicom_node.objects.functional_groups import COLLIMATOR, grouped_elements
from dicom_node.objects.source_faults import mended
from inference.header import UNREADABLE

#: What every picture takes over where the source has it, by the section of PS3.3 that defines it.
#: General Series without what belongs to the source's series and procedure step alone; General Equipment without the
#: device, which is named as contributing equipment. The geometry of the X-ray beam makes a Standard Extended SOP Class
#: of a Secondary Capture. A display shutter stays behind: it would black out what was reconstructed.
CARRIED: dict[str, tuple[str, ...]] = {
    "C.7.3.1": (
        "PerformingPhysicianName",
        "PerformingPhysicianIdentificationSequence",
        "OperatorsName",
        "OperatorIdentificationSequence",
        "AnatomicalOrientationType",
        "BodyPartExamined",
        "ProtocolName",
        "PatientPosition",
        "Laterality",
        "PerformedProtocolCodeSequence",
        "RequestAttributesSequence",
        "TreatmentSessionUID",
    ),
    "C.7.5.1": (
        "InstitutionName",
        "InstitutionAddress",
        "InstitutionalDepartmentName",
        "InstitutionalDepartmentTypeCodeSequence",
    ),
    "C.7.4.1": ("FrameOfReferenceUID", "PositionReferenceIndicator"),
    "C.7.4.2": (
        "SynchronizationFrameOfReferenceUID",
        "SynchronizationTrigger",
        "SynchronizationChannel",
        "TriggerSourceOrType",
        "AcquisitionTimeSynchronized",
        "TimeSource",
    ),
    "C.7.10.1": (
        "AcquisitionUID",
        "AcquisitionDate",
        "AcquisitionTime",
        "AcquisitionDateTime",
        "AcquisitionNumber",
        "AcquisitionDuration",
        "IrradiationEventUID",
    ),
    "C.7.6.14": ("AcquisitionContextSequence",),
    "C.12.1": ("TimezoneOffsetFromUTC",),
    "C.7.6.1": (
        "PatientOrientation",
        "ImageLaterality",
        "AnatomicRegionSequence",
        "PrimaryAnatomicStructureSequence",
        "QualityControlImage",
        "RecognizableVisualFeatures",
        "LossyImageCompression",
        "LossyImageCompressionRatio",
        "LossyImageCompressionMethod",
    ),
    "C.7.6.3": ("PixelAspectRatio",),
    "C.7.6.12": ("DeviceSequence",),
    "10.7": ("PixelSpacing", "PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription"),
    "C.8.7.1": ("PixelIntensityRelationship", "PixelIntensityRelationshipSign"),
    "C.8.7.2": ("ImagerPixelSpacing", "IntensifierSize"),
    "C.8.7.3": COLLIMATOR,
    "C.8.7.5": (
        "DistanceSourceToDetector",
        "DistanceSourceToPatient",
        "EstimatedRadiographicMagnificationFactor",
        "PositionerMotion",
        "PositionerPrimaryAngle",
        "PositionerSecondaryAngle",
        "PositionerPrimaryAngleIncrement",
        "PositionerSecondaryAngleIncrement",
        "PositionerType",
    ),
}
#: What a picture of the source's own X-ray class takes over beside. Not the dose: who adds up what images say of it
#: would count an exposure twice. Not the mask: it would subtract what was generated from what was generated.
X_RAY: dict[str, tuple[str, ...]] = {
    "C.7.6.4": (
        "ContrastBolusAgent",
        "ContrastBolusAgentSequence",
        "ContrastBolusRoute",
        "ContrastBolusAdministrationRouteSequence",
        "ContrastBolusVolume",
        "ContrastBolusStartTime",
        "ContrastBolusStopTime",
        "ContrastBolusTotalDose",
        "ContrastFlowRate",
        "ContrastFlowDuration",
        "ContrastBolusIngredient",
        "ContrastBolusIngredientConcentration",
    ),
    "C.7.6.9": ("FrameNumbersOfInterest", "FrameOfInterestDescription", "FrameOfInterestType"),
    "C.8.7.1": (
        "ScanOptions",
        "RWavePointer",
        "ReferencedImageSequence",
        "AcquisitionDeviceProcessingDescription",
        "CalibrationImage",
    ),
    "C.8.7.2": (
        "KVP",
        "RadiationSetting",
        "XRayTubeCurrent",
        "XRayTubeCurrentInuA",
        "ExposureTime",
        "ExposureTimeInuS",
        "Exposure",
        "ExposureInuAs",
        "Grid",
        "AveragePulseWidth",
        "RadiationMode",
        "TypeOfFilters",
        "FieldOfViewShape",
        "FieldOfViewDimensions",
        "FocalSpots",
    ),
    "C.8.7.4": (
        "TableMotion",
        "TableVerticalIncrement",
        "TableLongitudinalIncrement",
        "TableLateralIncrement",
        "TableAngle",
    ),
    "C.8.7.5": ("DetectorPrimaryAngle", "DetectorSecondaryAngle"),
    "C.8.7.6": ("ColumnAngulation",),
    "C.8.7.7": ("TomoLayerHeight", "TomoAngle", "TomoTime", "TomoType", "TomoClass"),
}


def take_over(source: Dataset, result: SOPClass, frame: int | None = None) -> None:
    """Copy into `result` what stays true of the source: who, where, when, and how the beam went.

    frame: the one frame (from 1) of an enhanced source that the result shows; None where it shows all.
    """
    repeated = is_repeated(source)
    if repeated:
        copy_attributes(source, result, ("SpecificCharacterSet",))
    result.copy_patient_and_study_information(_patient_and_study(source, str(result.SOPClassUID)))
    copy_attributes(source, result, tuple(keyword for keywords in CARRIED.values() for keyword in keywords))
    for element in grouped_elements(source, frame):
        result.add(element)
    _complete(result)
    result.remove_private_tags()
    if not repeated and not _is_ascii(result):
        result.SpecificCharacterSet = "ISO_IR 192"


def copy_attributes(source: Dataset, result: Dataset, keywords: tuple[str, ...]) -> None:
    """Copy the attributes that are present and readable, values and all."""
    for keyword in keywords:
        element = read_element(source, keyword)
        if element is not None:
            result.add(element)


def read_element(source: Dataset, keyword: str) -> DataElement | None:
    """A valid copy of one element of the root, or None where it is absent or malformed."""
    tag = tag_for_keyword(keyword)
    return copy_of(source, Tag(tag)) if tag is not None and tag in source else None


def copy_of(source: Dataset, tag: BaseTag) -> DataElement | None:
    """A valid copy of an element that is there, or None where it is malformed."""
    try:
        element = mended(source[tag])
    except UNREADABLE:
        return None
    if element is None:
        return None
    return _in_little_endian(element if is_named(source) else as_meant(element), source)


def read_value(source: Dataset, keyword: str) -> Any:
    """The value of one attribute of the root, or None where it is absent, empty or malformed."""
    element = read_element(source, keyword)
    return None if element is None or element.is_empty else element.value


def _patient_and_study(source: Dataset, sop_class_uid: str) -> Dataset:
    """The source's attributes of those modules, under the class whose modules highdicom looks up."""
    header = Dataset()
    for tag in source.keys():  # noqa: SIM118 - iterating a data set would decode every element
        if tag.group in (0x0008, 0x0010, 0x0012, 0x0020, 0x0032, 0x0038, 0x0040):
            element = copy_of(source, tag)
            if element is not None:
                header.add(element)
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = ""
    return header


#: Bytes of a word of each value representation that pydicom leaves in the byte order of the file (PS3.5 7.3).
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


def _in_little_endian(element: DataElement, source: Dataset) -> DataElement:
    """The element as results are written; of a big-endian source pydicom has converted numbers, but no words."""
    _, little = source.original_encoding
    if little is not False:
        return element
    for inner in _with_items(element):
        size = _WORDS.get(inner.VR)
        if size is not None and isinstance(inner.value, bytes) and len(inner.value) % size == 0:
            inner.value = np.frombuffer(inner.value, f">u{size}").byteswap().tobytes()
    return element


def _with_items(element: DataElement) -> Iterator[DataElement]:
    yield element
    if element.VR == "SQ":
        for item in element.value:
            for inner in item:
                yield from _with_items(inner)


def _is_ascii(result: Dataset) -> bool:
    return all(str(inner.value).isascii() for each in result for inner in _with_items(each) if inner.VR in TEXT)


def _complete(result: Dataset) -> None:
    """Give the attributes that others make required a value, empty where it is unknown and may be."""
    if "FrameOfReferenceUID" in result and "PositionReferenceIndicator" not in result:
        result.PositionReferenceIndicator = ""
    if "PixelSpacingCalibrationType" in result and "PixelSpacingCalibrationDescription" not in result:
        result.PixelSpacingCalibrationDescription = "Calibration of the source image"
    if "PatientOrientation" not in result:
        result.PatientOrientation = ""
    if not {"Laterality", "ImageLaterality", "BodyPartExamined"} & set(result.dir()):
        result.Laterality = ""
    if "AcquisitionContextSequence" in result and not result.AcquisitionContextSequence:
        del result.AcquisitionContextSequence  # that there is none only enhanced classes have to say
    required = {"SynchronizationFrameOfReferenceUID", "SynchronizationTrigger", "AcquisitionTimeSynchronized"}
    if not required <= set(result.dir()):
        for keyword in (*required, "SynchronizationChannel", "TriggerSourceOrType", "TimeSource"):
            if keyword in result:
                delattr(result, keyword)
