"""A whole node by HTTP: Orthanc's DICOMweb plug-in stores a cine there, and gets the results."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage
from sqlalchemy import select

from storage.files import ObjectStore
from storage.schema import StoredObject
from storage.transitions import JobState
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import Orthanc, free_port, orthanc, storescp
from tests.web import BOUNDARY, RELATED, part_10

PLUG_IN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


@dataclass(frozen=True)
class Place:
    """A node that serves DICOMweb, and an Orthanc that knows it as `node`."""

    node: NodeProcess
    orthanc: Orthanc
    url: str
    source: Path

    def ask(self, what: str, question: dict[str, object]) -> object:
        """Have Orthanc's plug-in ask the node."""
        return self.orthanc.ask(f"/dicom-web/servers/node/{what}", question)

    def held(self) -> dict[str, bytes]:
        """The files in the node's object store by SOP Instance UID."""
        store = ObjectStore(self.node.folder / "var")
        with self.node.database().reading() as tx:
            return {
                row.sop_instance_uid: store.path(row.digest).read_bytes() for row in tx.scalars(select(StoredObject))
            }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With a cine that came by STOW-RS, whose results have been delivered."""
    folder = tmp_path_factory.mktemp("place")
    port = free_port()
    server = {"Url": f"http://127.0.0.1:{port}/dicom-web/", "HasDelete": False}
    plug_in = {"Enable": True, "Root": "/dicom-web/", "Servers": {"node": server}}
    source = write(xa(frames=2), folder / "source.dcm")
    with (
        storescp(folder / "pacs", ae_title="PACS") as pacs,
        NodeProcess(folder / "node", {"pacs": pacs.port}, web={"port": port}).running() as node,
        orthanc(folder / "orthanc", Plugins=[PLUG_IN], DicomWeb=plug_in) as peer,
    ):
        taken = requests.post(f"http://127.0.0.1:{peer.http_port}/instances", source.read_bytes(), timeout=30).json()
        here = Place(node, peer, f"http://127.0.0.1:{port}/dicom-web", source)
        here.ask("stow", {"Resources": [taken["ID"]], "Synchronous": True})
        peer.delete(f"/instances/{taken['ID']}")
        assert [job.state for job in node.wait_until_settled(1)] == [JobState.DELIVERED]
        yield here


def test_what_orthanc_stores_by_http_is_reconstructed(place: Place) -> None:
    rows = [row for row in place.node.audit() if row.action == "object_received"]
    assert [(row.actor, row.peer_ae) for row in rows] == [("dicomweb", "DICOMWEB")]
    assert dcmread(place.source).SOPInstanceUID in place.held()


def test_orthanc_finds_and_retrieves_source_and_results(place: Place) -> None:
    source = dcmread(place.source)
    (found,) = place.ask("qido", {"Uri": "/studies", "Arguments": {"PatientID": str(source.PatientID)}})
    assert {tag.upper(): one.get("Value") for tag, one in found.items()}["0020000D"] == source.StudyInstanceUID
    place.ask("retrieve", {"Resources": [{"Study": source.StudyInstanceUID}], "Synchronous": True})
    instances = place.orthanc.get("/instances?expand")
    assert {one["MainDicomTags"]["SOPInstanceUID"] for one in instances} == set(place.held())


def test_results_come_byte_for_byte_as_they_are_kept_and_can_be_looked_at(place: Place) -> None:
    client = DICOMwebClient(place.url)
    study = dcmread(place.source).StudyInstanceUID
    told = [Dataset.from_json(one) for one in client.retrieve_study_metadata(study)]
    results = [one for one in told if one.SOPInstanceUID != dcmread(place.source).SOPInstanceUID]
    assert {one.Modality for one in results} == {"XA", "SEG", "PR", "SR"}
    held = place.held()
    for one in results:
        at = f"/studies/{study}/series/{one.SeriesInstanceUID}/instances/{one.SOPInstanceUID}"
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        assert requests.get(f"{place.url}{at}", headers=accept, timeout=30).content == held[one.SOPInstanceUID]
    (picture,) = [one for one in results if one.Modality == "XA"]
    uids = study, picture.SeriesInstanceUID, picture.SOPInstanceUID
    (frame,) = client.retrieve_instance_frames(*uids, [2], media_types=("application/octet-stream",))
    stored = client.retrieve_instance(*uids)
    assert frame == stored.pixel_array[1].tobytes()
    assert client.retrieve_instance_rendered(*uids, media_types=("image/png",)).startswith(b"\x89PNG")


def peak(place: Place) -> int:
    """The most memory that the node's process has had since it was last asked, in MB."""
    status = Path(f"/proc/{place.node.pid}/status").read_text()
    Path(f"/proc/{place.node.pid}/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def test_an_object_of_300_mb_comes_and_goes_without_being_in_memory(place: Place) -> None:
    frames, size = 600, 600 * 512 * 512 * 2
    dataset = xa(frames=1, rows=512, columns=512, sop_class=CTImageStorage, NumberOfFrames=frames)
    head = part_10(dataset)[: -512 * 512 * 2 - 4] + size.to_bytes(4, "little")

    def body() -> Iterator[bytes]:
        yield f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + head
        for _ in range(frames):
            yield bytes(512 * 512 * 2)
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    peak(place)
    before = peak(place)
    answer = requests.post(f"{place.url}/studies", body(), headers={"Content-Type": RELATED}, timeout=120)
    assert answer.status_code == 200
    taking = peak(place)
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    at = f"{place.url}/studies/{dataset.StudyInstanceUID}"
    with requests.get(at, headers=accept, stream=True, timeout=120) as answer:
        assert sum(map(len, answer.iter_content(1 << 20))) > size
    giving = peak(place)
    print(f"{before} MB before, {taking} MB while 300 MB came, {giving} MB while they went")
    assert max(taking, giving) - before < 100
