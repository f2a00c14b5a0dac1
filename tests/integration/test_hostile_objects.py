"""Objects that lie, lack or contradict: each over the network, kept as received, and then to its stated end.

A row of the table is an object and its end: a status with which it is refused, a sentence with which its job is
declined, or the faults that the audit row of its result tells, and its report. All are sent to one listener, and one
worker takes them.
"""

import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLSLossless,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from config.routes import Destination, Route, RouteTable
from config.settings import WorkerSettings
from dicom_node.workflow.series import association_ended, object_kept
from dicom_node.workflow.worker import Worker
from storage.audit_trail import trail
from storage.objects import objects_of_job
from storage.queue import get_job
from storage.schema import Job, StoredObject
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.dciodvfy import errors_in
from tests.enhanced import enhanced_xa
from tests.factory import malformed, write, xa
from tests.listening import Node
from tests.peers import encoded, store_raw

pytestmark = pytest.mark.filterwarnings("ignore")

ROUTES = RouteTable(
    routes=(Route(name="all", destinations=("pacs",), complete="association"),),
    destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
)


@dataclass(frozen=True)
class Refused:
    """With this status; None: without one, for the association is aborted."""

    status: int | None


@dataclass(frozen=True)
class Declined:
    """With a sentence that holds this."""

    said: str


@dataclass(frozen=True)
class Reconstructed:
    """With these faults told."""

    faults: list[str] = field(default_factory=list)


End = Refused | Declined | Reconstructed


def lying(**attributes: object) -> Dataset:
    return xa(frames=2, **attributes)


def with_value(keyword: str, vr: str, value: str | bytes, **attributes: object) -> Dataset:
    content = value.encode() if isinstance(value, str) else value
    padded = content + (b"\0" if vr == "UI" else b" ") * (len(content) % 2)
    return malformed(lying(**attributes), keyword, vr, padded)


def without(dataset: Dataset, keyword: str) -> Dataset:
    delattr(dataset, keyword)
    return dataset


def capture(*, frames: int = 2, sop_class: str = SecondaryCaptureImageStorage, **attributes: object) -> Dataset:
    """A Secondary Capture that lacks nothing; one of frames with `sop_class`."""
    told: dict[str, object] = {"ConversionType": "DI", "BurnedInAnnotation": "NO"} | attributes
    return xa(frames=frames, sop_class=sop_class, **told)


def captured_frames(**attributes: object) -> Dataset:
    return capture(sop_class=MultiFrameGrayscaleWordSecondaryCaptureImageStorage, **attributes)


def enhanced(frames: int = 2, **options: Any) -> Dataset:
    """An enhanced image in which the shared groups, and those of each frame, tell the collimator."""
    image = enhanced_xa(frames=frames, **options)
    for group in image.PerFrameFunctionalGroupsSequence:
        group.CollimatorShapeSequence = image.SharedFunctionalGroupsSequence[0].CollimatorShapeSequence
    return image


def groups_of(frames: int) -> Dataset:
    """An enhanced image of four frames from a C-arm that moves, with groups of so many."""
    image = enhanced(frames=4, primary=[30, 31, 32.5, 34])
    image.PerFrameFunctionalGroupsSequence = image.PerFrameFunctionalGroupsSequence[:frames]
    return image


def with_window(**attributes: object) -> Dataset:
    """An enhanced image whose frames share this window."""
    image = enhanced()
    for keyword, value in attributes.items():
        setattr(image.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0], keyword, value)
    return image


def named(uid: str) -> Dataset:
    """With this SOPInstanceUID, in the request too."""
    dataset = with_value("SOPInstanceUID", "UI", uid)
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    return dataset


