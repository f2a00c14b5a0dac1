"""What the standard's module tables require of a data set, and where it falls short."""

from collections.abc import Callable, Iterator

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import (
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)

from tests.standard import Module


def faults(dataset: Dataset, modules_of: Callable[[str], list[Module]]) -> list[str]:
    """What the modules of the data set's class require and it lacks.

    Modules that the class makes mandatory are checked, and others of which the data set has what no mandatory
    one shares: any attribute of a conditional module, one of type 1 or 1C of a free one.
    """
    modules = [module for module in modules_of(str(dataset.SOPClassUID)) if not _is_passed_over(dataset, module)]
    mandatory = [module for module in modules if module.usage == "M"]
    shared = {row.keyword for module in mandatory for row in module.rows if not row.path}
    own = set(dataset.dir()) - shared
    used = [
        module
        for module in modules
        if module.usage != "M"
        and any(
            row.keyword in own and not row.path and (module.usage == "C" or row.type in ("1", "1C"))
            for row in module.rows
        )
    ]
    return [fault for module in mandatory + used for fault in _module_faults(dataset, module)]


def _is_passed_over(dataset: Dataset, module: Module) -> bool:
    """The tables list the content of a report for every value type at once; dsrdump knows them apart. And the two kinds
    of shutter share attributes."""
    other_shutter = "display-shutter" if dataset.get("ShutterShape") == "BITMAP" else "bitmap-display-shutter"
    return module.key in ("sr-document-content", other_shutter)


def _module_faults(dataset: Dataset, module: Module) -> Iterator[str]:
    places: dict[tuple[str, ...], list[Dataset]] = {(): [dataset]}
    for row in module.rows:
        for item in _items(places, row.path):
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
            at = PLANE.get(row.keyword, row.keyword)
            if row.type.startswith("1") and (at not in item or item[at].is_empty):
                yield f"{module.key}: {name} ({row.type}) is missing or empty"
            if row.type.startswith("2") and at not in item:
                yield f"{module.key}: {name} ({row.type}) is missing"


def _items(places: dict[tuple[str, ...], list[Dataset]], path: tuple[str, ...]) -> list[Dataset]:
    """The data sets in which an attribute at this path would stand; `places` keeps them for the next one."""
    if path not in places:
        outer, keyword = _items(places, path[:-1]), path[-1]
        places[path] = [item for parent in outer if keyword in parent for item in parent[keyword].value]
    return places[path]


def never(_):
    """The condition is about what these results do not have: animals, palettes, encryption, film."""
    return False


def multiframe(dataset):
    return dataset.SOPClassUID in (
        MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        SegmentationStorage,
    )


def rescaled(dataset):
    """There is grey to rescale (C.8.6.3), and no table in its place (C.11.1)."""
    grey = dataset.get("BitsStored") != 1 and dataset.get("SamplesPerPixel") != 3
    return grey and "ModalityLUTSequence" not in dataset


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


def without(keyword):
    return lambda dataset: keyword not in dataset


X_RAY_CLASSES = (XRayAngiographicImageStorage, XRayRadiofluoroscopicImageStorage)
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: Where the first overlay has what keywords of a repeating group name.
PLANE = {
    keyword_for_tag(0x60000000 + element): 0x60000000 + element
    for element in (0x10, 0x11, 0x40, 0x50, 0x100, 0x102, 0x3000)
}
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
    "RescaleIntercept": rescaled,
    "RescaleSlope": rescaled,
    "RescaleType": rescaled,
    "WindowCenter": has("WindowWidth"),
    "WindowWidth": has("WindowCenter"),
    "VOILUTSequence": without("WindowCenter"),
    "ModalityLUTSequence": without("RescaleIntercept"),
    "SourceImageSequence.ReferencedFrameNumber": lambda dataset: (
        not multiframe(dataset) and dataset.InstanceNumber > 10_000
    ),
}
