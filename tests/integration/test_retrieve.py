"""Peers have objects sent that the node holds: to a destination (C-MOVE) and back (C-GET), as they were received."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
)
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from config.routes import Destination, RouteTable
from tests.factory import write, xa
from tests.listening import QUICK, Node, listening
from tests.peers import Peer, free_port, getscu, movescu, orthanc, storescp, storescu, wait_until

STUDY = "1.2.826.0.1.3680043.8.498.1"
OTHER = "1.2.826.0.1.3680043.8.498.2"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two cines of one study, one of them compressed, and one lossy cine of another study."""
    folder = tmp_path_factory.mktemp("sources")

    def cine(number: int, study: str, syntax: str, **more: int) -> Path:
        dataset = xa(
            frames=2,
            rows=32,
            columns=32,
            study_instance_uid=study,
            series_instance_uid=f"{study}.1",
            sop_instance_uid=f"{study}.1.{number}",
            **more,
        )
        return write(dataset, folder / f"{number}.dcm", syntax)

    return [
        cine(1, STUDY, ExplicitVRLittleEndian),
        cine(2, STUDY, JPEG2000Lossless),
        cine(3, OTHER, JPEGBaseline8Bit, bits_stored=8),
    ]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, sources: list[Path]) -> Iterator[Node]:
    with listening(tmp_path_factory.mktemp("node")) as node:
        for path in sources:
            assert storescu(
                node.port, path, "-xv" if path is sources[1] else "-xs" if path is sources[0] else "-xy"
            ).accepted
        yield node


def destinations(node: Node, *peers: Peer) -> None:
    node.table = RouteTable(
        destinations=tuple(
            Destination(name=peer.ae_title.lower(), ae_title=peer.ae_title, host="127.0.0.1", port=peer.port)
            for peer in peers
        )
    )


def data_set(path: Path) -> bytes:
    """The bytes of a file behind its File Meta Information."""
    return behind_header(path.read_bytes())


def behind_header(content: bytes) -> bytes:
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


# C-MOVE


