"""What a fluoroscopy room sends beside its cines, as real objects of their classes, plainly invented.

cine = xa()
dose_report(cine)                          an X-Ray Radiation Dose SR with the content tree of TID 10001
presentation_state(cine)                   a displayed area, a softcopy VOI window, a circle and a text
single_bit_capture(cine)                   a bit-packed mask, whose frames do not end with a byte
true_colour_capture(cine)                  a picture in RGB
"""

import numpy as np
from highdicom import ModalityLUTTransformation
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DateTimeContentItem,
    NumContentItem,
    RelationshipTypeValues,
    TextContentItem,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import (
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
    generate_uid,
)

CONTAINS, HAS_CONCEPT_MOD = RelationshipTypeValues.CONTAINS, RelationshipTypeValues.HAS_CONCEPT_MOD
HAS_OBS_CONTEXT, HAS_PROPERTIES = RelationshipTypeValues.HAS_OBS_CONTEXT, RelationshipTypeValues.HAS_PROPERTIES

_OF_PATIENT_AND_STUDY = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "TimezoneOffsetFromUTC",
)


def dose_report(cine: Dataset) -> Dataset:
    """An X-Ray Radiation Dose SR (PS3.3 A.35.8) of one plane and one event, after TID 10001, 10002, 10003 and 10004."""
    report = of_study_of(cine, XRayRadiationDoseSRStorage, "SR")
    report.ReferencedPerformedProcedureStepSequence = []
    report.PerformedProcedureCodeSequence = []
    report.CompletionFlag = "COMPLETE"
    report.VerificationFlag = "UNVERIFIED"
    plane = _code("113764", "Acquisition Plane", ("113622", "Single Plane"), HAS_CONCEPT_MOD)
    procedure = _code("121058", "Procedure reported", ("113704", "Projection X-Ray"), HAS_CONCEPT_MOD)
    procedure.ContentSequence = ContentSequence(
        [_code("363703001", "Has Intent", ("261004008", "Diagnostic Intent"), HAS_CONCEPT_MOD, "SCT")]
    )
    observer = _code("121005", "Observer Type", ("121007", "Device"), HAS_OBS_CONTEXT)
    device = UIDRefContentItem(_dcm("121012", "Device Observer UID"), generate_uid(), HAS_OBS_CONTEXT)
    scope = _code("113705", "Scope of Accumulation", ("113014", "Study"), HAS_OBS_CONTEXT)
    study = UIDRefContentItem(_dcm("110180", "Study Instance UID"), cine.StudyInstanceUID, HAS_PROPERTIES)
    scope.ContentSequence = ContentSequence([study])
    accumulated = _container(
        "10002",
        "113702",
        "Accumulated X-Ray Dose Data",
        plane,
        _number("122130", "Dose Area Product Total", 0.00012, "Gy.m2"),
        _number("113725", "Dose (RP) Total", 0.0034, "Gy"),
        _number("113730", "Total Fluoro Time", 12.5, "s"),
        _number("113731", "Total Number of Radiographic Frames", 4, "1"),
        CodeContentItem(_dcm("113876", "Device Role in Procedure"), _dcm("113859", "Irradiating Device"), CONTAINS),
    )
    event = _container(
        "10003",
        "113706",
        "Irradiation Event X-Ray Data",
        plane,
        UIDRefContentItem(_dcm("113769", "Irradiation Event UID"), generate_uid(), CONTAINS),
        DateTimeContentItem(_dcm("111526", "DateTime Started"), "20240102101200.5", CONTAINS),
        _code("113721", "Irradiation Event Type", ("44491008", "Fluoroscopy"), CONTAINS, values="SCT"),
        _code("123014", "Target Region", ("51185008", "Chest"), CONTAINS, values="SCT"),
        TextContentItem(_dcm("121106", "Comment"), "Durchleuchtung, eingeblendet: Größe 2", CONTAINS),
        _number("122130", "Dose Area Product", 0.00012, "Gy.m2"),
        _number("113738", "Dose (RP)", 0.0034, "Gy"),
        _number("113790", "Collimated Field Area", 0.0225, "m2"),
        _number("112011", "Positioner Primary Angle", 30, "deg"),
        _number("112012", "Positioner Secondary Angle", -10, "deg"),
        _number("113733", "KVP", 80, "kV"),
        _number("113734", "X-Ray Tube Current", 20, "mA"),
        _number("113824", "Exposure Time", 8, "ms"),
    )
    root = _container(
        "10001",
        "113701",
        "X-Ray Radiation Dose Report",
        procedure,
        observer,
        device,
        scope,
        accumulated,
        event,
        _code("113854", "Source of Dose Information", ("113856", "Automated Data Collection"), CONTAINS),
    )
    del root.RelationshipType
    report.update(root)
    return report


