"""What a source has wrong is mended, left out or repeated, and told by attribute and section."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from config.mark import Mark
from dicom_node.commands.demo import SAMPLE
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.source_faults import faults
from dicom_node.objects.source_header import read_element
from inference.pixels import read_cine
from tests.enhanced import enhanced_xa
from tests.factory import malformed, reconstruction, write, xa

#: Of the groups that are looked through.
CODES = [
    "PatientSex",
    "PatientPosition",
    "BodyPartExamined",
    "Laterality",
    "ImageLaterality",
    "ImageType",
    "ScanOptions",
    "PositionerMotion",
    "TableMotion",
    "RadiationMode",
    "FieldOfViewShape",
    "CollimatorShape",
    "ShutterShape",
    "PositionerType",
    "Grid",
    "SynchronizationTrigger",
    "AcquisitionTimeSynchronized",
    "AnatomicalOrientationType",
]

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "taken"),
    [
        ("StudyDate", "DA", "20260231", None),
        ("StudyDate", "DA", "2026.02.03", None),
        ("StudyTime", "TM", "250000", None),
        ("StudyTime", "TM", "0830 ", "0830"),
        ("AcquisitionDateTime", "DT", "20261301", None),
        ("AcquisitionDateTime", "DT", "202603", "202603"),
        ("AcquisitionDateTime", "DT", "20260301080000.5+0100", "20260301080000.5+0100"),
        ("PatientAge", "AS", "45", None),
        ("FrameOfReferenceUID", "UI", "1.2.03", None),
        ("FrameOfReferenceUID", "UI", "1." * 40 + "1", None),
        ("BodyPartExamined", "CS", "Chest", "CHEST"),
        ("BodyPartExamined", "CS", "the whole of the chest", None),
        ("DistanceSourceToDetector", "DS", "1000.000000000000001", 1000.0),
        ("DistanceSourceToDetector", "DS", "1e999", None),
        ("AcquisitionNumber", "IS", "99999999999", None),
        ("PatientName", "PN", "Ä" * 70, "Ä" * 70),
    ],
)
def test_a_value_that_is_none_is_mended_or_left_out(keyword, vr, value, taken):
    source = malformed(xa(charset="ISO_IR 192"), keyword, vr, value)

    element = read_element(source, keyword)

    assert (element.value if element is not None else None) == taken


def test_of_a_sequence_the_items_that_are_right_stay():
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "1", "One"
    malformed(item, "ContextGroupVersion", "DT", "yesterday")
    source = xa(PerformedProtocolCodeSequence=[item])

    (copied,) = read_element(source, "PerformedProtocolCodeSequence").value

    assert (copied.CodeMeaning, "ContextGroupVersion" in copied) == ("One", False)
    (said,) = [said for said in faults(source) if "PerformedProtocolCodeSequence" in said]
    assert "holds ContextGroupVersion, which is not a date and time (PS3.5 6.2): left out of the result." in said


def test_a_sound_source_has_no_faults(tmp_path: Path):
    assert faults(xa()) == []
    assert faults(dcmread(write(xa(), tmp_path / "a.dcm"))) == []
    assert faults(dcmread(SAMPLE)) == []


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowWidth": 1},
        {"WindowWidth": 0.5, "VOILUTFunction": "SIGMOID"},
        {"WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": [2048, 1024], "WindowWidth": [4096, 400]},
        {"missing": ["WindowCenter", "WindowWidth"]},
        {"FrameTimeVector": [0, 66, 67, 66], "FrameIncrementPointer": 0x00181065},
        {"frames": 1},
        {"frames": 0, "sop_class": SecondaryCaptureImageStorage, "ConversionType": "DI"},
        {"frames": 1, "sop_class": SecondaryCaptureImageStorage, "ConversionType": "DI"},
    ],
)
def test_what_only_looks_like_a_contradiction_is_not_told(attributes):
    assert faults(xa(**attributes)) == []


def test_a_window_of_one_frame_that_cannot_be_is_told_once():
    source = enhanced_xa(frames=4)
    window = source.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    del source.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence
    for group in source.PerFrameFunctionalGroupsSequence:
        group.FrameVOILUTSequence = window
    assert faults(source) == []
    window[0].WindowWidth = 0

    assert faults(source) == [
        "WindowWidth is below 1 (PS3.3 C.11.2.1.2.1): that window is left out of the result.",
    ]


def test_faults_are_told_without_values(tmp_path: Path):
    source = xa(missing=["PixelIntensityRelationship"], charset=None, patient_name="Müller^Jörg")
    malformed(source, "PatientBirthDate", "DA", "the sixth")
    source.file_meta = dcmread(write(xa(), tmp_path / "other.dcm")).file_meta

    assert faults(source) == [
        "MediaStorageSOPInstanceUID is not SOPInstanceUID (PS3.10 7.1): that of the data set counts.",
        "PixelIntensityRelationship is missing (PS3.3 C.8.7.1).",
        "PatientName holds bytes that its character set does not (PS3.5 6.1): the result repeats what it can.",
        "PatientBirthDate is not a date (PS3.5 6.2): left out of the result.",
    ]


def test_of_many_faults_some_are_told():
    source = xa()
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "PatientBirthDate"):
        malformed(source, keyword, "DA", "x")
    for keyword in CODES:
        malformed(source, keyword, "CS", "?")

    told = faults(source)

    assert len(told) == 21
    assert told[-1] == f"And {5 + len(CODES) - 20} more."


@pytest.mark.parametrize("kind", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_of_a_big_endian_source_keeps_its_values(kind, tmp_path: Path):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    if kind == "ModalityLUTSequence":
        table.ModalityLUTType = "US"
    values = np.arange(4096, dtype="<u2") * 16
    table.add_new("LUTData", "OW", values.tobytes())
    plain = xa(frames=1, missing=["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"], **{kind: [table]})
    plain.PixelIntensityRelationship = "LIN"
    little, big = (
        dcmread(write(plain, tmp_path / f"{syntax}.dcm", syntax))
        for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian)
    )
    assert big[kind].value[0]["LUTData"].VR == "OW"

    [result] = secondary_captures(big, reconstruction(big), route="r", mark=Mark())

    assert result[kind].value[0].LUTData == values.tobytes()
    assert np.array_equal(*(read_cine(each).mapping.to_grey(np.arange(4096)) for each in (little, big)))
