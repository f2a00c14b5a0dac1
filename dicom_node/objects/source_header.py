"""What a result takes over from the header of its source: patient, study, equipment and geometry.

Only what the standard defines is copied, by keyword; private attributes stay behind, at every level.
"""

from copy import deepcopy
from typing import Any

from highdicom.base import SOPClass
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from inference.header import UNREADABLE, items

#: General Series (C.7.3.1) without what belongs to the source's series and procedure step alone.
_SERIES = (
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
)
#: General Equipment (C.7.5.1): the place, not the device, which is named as contributing equipment.
_PLACE = (
    "InstitutionName",
    "InstitutionAddress",
    "InstitutionalDepartmentName",
    "InstitutionalDepartmentTypeCodeSequence",
)
#: Frame of Reference (C.7.4.1), Synchronization (C.7.4.2) and General Acquisition (C.7.10.1).
_WHERE_AND_WHEN = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "SynchronizationFrameOfReferenceUID",
    "SynchronizationTrigger",
    "SynchronizationChannel",
    "TriggerSourceOrType",
    "AcquisitionTimeSynchronized",
    "TimeSource",
    "AcquisitionUID",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "AcquisitionDuration",
    "IrradiationEventUID",
    "TimezoneOffsetFromUTC",
)
#: General Image (C.7.6.1), Device (C.7.6.12) and the calibration of the SC image modules (C.8.6.2, C.8.6.3).
_IMAGE = (
    "PatientOrientation",
    "ImageLaterality",
    "AnatomicRegionSequence",
    "PrimaryAnatomicStructureSequence",
    "QualityControlImage",
    "RecognizableVisualFeatures",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "PixelAspectRatio",
    "DeviceSequence",
    "PixelSpacing",
    "PixelSpacingCalibrationType",
    "PixelSpacingCalibrationDescription",
)
#: Geometry of the X-ray beam (C.8.7.2, C.8.7.3, C.8.7.5), which makes a Standard Extended SOP Class.
#: A display shutter stays behind: it would black out what was reconstructed.
_BEAM = (
    "ImagerPixelSpacing",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "EstimatedRadiographicMagnificationFactor",
    "IntensifierSize",
    "PositionerMotion",
    "PositionerPrimaryAngle",
    "PositionerSecondaryAngle",
    "PositionerPrimaryAngleIncrement",
    "PositionerSecondaryAngleIncrement",
    "PositionerType",
    "CollimatorShape",
    "CollimatorLeftVerticalEdge",
    "CollimatorRightVerticalEdge",
    "CollimatorUpperHorizontalEdge",
    "CollimatorLowerHorizontalEdge",
    "CenterOfCircularCollimator",
    "RadiusOfCircularCollimator",
    "VerticesOfThePolygonalCollimator",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
)


def take_over(source: Dataset, result: SOPClass) -> None:
    """Copy into `result` what stays true of the source: who, where, when, and how the beam went."""
    copy_attributes(source, result, ("SpecificCharacterSet",))
    result.copy_patient_and_study_information(_patient_and_study(source, str(result.SOPClassUID)))
    copy_attributes(source, result, _SERIES + _PLACE + _WHERE_AND_WHEN + _IMAGE + _BEAM)
    _complete(result)
    result.remove_private_tags()


def copy_attributes(source: Dataset, result: Dataset, keywords: tuple[str, ...]) -> None:
    """Copy the attributes that are present and readable, values and all."""
    for keyword in keywords:
        element = read_element(source, keyword)
        if element is not None:
            result.add(element)


def read_element(source: Dataset, keyword: str) -> DataElement | None:
    """A copy of one element of the root, or None where it is absent or malformed."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:
        return None
    try:
        return deepcopy(source[tag])
    except UNREADABLE:
        return None


def read_value(source: Dataset, keyword: str) -> Any:
    """The value of one attribute of the root, or None where it is absent, empty or malformed."""
    element = read_element(source, keyword)
    return None if element is None or element.is_empty else element.value


def functional_group(source: Dataset, macro: str) -> Dataset | None:
    """The macro of an enhanced multi-frame object (C.7.6.16.2): the shared one, else the first frame's."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in items(source, groups)[:1]:
            if found := items(item, macro):
                return found[0]
    return None


def _patient_and_study(source: Dataset, sop_class_uid: str) -> Dataset:
    """The source's attributes of those modules, under the class whose modules highdicom looks up."""
    header = Dataset()
    for tag in source.keys():  # noqa: SIM118 - iterating a data set would decode every element
        if tag.group in (0x0008, 0x0010, 0x0012, 0x0020, 0x0032, 0x0038, 0x0040):
            try:
                header.add(deepcopy(source[tag]))
            except UNREADABLE:
                continue
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = ""
    return header


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
    required = {"SynchronizationFrameOfReferenceUID", "SynchronizationTrigger", "AcquisitionTimeSynchronized"}
    if not required <= set(result.dir()):
        for keyword in (*required, "SynchronizationChannel", "TriggerSourceOrType", "TimeSource"):
            if keyword in result:
                delattr(result, keyword)
