"""Enhanced XA and Enhanced XRF images (PS3.3 A.47, A.48): what others say at the root stands in functional groups."""

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import EnhancedXAImageStorage, EnhancedXRFImageStorage

from tests.factory import xa

#: Of the root of an X-ray image; an enhanced one has no such attribute there.
_NOT_AT_THE_ROOT = (
    *("FrameIncrementPointer", "FrameTime", "CineRate", "RecommendedDisplayFrameRate", "PixelIntensityRelationship"),
    *("WindowCenter", "WindowWidth", "ImagerPixelSpacing", "DistanceSourceToDetector", "DistanceSourceToPatient"),
    *("EstimatedRadiographicMagnificationFactor", "PositionerMotion", "PositionerPrimaryAngle"),
    *("PositionerSecondaryAngle", "PatientOrientation", "BodyPartExamined", "XRayTubeCurrent", "ExposureTime"),
)
_COLLIMATOR = (
    *("CollimatorShape", "CollimatorLeftVerticalEdge", "CollimatorRightVerticalEdge"),
    *("CollimatorUpperHorizontalEdge", "CollimatorLowerHorizontalEdge"),
)


def enhanced_xa(
    *,
    frames: int = 4,
    primary: float | Sequence[float] = 30,
    spacing: float | Sequence[float] = 0.3,
    **options: Any,
) -> Dataset:
    """An Enhanced XA image of a C-arm with a table.

    primary: degrees of the positioner, spacing: mm at the detector, each of all frames or of every one; options: of xa.
    """
    image = _enhanced(EnhancedXAImageStorage, frames, "CARM", options)
    image.CArmPositionerTabletopRelationship = "YES"
    image.PatientOrientationCodeSequence = [code("102538003", "SCT", "recumbent")]
    image.PatientOrientationCodeSequence[0].PatientOrientationModifierCodeSequence = [code("40199007", "SCT", "supine")]
    image.PatientGantryRelationshipCodeSequence = [code("102540008", "SCT", "headfirst")]
    del image.PatientPosition  # Either is there (PS3.3 C.7.3.1).
    shared = image.SharedFunctionalGroupsSequence[0]
    shared.XRayGeometrySequence = [item(DistanceSourceToIsocenter=750, DistanceSourceToDetector=1100)]
    shared.ProjectionPixelCalibrationSequence = [
        item(DistanceObjectToTableTop=100, ObjectPixelSpacingInCenterOfBeam=[0.205, 0.205], TableHeight=10, BeamAngle=0)
    ]
    shared.PatientOrientationInFrameSequence = [item(PatientOrientation=["L", "F"])]
    for group, angle in zip(image.PerFrameFunctionalGroupsSequence, _of_each(primary, frames), strict=True):
        group.PositionerPositionSequence = [item(PositionerPrimaryAngle=angle, PositionerSecondaryAngle=-10)]
    _put_spacing(image, _of_each(spacing, frames))
    return image


def enhanced_xrf(*, frames: int = 4, **options: Any) -> Dataset:
    """An Enhanced XRF image of a column stand; options: of xa."""
    image = _enhanced(EnhancedXRFImageStorage, frames, "COLUMN", {"Modality": "RF"} | options)
    for group in image.PerFrameFunctionalGroupsSequence:
        group.PositionerPositionSequence = [item(ColumnAngulationPatient=0)]
    _put_spacing(image, [0.3] * frames)
    return image


def _enhanced(sop_class: str, frames: int, positioner: str, options: dict[str, Any]) -> Dataset:
    image = xa(sop_class=sop_class, frames=frames, attributes_say="collimator", **options)
    shared = Dataset()
    shared.FrameVOILUTSequence = [item(WindowCenter=image.WindowCenter, WindowWidth=image.WindowWidth)]
    shared.FrameAnatomySequence = [
        item(FrameLaterality="U", AnatomicRegionSequence=[code("43799004", "SCT", "Thorax")]),
    ]
    shared.IrradiationEventIdentificationSequence = [item(IrradiationEventUID="1.2.3.4")]
    shared.TablePositionSequence = [
        item(
            TableTopVerticalPosition=10,
            TableTopLongitudinalPosition=500,
            TableTopLateralPosition=0,
            TableHorizontalRotationAngle=0,
            TableHeadTiltAngle=0,
            TableCradleTiltAngle=0,
        )
    ]
    if "CollimatorShape" in image:
        shared.CollimatorShapeSequence = [item(**{keyword: image[keyword].value for keyword in _COLLIMATOR})]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_content(frame) for frame in range(frames)]
    for keyword in (*_NOT_AT_THE_ROOT, *_COLLIMATOR):
        if keyword in image:
            delattr(image, keyword)
    image.ImageType = ["ORIGINAL", "PRIMARY", "", "NONE"]
    image.AcquisitionDateTime = "20240102101200"
    image.PlanesInAcquisition, image.PlaneIdentification = "SINGLE PLANE", "MONOPLANE"
    image.ContentQualification = "PRODUCT"
    image.BurnedInAnnotation = "NO"
    image.PresentationLUTShape = "IDENTITY"
    image.AveragePulseWidth = 8
    image.AcquisitionDuration = 0.3
    image.XRayTubeCurrentInmA, image.ExposureTimeInms = 20, 8
    image.XRayReceptorType = "DIGITAL_DETECTOR"
    image.PositionerType = positioner
    image.DistanceReceptorPlaneToDetectorHousing = image.AcquiredImageAreaDoseProduct = None
    image.DetectorType, image.PhysicalDetectorSize = "DIRECT", [300, 300]
    image.FrameOfReferenceUID, image.PositionReferenceIndicator = "1.2.3.5", ""
    image.AcquisitionContextSequence = []
    return image


def _put_spacing(image: Dataset, spacing: Sequence[float]) -> None:
    for group, mm in zip(image.PerFrameFunctionalGroupsSequence, spacing, strict=True):
        group.FramePixelDataPropertiesSequence = [
            item(
                FrameType=["ORIGINAL", "PRIMARY", "", "NONE"],
                PixelIntensityRelationship="LIN",
                PixelIntensityRelationshipSign=1,
                ImagerPixelSpacing=[mm, mm],
                GeometricalProperties="UNIFORM",
                ImageProcessingApplied="NONE",
            )
        ]


def _content(frame: int) -> Dataset:
    group = Dataset()
    moment = f"20240102101200.{frame}"
    group.FrameContentSequence = [
        item(FrameReferenceDateTime=moment, FrameAcquisitionDateTime=moment, FrameAcquisitionDuration=8)
    ]
    group.FrameDetectorParametersSequence = [item(DetectorActiveTime=8)]
    return group


def _of_each(value: float | Sequence[float], frames: int) -> Sequence[float]:
    return [value] * frames if isinstance(value, int | float) else value


def code(value: str, scheme: str, meaning: str) -> Dataset:
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def item(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