def presentation_state(cine: Dataset, sop_class: str = GrayscaleSoftcopyPresentationStateStorage) -> Dataset:
    """A presentation state of all frames of a cine, as a workstation saves it (PS3.3 A.33.1).

    Of XA/XRF (PS3.3 A.33.6) it subtracts the first frame from the others too.
    """
    layer = GraphicLayer("FINDING", order=1, description="Invented finding")
    circle = GraphicObject("CIRCLE", np.array([[32.5, 30.0], [40.0, 30.0]]), "PIXEL")
    text = TextObject("Befund: nächste Kontrolle", "PIXEL", anchor_point=(32.5, 30.0))
    state = GrayscaleSoftcopyPresentationState(
        [cine],
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Invented Imaging",
        manufacturer_model_name="Workstation 1",
        software_versions="1.0",
        device_serial_number="0002",
        content_label="FINDING",
        content_description="Invented finding",
        content_creator_name="Invented^Reader",
        graphic_layers=[layer],
        graphic_annotations=[GraphicAnnotation([cine], layer, graphic_objects=[circle], text_objects=[text])],
        # highdicom looks for one in the functional groups of every multi-frame image, which a cine has not.
        modality_lut_transformation=ModalityLUTTransformation(0.0, 1.0, "US"),
        voi_lut_transformations=[SoftcopyVOILUTTransformation(window_center=1800.5, window_width=900)],
    )
    state.Laterality = ""
    state.SOPClassUID = state.file_meta.MediaStorageSOPClassUID = sop_class
    if sop_class != GrayscaleSoftcopyPresentationStateStorage:
        mask = Dataset()
        mask.ApplicableFrameRange = [2, int(cine.NumberOfFrames)]
        mask.MaskOperation = "AVG_SUB"
        mask.MaskFrameNumbers = [1]
        mask.PixelShiftSequence = [_no_shift(mask.ApplicableFrameRange)]
        mask.ReferencedImageSequence = state.ReferencedSeriesSequence[0].ReferencedImageSequence
        state.MaskSubtractionSequence = [mask]
    return state


def single_bit_capture(cine: Dataset, frames: int = 3, rows: int = 33, columns: int = 35) -> Dataset:
    """A Multi-frame Single Bit Secondary Capture (PS3.3 A.8.2): a growing box, packed without gaps (PS3.5 8.1.1)."""
    bits = np.zeros((frames, rows, columns), dtype=np.uint8)
    for number, frame in enumerate(bits):
        frame[4 : 12 + 5 * number, 3 : 20 + 4 * number] = 1
    capture = _capture(cine, MultiFrameSingleBitSecondaryCaptureImageStorage, bits.shape)
    capture.SamplesPerPixel = 1
    capture.PhotometricInterpretation = "MONOCHROME2"
    capture.BitsAllocated = capture.BitsStored = 1
    capture.HighBit = 0
    capture.PixelData = pack_bits(bits.ravel(), pad=True)
    capture["PixelData"].VR = "OB"
    return capture


def true_colour_capture(cine: Dataset, frames: int = 2, rows: int = 48, columns: int = 40) -> Dataset:
    """A Multi-frame True Color Secondary Capture (PS3.3 A.8.5): ramps of red and green, noise in blue."""
    colour = np.empty((frames, rows, columns, 3), dtype=np.uint8)
    colour[..., 0] = np.linspace(0, 255, columns, dtype=np.uint8)
    colour[..., 1] = np.linspace(255, 0, rows, dtype=np.uint8)[:, None]
    colour[..., 2] = np.random.default_rng(0).integers(0, 256, colour.shape[:-1])
    capture = _capture(cine, MultiFrameTrueColorSecondaryCaptureImageStorage, colour.shape)
    capture.SamplesPerPixel = 3
    capture.PhotometricInterpretation = "RGB"
    capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelData = colour.tobytes()
    capture["PixelData"].VR = "OB"
    return capture


def _no_shift(frames: list[int]) -> Dataset:
    """Of the whole mask, for the frames from the first to the last (PS3.3 C.11.19)."""
    of_region = Dataset()
    of_region.MaskSubPixelShift = [0.0, 0.0]
    shift = Dataset()
    shift.PixelShiftFrameRange = frames
    shift.RegionPixelShiftSequence = [of_region]
    return shift


def _capture(cine: Dataset, sop_class: str, shape: tuple[int, ...]) -> Dataset:
    capture = of_study_of(cine, sop_class, "OT")
    capture.ConversionType = "WSD"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = ""
    capture.Laterality = ""
    capture.BurnedInAnnotation = "NO"
    capture.NumberOfFrames, capture.Rows, capture.Columns = shape[:3]
    capture.FrameIncrementPointer = 0x00181063
    capture.FrameTime = "66.667"
    capture.PixelRepresentation = 0
    capture.LossyImageCompression = "00"
    return capture


def of_study_of(cine: Dataset, sop_class: str, modality: str) -> Dataset:
    """An object of a series of its own, in the study of a cine."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _OF_PATIENT_AND_STUDY:
        dataset[keyword] = cine[keyword]
    dataset.ContentDate, dataset.ContentTime = cine.ContentDate, cine.ContentTime
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.SeriesNumber, dataset.InstanceNumber = 9, 1
    dataset.Modality = modality
    dataset.Manufacturer = "Invented Imaging"
    dataset.ManufacturerModelName = "C-arm 1"
    dataset.DeviceSerialNumber = "0001"
    dataset.SoftwareVersions = "1.0"
    return dataset


def _dcm(value: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, "DCM", meaning)


def _code(
    value: str,
    meaning: str,
    holds: tuple[str, str],
    relationship: RelationshipTypeValues,
    names: str = "DCM",
    values: str = "",
) -> CodeContentItem:
    """An item with a code for its value; names, values: the schemes of its name and of its value, DCM or SCT."""
    of_value = values or names
    return CodeContentItem(
        CodedConcept(value, names, meaning), CodedConcept(holds[0], of_value, holds[1]), relationship
    )


def _number(value: str, meaning: str, number: float, unit: str) -> NumContentItem:
    unit_code = CodedConcept(unit, "UCUM", "no units" if unit == "1" else unit)
    return NumContentItem(_dcm(value, meaning), number, unit_code, relationship_type=CONTAINS)


def _container(template: str, value: str, meaning: str, *items: ContentItem) -> ContainerContentItem:
    container = ContainerContentItem(_dcm(value, meaning), template_id=template, relationship_type=CONTAINS)
    container.ContentSequence = ContentSequence(items)
    return container