def test_movescu_has_a_study_sent_to_another_peer_byte_for_byte(
    node: Node, sources: list[Path], tmp_path: Path
) -> None:
    with storescp(tmp_path / "viewer", "+xa", ae_title="VIEWER") as viewer:
        destinations(node, viewer)
        told = movescu(node.port, "VIEWER", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        assert told.accepted
        received = {dcmread(path).SOPInstanceUID: path for path in viewer.files()}
    assert sorted(received) == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
    for number, source in enumerate(sources[:2], start=1):
        assert data_set(received[f"{STUDY}.1.{number}"]) == data_set(source)
    assert re.search(r"Completed Suboperations\s+: 2", told.output)


def test_orthanc_has_a_series_sent_to_itself(node: Node, tmp_path: Path) -> None:
    modality = {"AET": "FULLFIELD", "Host": "127.0.0.1", "Port": node.port}
    with orthanc(tmp_path / "orthanc", DicomModalities={"node": modality}) as asker:
        destinations(node, asker)
        series = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
        asker.ask("/modalities/node/move", {"Level": "Series", "Resources": [series], "TargetAet": "ORTHANC"})
        wait_until(lambda: len(asker.get("/instances")) == 2, what="the objects")


def test_a_peer_that_takes_no_compression_gets_the_same_pixels_without(
    node: Node, sources: list[Path], tmp_path: Path
) -> None:
    with storescp(tmp_path / "viewer", "+xi", ae_title="VIEWER") as viewer:
        destinations(node, viewer)
        assert movescu(node.port, "VIEWER", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY).accepted
        (received,) = [path for path in viewer.files() if dcmread(path).SOPInstanceUID.endswith(".2")]
    taken = dcmread(received)
    assert taken.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert (pixel_array(taken) == pixel_array(dcmread(sources[1]))).all()


def move(node: Node, to: str, cancel: bool = False, **keys: object) -> tuple[list[Dataset], list[Dataset | None]]:
    """Ask with pynetdicom; the statuses, with what goes with them, and the identifiers."""
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    model = StudyRootQueryRetrieveInformationModelMove
    association = AE("ASKER").associate("127.0.0.1", node.port, [build_context(model)], ae_title="FULLFIELD")
    assert association.is_established
    statuses, identifiers = [], []
    for status, told in association.send_c_move(identifier, to, model, msg_id=9):
        statuses.append(status)
        identifiers.append(told)
        if cancel and len(statuses) == 1:
            association.send_c_cancel(9, query_model=model)
    association.release()
    return statuses, identifiers


def test_a_destination_that_is_not_known_is_refused(node: Node) -> None:
    destinations(node)
    ((status,), _) = move(node, "NOBODY", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert status.Status == 0xA801
    refused = node.rows("retrieval_refused")[-1]
    assert refused.details["reason"] == "There is no destination with the AE title 'NOBODY'."
    assert (refused.peer_ae, refused.details["destination"]) == ("ASKER", "NOBODY")


def test_a_destination_that_is_away_gets_nothing_and_all_is_told_as_failed(node: Node) -> None:
    destinations(node, Peer("AWAY", free_port(), Path(), 0))
    statuses, identifiers = move(node, "AWAY", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert statuses[-1].Status == 0xA702
    assert statuses[-1].NumberOfFailedSuboperations == 2
    assert set(identifiers[-1].FailedSOPInstanceUIDList) == {f"{STUDY}.1.1", f"{STUDY}.1.2"}
    assert node.rows("retrieved")[-1].outcome == "failed"


def test_what_is_not_held_is_found_to_be_nothing(node: Node) -> None:
    destinations(node, Peer("AWAY", free_port(), Path(), 0))
    ((status,), _) = move(node, "AWAY", QueryRetrieveLevel="STUDY", StudyInstanceUID="1.2.3")
    assert (status.Status, status.NumberOfCompletedSuboperations) == (0x0000, 0)


@pytest.mark.parametrize(
    "keys",
    [
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": STUDY},
        {"QueryRetrieveLevel": "FRAME", "StudyInstanceUID": STUDY},
        {"StudyInstanceUID": STUDY},
    ],
)
def test_a_retrieval_that_names_nothing_is_refused(node: Node, keys: dict[str, str]) -> None:
    ((status,), _) = move(node, "ANY", **keys)
    assert status.Status == 0xA900


class Store:
    """A peer of pynetdicom's that answers each C-STORE as it is told."""

    def __init__(self, answer) -> None:
        ae = AE("STORE")
        ae.add_supported_context(XRayAngiographicImageStorage, [ExplicitVRLittleEndian, JPEG2000Lossless])
        self.port = free_port()
        self.requests: list[object] = []

        def stored(event: evt.Event) -> int:
            self.requests.append(event.request)
            return answer(event)

        self._server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, stored)])

    def __enter__(self) -> Peer:
        return Peer("STORE", self.port, Path(), 0)

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def test_what_the_destination_refuses_or_minds_is_told_by_uid_and_number(node: Node) -> None:
    answers = {f"{STUDY}.1.1": 0xA900, f"{STUDY}.1.2": 0xB000}
    with Store(lambda event: answers[event.request.AffectedSOPInstanceUID]) as store:
        destinations(node, store)
        statuses, identifiers = move(node, "STORE", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert [status.Status for status in statuses] == [0xFF00, 0xFF00, 0xB000]
    assert [status.NumberOfRemainingSuboperations for status in statuses[:2]] == [1, 0]
    last = statuses[-1]
    assert (last.NumberOfCompletedSuboperations, last.NumberOfWarningSuboperations) == (0, 1)
    assert last.NumberOfFailedSuboperations == 1
    assert identifiers[-1].FailedSOPInstanceUIDList == f"{STUDY}.1.1"


def test_the_destination_is_told_who_asked(node: Node) -> None:
    store = Store(lambda _: 0x0000)
    with store as peer:
        destinations(node, peer)
        move(node, "STORE", QueryRetrieveLevel="IMAGE", SOPInstanceUID=f"{STUDY}.1.1")
    (request,) = store.requests
    assert (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID) == ("ASKER", 9)


@pytest.mark.parametrize("fault", [("--sleep-during", "600"), ("--abort-during",), ("--abort-after",)], ids=" ".join)
def test_a_destination_that_falls_silent_or_aborts_gets_nothing_and_all_is_told_as_failed(
    tmp_path: Path, sources: list[Path], fault: tuple[str, ...]
) -> None:
    with impatient(tmp_path, sources) as node, storescp(tmp_path / "bad", "+xa", *fault, ae_title="BAD") as bad:
        destinations(node, bad)
        statuses, identifiers = move(node, "BAD", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        assert statuses[-1].Status == 0xA702
        assert (statuses[-1].NumberOfCompletedSuboperations, statuses[-1].NumberOfFailedSuboperations) == (0, 2)
        assert list(identifiers[-1].FailedSOPInstanceUIDList) == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
        assert_told_as_failed(node, sent=0, not_sent=2)


@pytest.mark.parametrize("fault", ["silent", "aborts"])
def test_a_destination_that_falls_silent_or_aborts_at_the_second_object_has_the_first(
    tmp_path: Path, sources: list[Path], fault: str
) -> None:
    over = threading.Event()

    def answer(event: evt.Event) -> int:
        if event.request.AffectedSOPInstanceUID == f"{STUDY}.1.2":
            event.assoc.abort() if fault == "aborts" else over.wait(30)
        return 0x0000

    with impatient(tmp_path, sources) as node, Store(answer) as store:
        destinations(node, store)
        statuses, identifiers = move(node, "STORE", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        over.set()
        assert statuses[-1].Status == 0xB000
        assert (statuses[-1].NumberOfCompletedSuboperations, statuses[-1].NumberOfFailedSuboperations) == (1, 1)
        assert identifiers[-1].FailedSOPInstanceUIDList == f"{STUDY}.1.2"
        assert_told_as_failed(node, sent=1, not_sent=1)


@contextmanager
def impatient(folder: Path, sources: list[Path]) -> Iterator[Node]:
    """A node that holds the study and waits a second for an answer."""
    with listening(folder, patience=QUICK.model_copy(update={"timeout_seconds": 1})) as node:
        assert storescu(node.port, sources[0]).accepted
        assert storescu(node.port, "-xv", sources[1]).accepted
        yield node


def assert_told_as_failed(node: Node, *, sent: int, not_sent: int) -> None:
    """The one row of the end of a retrieval."""
    (row,) = wait_until(lambda: node.rows("retrieved"))
    assert (row.outcome, row.study_instance_uid) == ("failed", STUDY)
    assert (row.details["objects"], row.details["not_sent"]) == (sent, not_sent)


def test_a_retrieval_that_is_cancelled_ends_and_tells_what_remains(node: Node) -> None:
    told = threading.Event()

    def slowly(_: evt.Event) -> int:
        told.wait(0.5)
        return 0x0000

    with Store(slowly) as store:
        destinations(node, store)
        statuses, _ = move(node, "STORE", cancel=True, QueryRetrieveLevel="STUDY", StudyInstanceUID=[STUDY, OTHER])
    last = statuses[-1]
    assert last.Status == 0xFE00
    assert last.NumberOfRemainingSuboperations + last.NumberOfCompletedSuboperations == 3
    assert last.NumberOfRemainingSuboperations


def test_an_object_whose_file_is_lost_fails_alone(tmp_path: Path, sources: list[Path]) -> None:
    with listening(tmp_path) as node, storescp(tmp_path / "viewer", "+xa", ae_title="VIEWER") as viewer:
        assert storescu(node.port, sources[0]).accepted
        assert storescu(node.port, "-xv", sources[1]).accepted
        node.store.path(node.objects()[0].digest).unlink()
        destinations(node, viewer)
        statuses, identifiers = move(node, "VIEWER", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert statuses[-1].Status == 0xB000
    assert identifiers[-1].FailedSOPInstanceUIDList == f"{STUDY}.1.1"
    assert statuses[-1].NumberOfCompletedSuboperations == 1


def test_who_is_sent_what_is_in_the_audit_trail_before_and_after(node: Node, tmp_path: Path) -> None:
    with storescp(tmp_path / "viewer", "+xa", ae_title="VIEWER") as viewer:
        destinations(node, viewer)
        movescu(node.port, "VIEWER", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    started, ended = node.rows("retrieval_started", "retrieved")[-2:]
    assert (started.action, ended.action, ended.outcome) == ("retrieval_started", "retrieved", "success")
    for row in (started, ended):
        assert (row.peer_ae, row.peer_address, row.study_instance_uid) == ("MOVESCU", "127.0.0.1", STUDY)
        assert (row.details["objects"], row.details["destination"]) == (2, "VIEWER")


# C-GET


def test_getscu_gets_a_study_back(node: Node, sources: list[Path], tmp_path: Path) -> None:
    told = getscu(node.port, tmp_path / "got", "+xv", QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert told.accepted
    received = {dcmread(path).SOPInstanceUID: path for path in (tmp_path / "got").iterdir()}
    assert data_set(received[f"{STUDY}.1.1"]) == data_set(sources[0])
    assert (pixel_array(dcmread(received[f"{STUDY}.1.2"])) == pixel_array(dcmread(sources[1]))).all()


def get(
    node: Node, *contexts, stored: Callable[[evt.Event], int] = lambda _: 0x0000, **keys: object
) -> tuple[list[bytes], list[Dataset]]:
    """Ask with pynetdicom, in the SCP's role for some SOP classes; the files that came, and the statuses.

    stored: answers each C-STORE.
    """
    identifier = Dataset()
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    model = StudyRootQueryRetrieveInformationModelGet
    came: list[bytes] = []

    def take(event: evt.Event) -> int:
        came.append(event.encoded_dataset())
        return stored(event)

    roles = [build_role(uid, scp_role=True) for uid in {context.abstract_syntax for context in contexts}]
    association = AE("ASKER").associate(
        "127.0.0.1",
        node.port,
        [build_context(model), *contexts],
        ae_title="FULLFIELD",
        ext_neg=roles,
        evt_handlers=[(evt.EVT_C_STORE, take)],
    )
    assert association.is_established
    statuses = [status for status, _ in association.send_c_get(identifier, model)]
    association.release()
    return came, statuses


def test_a_context_for_each_transfer_syntax_gets_every_object_as_it_is_kept(node: Node, sources: list[Path]) -> None:
    syntaxes = [ExplicitVRLittleEndian, JPEG2000Lossless]
    contexts = [build_context(XRayAngiographicImageStorage, [syntax]) for syntax in syntaxes]
    came, statuses = get(node, *contexts, QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert statuses[-1].Status == 0x0000
    assert [behind_header(content) for content in came] == [data_set(path) for path in sources[:2]]


def test_what_the_asker_has_no_context_for_is_told_as_failed(node: Node) -> None:
    context = build_context(SecondaryCaptureImageStorage, [ExplicitVRLittleEndian])
    came, statuses = get(node, context, QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
    assert (came, statuses[-1].Status, statuses[-1].NumberOfFailedSuboperations) == ([], 0xA702, 2)


def test_what_who_asks_by_c_get_has_when_it_aborts_is_in_the_audit_trail(tmp_path: Path, sources: list[Path]) -> None:
    with impatient(tmp_path, sources) as node:
        syntaxes = [ExplicitVRLittleEndian, JPEG2000Lossless]
        contexts = [build_context(XRayAngiographicImageStorage, [syntax]) for syntax in syntaxes]
        got: list[str] = []

        def second_aborts(event: evt.Event) -> int:
            got.append(event.request.AffectedSOPInstanceUID)
            if len(got) == 2:
                event.assoc.abort()
                # Else pynetdicom waits for the node's last word.
                event.assoc.dimse.msg_queue.put((None, None))
            return 0x0000

        get(node, *contexts, stored=second_aborts, QueryRetrieveLevel="STUDY", StudyInstanceUID=STUDY)
        assert got == [f"{STUDY}.1.1", f"{STUDY}.1.2"]
        assert_told_as_failed(node, sent=1, not_sent=1)


def test_a_lossy_object_goes_out_decoded_to_who_takes_no_lossy_form(node: Node, sources: list[Path]) -> None:
    context = build_context(XRayAngiographicImageStorage, [ExplicitVRLittleEndian])
    (came,), statuses = get(node, context, QueryRetrieveLevel="IMAGE", SOPInstanceUID=f"{OTHER}.1.3")
    assert statuses[-1].Status == 0x0000
    assert (pixel_array(dcmread(BytesIO(came))) == pixel_array(dcmread(sources[2]))).all()


def test_who_offers_no_role_as_scp_is_not_sent_anything_and_can_store(node: Node, sources: list[Path]) -> None:
    assert storescu(node.port, sources[0]).accepted
    model = StudyRootQueryRetrieveInformationModelGet
    contexts = [build_context(model), build_context(XRayAngiographicImageStorage, [ExplicitVRLittleEndian])]
    association = AE("ASKER").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", STUDY
    statuses = [status for status, _ in association.send_c_get(identifier, model)]
    association.release()
    assert statuses[-1].Status == 0xA702