def coded(syntax: str, signed: bool = False, **attributes: object) -> Dataset:
    """Compressed, and then with attributes that the code streams do not bear out."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = dcmread(write(lying(signed=signed), Path(folder, "coded.dcm"), syntax))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def lacking(keyword: str, section: str) -> Reconstructed:
    return Reconstructed([f"{keyword} is missing (PS3.3 {section})."])


def left_out(keyword: str, fault: str) -> Reconstructed:
    return Reconstructed([f"{keyword} {fault}: left out of the result."])


def undecodable(keyword: str) -> Reconstructed:
    said = "holds bytes that its character set does not (PS3.5 6.1): the result repeats what it can."
    return Reconstructed([f"{keyword} {said}"])


ENDS_WITHIN = "by Rows, Columns, BitsAllocated and NumberOfFrames (PS3.5 8.1.1)"
NO_UID = "is not a valid UID (PS3.5 9.1)"
LONG_UID = "1.2." + "3" * 70
CODED = (JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless)
NOT_THESE = "have other values than these allow (PS3.3 C.7.6.3, PS3.5 8.2)"
NOT_THAT = "is not what the code stream says (PS3.5 8.2): that of the data set counts."
NOT_OF_EACH = "FrameTimeVector does not have a value for each frame (PS3.3 C.7.6.5.1.2): left out of the result."
NOT_ONE = "NumberOfFrames is above 1 in a class of single frames (PS3.3 A.8.1): all of them are reconstructed."
TOO_NARROW = "WindowWidth is below 1 (PS3.3 C.11.2.1.2.1): that window is left out of the result."
NO_PAIRS = (
    "WindowCenter and WindowWidth are not in pairs (PS3.3 C.11.2.1.2.2): what has no partner is left out of the result."
)

HOSTILE: dict[str, tuple[Dataset, End]] = {
    # What lies about the pixel data
    "more Rows than there are": (lying(Rows=4096), Declined(f"within frame 1 of 2, {ENDS_WITHIN}")),
    "fewer Rows than there are": (lying(Rows=32), Declined("hold 4 frames by Rows, Columns and BitsAllocated")),
    "more Columns than there are": (lying(Columns=65), Declined(f"within frame 2 of 2, {ENDS_WITHIN}")),
    "65535 x 65535": (lying(Rows=65535, Columns=65535), Declined(f"within frame 1 of 2, {ENDS_WITHIN}")),
    "no Rows": (
        lying(Rows=0),
        Declined("A picture of 64 x 0 pixels, by Columns and Rows (PS3.3 C.7.6.3), is not supported"),
    ),
    "more frames than there are": (lying(NumberOfFrames=3), Declined(f"within frame 3 of 3, {ENDS_WITHIN}")),
    "fewer frames than there are": (lying(NumberOfFrames=1), Declined("but NumberOfFrames is 1 (PS3.3 C.7.6.6)")),
    "2147483647 frames": (lying(NumberOfFrames=2147483647), Declined(f"within frame 3 of 2147483647, {ENDS_WITHIN}")),
    "minus one frame": (lying(NumberOfFrames=-1), Declined("NumberOfFrames is -1 (PS3.3 C.7.6.6)")),
    "frames that are no number": (
        with_value("NumberOfFrames", "IS", "many"),
        Declined("NumberOfFrames is missing or not a whole number (PS3.3 C.7.6.6)"),
    ),
    "8 bits for 16": (
        lying(BitsAllocated=8, BitsStored=8, HighBit=7),
        Declined("hold 4 frames by Rows, Columns and BitsAllocated"),
    ),
    "16 bits for 8": (
        lying(bits_stored=8, BitsAllocated=16),
        Declined(f"within frame 2 of 2, {ENDS_WITHIN}"),
    ),
    "32 bits": (lying(BitsAllocated=32), Declined("BitsAllocated 32, HighBit 11 (PS3.5 8.1.1)")),
    "more bits stored than allocated": (
        lying(BitsStored=20, HighBit=19),
        Declined("BitsStored is 20, BitsAllocated 16"),
    ),
    "a high bit elsewhere": (lying(HighBit=15), Declined("HighBit 15 (PS3.5 8.1.1)")),
    "a pixel representation of 7": (lying(PixelRepresentation=7), Declined("PixelRepresentation is neither 0 nor 1")),
    "three samples": (lying(SamplesPerPixel=3), Declined("The image is in color")),
    "half of the pixel data": (
        lying(PixelData=lying().PixelData[:8192]),
        Declined(f"within frame 2 of 2, {ENDS_WITHIN}"),
    ),
    "empty pixel data": (lying(PixelData=b""), Declined("no PixelData (PS3.3 C.7.6.3)")),
    **{
        f"{bits} bits for the 12 of {syntax.keyword}": (
            coded(syntax, BitsAllocated=allocated, BitsStored=bits, HighBit=bits - 1),
            Declined(f"BitsStored is {bits} and PixelRepresentation 0, but the compressed pixels {NOT_THESE}"),
        )
        for syntax in CODED
        for bits, allocated in ((8, 8), (8, 16), (10, 16))
    },
    **{
        f"16 bits for the 12 of {syntax.keyword}": (
            coded(syntax, BitsStored=16, HighBit=15),
            Reconstructed([f"BitsStored {NOT_THAT}"]),
        )
        for syntax in CODED
    },
    **{
        f"{said} pixels for those of {syntax.keyword}, which are not": (
            coded(syntax, signed=not signed, PixelRepresentation=int(signed)),
            # A code stream of JPEG-LS says nothing of signs.
            Reconstructed([] if syntax == JPEGLSLossless else [f"PixelRepresentation {NOT_THAT}"]),
        )
        for syntax in CODED
        for said, signed in (("signed", True), ("unsigned", False))
    },
    # What is missing
    **{
        f"no {keyword}": (
            lying(missing=[keyword]),
            Declined(f"{keyword} is missing or not a whole number (PS3.3 C.7.6.3)"),
        )
        for keyword in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel")
    },
    "no PhotometricInterpretation": (
        lying(missing=["PhotometricInterpretation"]),
        Declined("PhotometricInterpretation is missing (PS3.3 C.7.6.3.1.2)"),
    ),
    "no HighBit": (lying(missing=["HighBit"]), lacking("HighBit", "C.7.6.3")),
    "an empty HighBit": (
        with_value("HighBit", "US", b""),
        Reconstructed(["HighBit is empty (PS3.3 C.7.6.3)."]),
    ),
    "no NumberOfFrames": (
        xa(frames=1, missing=["NumberOfFrames"]),
        Reconstructed(),
    ),
    "no FrameIncrementPointer": (
        lying(missing=["FrameIncrementPointer"]),
        lacking("FrameIncrementPointer", "C.7.6.6"),
    ),
    **{
        f"no {keyword} for the pointer": (
            lying(missing=["FrameTime"], FrameIncrementPointer=tag),
            Reconstructed([f"{keyword}, which FrameIncrementPointer names, is missing (PS3.3 C.7.6.6.1.2)."]),
        )
        for keyword, tag in (("FrameTime", 0x00181063), ("FrameTimeVector", 0x00181065))
    },
    "no Modality": (lying(missing=["Modality"]), lacking("Modality", "C.7.3.1")),
    "no ImageType": (lying(missing=["ImageType"]), lacking("ImageType", "C.8.7.1")),
    "no PixelIntensityRelationship": (
        lying(missing=["PixelIntensityRelationship"]),
        lacking("PixelIntensityRelationship", "C.8.7.1"),
    ),
    "no RadiationSetting": (lying(missing=["RadiationSetting"]), lacking("RadiationSetting", "C.8.7.2")),
    "no ConversionType": (capture(frames=0, missing=["ConversionType"]), lacking("ConversionType", "C.8.6.1")),
    # Of type 3 in Secondary Capture (C.7.6.1, C.8.6.1)
    "no ImageType and no Modality in a class without": (
        capture(frames=0, missing=["ImageType", "Modality"]),
        Reconstructed(),
    ),
    **{
        f"no {keyword} of captured frames": (captured_frames(missing=[keyword]), lacking(keyword, section))
        for keyword, section in (
            ("ConversionType", "C.8.6.1"),
            ("BurnedInAnnotation", "C.8.6.3"),
            ("FrameIncrementPointer", "C.7.6.6"),
        )
    },
    "no NumberOfFrames of captured frames": (
        captured_frames(frames=1, missing=["NumberOfFrames"]),
        lacking("NumberOfFrames", "C.7.6.6"),
    ),
    **{
        f"no {keyword} of an enhanced image": (
            without(enhanced(frames=1 if keyword == "NumberOfFrames" else 2), keyword),
            lacking(keyword, section),
        )
        for keyword, section in (
            ("ImageType", "C.8.19.2"),
            ("HighBit", "C.7.6.3"),
            ("NumberOfFrames", "C.7.6.16"),
            ("SharedFunctionalGroupsSequence", "C.7.6.16"),
            ("PerFrameFunctionalGroupsSequence", "C.7.6.16"),
        )
    },
    "no patient": (lying(missing=["PatientName", "PatientID", "PatientBirthDate", "PatientSex"]), Reconstructed()),
    "no study": (lying(missing=["StudyInstanceUID"]), Refused(0xC000)),
    "no series": (lying(missing=["SeriesInstanceUID"]), Refused(0xC000)),
    "no instance": (lying(missing=["SOPInstanceUID"]), Refused(0xC000)),
    # What contradicts itself
    "another SOP class than the request's": (
        lying(SOPClassUID=SecondaryCaptureImageStorage),
        Reconstructed(
            [
                "MediaStorageSOPClassUID is not SOPClassUID (PS3.10 7.1): that of the data set counts.",
                NOT_ONE,
                "ConversionType is missing (PS3.3 C.8.6.1).",
            ]
        ),
    ),
    "another instance than the request's": (lying(SOPInstanceUID="1.2.3"), Refused(0xA900)),
    "several frames in a class of one": (capture(), Reconstructed([NOT_ONE])),
    **{
        f"{len(steps)} times for two frames": (
            lying(FrameTimeVector=steps, FrameIncrementPointer=0x00181065),
            Reconstructed([NOT_OF_EACH]),
        )
        for steps in ([0], [0, 66, 67])
    },
    "groups of three frames for four": (
        groups_of(3),
        Reconstructed(
            [
                "PerFrameFunctionalGroupsSequence does not have an item for each frame (PS3.3 C.7.6.16): each counts "
                "for the frame of its number."
            ]
        ),
    ),
    **{
        f"a window {width} wide": (lying(WindowCenter=2048, WindowWidth=width), Reconstructed([TOO_NARROW]))
        for width in (0.5, 0, -400)
    },
    "a narrow window beside another": (
        lying(WindowCenter=[2048, 1024], WindowWidth=[4096, 0]),
        Reconstructed([TOO_NARROW]),
    ),
    "a narrow window of an enhanced image": (with_window(WindowWidth=0.5), Reconstructed([TOO_NARROW])),
    **{
        f"a window 0 wide of {function}": (
            lying(WindowCenter=2048, WindowWidth=0, VOILUTFunction=function),
            Reconstructed(["WindowWidth is not above 0 (PS3.3 C.11.2.1.3): that window is left out of the result."]),
        )
        for function in ("SIGMOID", "LINEAR_EXACT")
    },
    "a window without a width": (lying(missing=["WindowWidth"]), Reconstructed([NO_PAIRS])),
    "two windows with one width": (lying(WindowCenter=[2048, 1024]), Reconstructed([NO_PAIRS])),
    # Character sets
    "a character set that there is not": (
        with_value("SpecificCharacterSet", "CS", "KLINGON"),
        Reconstructed(
            [
                "SpecificCharacterSet names no character set that there is (PS3.3 C.12.1.1.2): the result repeats the "
                "text as it can be read."
            ]
        ),
    ),
    "Latin-1 bytes in UTF-8": (
        with_value("StudyDescription", "LO", b"M\xfcller", charset="ISO_IR 192"),
        undecodable("StudyDescription"),
    ),
    "a name that does not decode": (
        with_value("PatientName", "PN", b"\xff\xfe\x80", charset="ISO_IR 192"),
        undecodable("PatientName"),
    ),
    "Latin-1 bytes in no character set": (
        with_value("PatientName", "PN", b"M\xfcller", charset=None),
        undecodable("PatientName"),
    ),
    "an escape sequence that breaks off": (
        with_value("PatientName", "PN", b"Yamada\x1b$", charset=["", "ISO 2022 IR 87"]),
        undecodable("PatientName"),
    ),
    # UIDs
    "a study UID longer than 64": (
        with_value("StudyInstanceUID", "UI", LONG_UID),
        Declined("StudyInstanceUID is not one UID (PS3.5 9.1)"),
    ),
    "a series UID longer than 64": (
        with_value("SeriesInstanceUID", "UI", LONG_UID),
        Declined("SeriesInstanceUID is not one UID (PS3.5 9.1)"),
    ),
    # The request has to say it too, and is then none (PS3.7 6.3).
    "an instance UID longer than 64": (named(LONG_UID), Refused(None)),
    "an instance UID with leading zeros": (
        named("1.2.03.4.5"),
        Reconstructed([f"SOPInstanceUID {NO_UID}: repeated as it is."]),
    ),
    "a study UID with leading zeros": (
        with_value("StudyInstanceUID", "UI", "1.2.03.4"),
        Reconstructed([f"StudyInstanceUID {NO_UID}: repeated as it is."]),
    ),
    "a study UID that is none": (with_value("StudyInstanceUID", "UI", "none"), Refused(0xC000)),
    "a series UID with leading zeros": (
        with_value("SeriesInstanceUID", "UI", "1.2.03.4"),
        Reconstructed([f"SeriesInstanceUID {NO_UID}: repeated as it is."]),
    ),
    "a frame of reference with leading zeros": (
        with_value("FrameOfReferenceUID", "UI", "1.2.03"),
        left_out("FrameOfReferenceUID", NO_UID),
    ),
    "a frame of reference longer than 64": (
        with_value("FrameOfReferenceUID", "UI", LONG_UID),
        left_out("FrameOfReferenceUID", NO_UID),
    ),
    # Dates, times and numbers
    **{
        f"{keyword} {value}": (with_value(keyword, vr, value), left_out(keyword, f"is not a {said} (PS3.5 6.2)"))
        for keyword, vr, value, said in [
            ("StudyDate", "DA", "20260231", "date"),
            ("PatientBirthDate", "DA", "1 May 60", "date"),
            ("AcquisitionDate", "DA", "99999999", "date"),
            ("StudyTime", "TM", "256199", "time"),
            ("AcquisitionDateTime", "DT", "yesterday", "date and time"),
            ("PatientSex", "CS", "f?", "code string"),
            ("DistanceSourceToDetector", "DS", "far", "decimal string"),
        ]
    },
    "a decimal string too long": (
        with_value("DistanceSourceToDetector", "DS", "1000.000000000000001"),
        Reconstructed(["DistanceSourceToDetector is not a decimal string (PS3.5 6.2): mended in the result."]),
    ),
    "a code in small letters": (
        with_value("BodyPartExamined", "CS", "chest"),
        Reconstructed(["BodyPartExamined is not a code string (PS3.5 6.2): mended in the result."]),
    ),
    "an instance number that is none": (
        with_value("InstanceNumber", "IS", "first"),
        left_out("InstanceNumber", "is not an integer string (PS3.5 6.2)"),
    ),
    # Structure
    "a sequence that is none": (
        with_value("RequestAttributesSequence", "LO", "none"),
        left_out("RequestAttributesSequence", "is not of its value representation (PS3.6 6)"),
    ),
}


class Ward(Node):
    """A listener whose objects take a route, as in a node."""

    def _on_kept(self, tx, stored, header) -> None:
        object_kept(tx, stored, header, table=ROUTES, max_attempts=1)


@dataclass(frozen=True)
class Ended:
    """What became of a row of the table."""

    status: int | None
    stored: StoredObject | None
    job: Job | None
    results: list[Dataset]
    faults: list[str]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, reconstructor) -> Iterator[dict[str, Ended]]:
    """All of the table, sent and worked off."""
    node = Ward(tmp_path_factory.mktemp("node"))
    node.listener.start()
    statuses = {name: _sent(node, dataset) for name, (dataset, _) in HOSTILE.items()}
    node.listener.stop(2)
    with node.database.transaction() as tx:
        series = [stored.series_instance_uid for stored in node.objects()]
        association_ended(tx, series, table=ROUTES, max_attempts=1)
    worker = Worker(node.database, node.store, WorkerSettings(), name="one", load=lambda _: reconstructor)
    worker.run(threading.Event(), once=True)
    yield {name: _end(node, statuses[name], dataset) for name, (dataset, _) in HOSTILE.items()}
    node.database.close()


def _sent(node: Node, dataset: Dataset) -> int | None:
    return store_raw(
        node.port,
        encoded(dataset),
        sop_instance_uid=_request_uid(dataset),
        sop_class_uid=dataset.file_meta.MediaStorageSOPClassUID,
        context=dataset.file_meta.MediaStorageSOPClassUID,
        transfer_syntax=dataset.file_meta.TransferSyntaxUID,
    )


def _request_uid(dataset: Dataset) -> str:
    """What the request says, whatever the data set does."""
    return str(dataset.file_meta.MediaStorageSOPInstanceUID)


def _end(node: Node, status: int | None, dataset: Dataset) -> Ended:
    found = [stored for stored in node.objects() if stored.sop_instance_uid == _request_uid(dataset)]
    if not found:
        return Ended(status, None, None, [], [])
    (stored,) = found
    assert node.store.path(stored.digest).read_bytes().endswith(encoded(dataset))
    with node.database.reading() as tx:
        job = get_job(tx, stored.job_id)
        made = objects_of_job(tx, job.id, ObjectKind.RESULT)
        rows = [row for row in trail(tx, job=job.id) if row.action == "reconstructed"]
    results = [dcmread(node.store.path(result.digest)) for result in made]
    return Ended(status, stored, job, results, rows[0].details.get("source_faults", []) if rows else [])


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_kept_as_received_and_comes_to_its_stated_end(name: str, ended: dict[str, Ended]) -> None:
    _, end = HOSTILE[name]
    found = ended[name]
    if isinstance(end, Refused):
        assert (found.status, found.stored) == (end.status, None)
        return
    assert found.status == 0
    assert found.stored is not None and found.job is not None
    if isinstance(end, Declined):
        assert found.job.state == JobState.DECLINED
        assert end.said in str(found.job.reason)
        assert found.results == []
        return
    assert (found.job.state, found.job.reason) == (JobState.RECONSTRUCTED, None)
    assert found.faults == end.faults
    (report,) = (result for result in found.results if result.Modality == "SR")
    assert [text for text in texts_of(report) if "(PS3." in text] == end.faults


@pytest.mark.parametrize("name", [name for name, (_, end) in HOSTILE.items() if isinstance(end, Reconstructed)])
def test_its_results_are_valid_all_the_same(name: str, ended: dict[str, Ended], tmp_path: Path) -> None:
    results = ended[name].results
    assert results
    for number, result in enumerate(results):
        path = tmp_path / f"{number}.dcm"
        result.save_as(path)
        assert [line for line in errors_in(path) if not _names_the_source(line)] == []


def texts_of(item: Dataset) -> list[str]:
    """The text values of a report at any depth, in their order."""
    texts = [item.TextValue] if "TextValue" in item else []
    return texts + [text for inner in item.get("ContentSequence", ()) for text in texts_of(inner)]


def _names_the_source(error: str) -> bool:
    """Whether it is about a UID of the source that has leading zeros: a result cannot name it by another."""
    return "1.2.03.4" in error or error.startswith("Error - Dicom dataset contains invalid data values")
