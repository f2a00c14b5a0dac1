"""The listener against dcmtk, and against peers that behave badly."""

import resource
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    EnhancedXAImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification
from sqlalchemy import select

from config.errors import StorageUnavailable
from config.settings import AllowedPeer, ListenerSettings
from dicom_node.network.listener import Listener
from dicom_node.network.sender import send
from storage.audit_trail import trail, verify
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import AuditRow, ObjectKind, StoredObject
from tests.captured_log import captured_log
from tests.factory import write, xa
from tests.peers import echoscu, encoded, free_port, store_raw, storescu, wait_until


class Node:
    """A listener with its storage, and what it passed on."""

    def __init__(self, folder: Path, full_below_bytes: int = 0, **settings: object) -> None:
        self.store = ObjectStore(folder / "store")
        self.database = Database(f"sqlite:///{folder / 'fullfield.db'}", lock_timeout_seconds=0.3)
        self.database.migrate()
        self.kept: list[str] = []
        self.released: list[tuple[list[str], str]] = []
        self.fault: Exception | None = None
        self.listener = Listener(
            ListenerSettings(port=free_port(), **settings),
            self.store,
            self.database,
            self._on_kept,
            lambda _, series, calling_ae: self.released.append((series, calling_ae)),
            full_below_bytes,
        )

    @property
    def port(self) -> int:
        return self.listener.port

    def objects(self) -> list[StoredObject]:
        with self.database.reading() as tx:
            return list(tx.scalars(select(StoredObject).order_by(StoredObject.id)))

    def rows(self, *actions: str) -> list[AuditRow]:
        with self.database.reading() as tx:
            return [row for row in trail(tx) if row.action in actions or not actions]

    def refusal(self) -> AuditRow:
        """The one audit row of a refusal."""
        (row,) = wait_until(lambda: [row for row in self.rows() if row.outcome == "refused"])
        return row

    def destination(self) -> SimpleNamespace:
        return SimpleNamespace(ae_title="FULLFIELD", host="127.0.0.1", port=self.port)

    def send(self, *paths: Path) -> list[int]:
        return [sent.status for sent in send(self.destination(), "CARM", paths, 30)]

    def _on_kept(self, _, stored, header) -> None:
        if self.fault is not None:
            raise self.fault
        assert "PixelData" not in header
        self.kept.append(stored.sop_instance_uid)


@contextmanager
def listening(folder: Path, **how: object) -> Iterator[Node]:
    node = Node(folder, **how)
    node.listener.start()
    try:
        yield node
    finally:
        node.listener.stop(2)
        node.database.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path) as node:
        yield node


def cine(folder: Path, name: str = "cine.dcm", transfer_syntax: str | None = None, **attributes) -> Path:
    return write(xa(**attributes), folder / name, transfer_syntax)


def data_set_bytes(path: Path) -> bytes:
    """What follows the File Meta Information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def goes_through(node: Node, folder: Path) -> bool:
    """Whether the next object is kept as if nothing had happened."""
    path = cine(folder, "next.dcm", sop_instance_uid=generate_uid())
    return storescu(node.port, path).accepted and node.kept[-1:] == [dcmread(path).SOPInstanceUID]


def test_a_c_echo_is_answered(node):
    assert echoscu(node.port).accepted
    assert node.released == []


@pytest.mark.parametrize(
    ("transfer_syntax", "option"),
    [
        (ExplicitVRLittleEndian, "-xe"),
        (ImplicitVRLittleEndian, "-xi"),
        (JPEGLosslessSV1, "-xs"),
        (JPEGLSLossless, "-xt"),
        (JPEG2000Lossless, "-xv"),
        (RLELossless, "-xr"),
    ],
)
def test_an_object_of_dcmtk_is_kept_in_the_form_in_which_it_came(node, tmp_path, transfer_syntax, option):
    path = cine(tmp_path, transfer_syntax=transfer_syntax)
    assert storescu(node.port, path, option).statuses == [0x0000]
    (stored,) = node.objects()
    kept, sent = dcmread(node.store.path(stored.digest)), dcmread(path)
    assert stored.transfer_syntax_uid == kept.file_meta.TransferSyntaxUID == transfer_syntax
    assert kept == sent
    assert kept.PixelData == sent.PixelData


def test_jpeg_lossless_of_any_predictor_is_taken(node, tmp_path):
    plain, path = cine(tmp_path), tmp_path / "process-14.dcm"
    subprocess.run(["dcmcjpeg", "--encode-lossless", "+sv", "4", plain, path], check=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == JPEGLossless
    assert node.send(path) == [0x0000]


def test_the_bytes_of_the_data_set_are_kept_as_they_came(node, tmp_path):
    path = cine(tmp_path, PatientComments="odd", private_creator="x")
    node.send(path)
    (stored,) = node.objects()
    assert data_set_bytes(node.store.path(stored.digest)) == data_set_bytes(path)


def test_what_is_acknowledged_is_in_the_store_the_database_and_the_audit_trail(node, tmp_path):
    path = cine(tmp_path, frames=5)
    header = dcmread(path)
    assert storescu(node.port, path, calling="CARM").accepted
    (stored,) = node.objects()
    node.store.verify(stored.digest)
    assert (stored.sop_instance_uid, stored.series_instance_uid, stored.study_instance_uid) == (
        header.SOPInstanceUID,
        header.SeriesInstanceUID,
        header.StudyInstanceUID,
    )
    assert (stored.modality, stored.frames, stored.kind) == ("XA", 5, ObjectKind.ORIGINAL)
    assert (stored.calling_ae, stored.called_ae, stored.peer_address) == ("CARM", "FULLFIELD", "127.0.0.1")
    (row,) = node.rows("object_received")
    assert (row.peer_ae, row.study_instance_uid) == ("CARM", header.StudyInstanceUID)
    assert row.details["digest"] == stored.digest
    assert list(node.store.incoming.iterdir()) == []


@pytest.mark.parametrize("sop_class", [EnhancedXAImageStorage, SecondaryCaptureImageStorage])
def test_other_sop_classes_of_fluoroscopy_are_taken(node, tmp_path, sop_class):
    assert storescu(node.port, cine(tmp_path, sop_class=sop_class)).accepted


def test_the_release_of_an_association_is_told_with_the_series_that_came(node, tmp_path):
    series = generate_uid()
    paths = [
        cine(tmp_path, f"{n}.dcm", series_instance_uid=series, sop_instance_uid=generate_uid())
        for n in range(3)
    ]
    assert storescu(node.port, *paths, calling="CARM").accepted
    wait_until(lambda: node.released)
    assert node.released == [([series], "CARM")]


def test_a_repeated_object_is_acknowledged_and_kept_once(node, tmp_path):
    path = cine(tmp_path)
    assert storescu(node.port, path, calling="CARM").accepted
    assert storescu(node.port, path, calling="OTHER").accepted
    assert len(node.objects()) == len(node.kept) == 1
    (row,) = node.rows("object_repeated")
    assert row.peer_ae == "OTHER"


def test_other_content_under_the_same_uid_is_kept_aside_and_reported(node, tmp_path):
    uid = generate_uid()
    first = cine(tmp_path, "1.dcm", sop_instance_uid=uid, seed=1)
    second = cine(tmp_path, "2.dcm", sop_instance_uid=uid, seed=2)
    with captured_log() as log:
        assert storescu(node.port, first).accepted
        assert storescu(node.port, second).accepted
    kept, aside = node.objects()
    assert (kept.kind, aside.kind) == (ObjectKind.ORIGINAL, ObjectKind.ASIDE)
    node.store.verify(aside.digest)
    assert node.kept == [uid]
    assert len(node.rows("object_kept_aside")) == 1
    assert "object kept aside" in log.getvalue()


def test_an_association_that_calls_another_title_is_rejected(node):
    told = echoscu(node.port, called="ELSEWHERE")
    assert "Called AE Title Not Recognized" in told.output
    row = node.refusal()
    assert (row.action, row.details["called_ae"]) == ("association_refused", "ELSEWHERE")


def test_only_listed_titles_may_call(tmp_path):
    with listening(tmp_path, allow=(AllowedPeer(ae_title="CARM"),)) as node:
        assert "Calling AE Title Not Recognized" in echoscu(node.port, calling="STRANGER").output
        assert node.refusal().peer_ae == "STRANGER"
        assert echoscu(node.port, calling="CARM").accepted


@pytest.mark.parametrize(("network", "accepted"), [("127.0.0.0/8", True), ("10.1.2.0/24", False)])
def test_a_listed_title_may_call_from_its_addresses_only(tmp_path, network, accepted):
    with listening(tmp_path, allow=(AllowedPeer(ae_title="CARM", addresses=(network,)),)) as node:
        assert echoscu(node.port, calling="CARM").accepted is accepted
        assert len(node.rows("association_refused")) == (not accepted)


def test_one_association_too_many_is_refused_for_now(tmp_path):
    with listening(tmp_path, max_associations=1) as node:
        contexts = [build_context(Verification)]
        open_one = AE("CARM").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
        assert "Local Limit Exceeded" in echoscu(node.port).output
        open_one.release()
        wait_until(lambda: echoscu(node.port).accepted)


def test_a_sop_class_that_is_not_received_is_accounted_for(node, tmp_path):
    path = cine(tmp_path, sop_class=CTImageStorage)
    assert not storescu(node.port, path).accepted
    row = node.refusal()
    assert row.action == "contexts_refused"
    assert row.details["sop_class_uids"] == [CTImageStorage]
    assert goes_through(node, tmp_path)


@pytest.mark.parametrize("sop_class", [CTImageStorage, "1.2.3.4.5.6", EnhancedXAImageStorage])
def test_an_object_of_another_class_than_negotiated_is_answered_0122(node, tmp_path, sop_class):
    image = xa(sop_class=sop_class)
    uid = image.SOPInstanceUID
    assert store_raw(node.port, encoded(image), sop_class_uid=sop_class, sop_instance_uid=uid) == 0x0122
    assert node.refusal().details["status"] == "0x0122"
    assert list(node.store.incoming.iterdir()) == []
    assert goes_through(node, tmp_path)


@pytest.mark.parametrize("differs", ["SOPClassUID", "SOPInstanceUID"])
def test_a_data_set_with_other_uids_than_the_request_is_answered_a900(node, tmp_path, differs):
    image = xa()
    uid = image.SOPInstanceUID
    setattr(image, differs, SecondaryCaptureImageStorage if differs == "SOPClassUID" else generate_uid())
    assert store_raw(node.port, encoded(image), sop_instance_uid=uid) == 0xA900
    row = node.refusal()
    assert (row.action, row.sop_instance_uid) == ("object_refused", uid)
    assert goes_through(node, tmp_path)


UID = "1.2.3.4"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x00" * 1000,
        b"rubbish, not a data set at all" * 50,
        bytes(range(256)) * 64,
        encoded(xa(sop_instance_uid=UID))[:40],
        encoded(xa(missing=["SOPInstanceUID"])),
        encoded(xa(sop_instance_uid=UID, missing=["StudyInstanceUID"])),
        encoded(xa(sop_instance_uid=UID, SeriesInstanceUID="")),
        encoded(xa(sop_instance_uid=UID, study_instance_uid="..")),
    ],
    ids=["empty", "zeros", "text", "bytes", "cut", "no instance", "no study", "empty series", "dots"],
)
def test_what_cannot_be_understood_is_answered_c000(node, tmp_path, broken):
    assert store_raw(node.port, broken, sop_instance_uid=UID) == 0xC000
    assert node.refusal().action == "object_refused"
    assert node.objects() == []
    assert list(node.store.incoming.iterdir()) == []
    assert goes_through(node, tmp_path)


@pytest.mark.parametrize(
    "attributes",
    [
        {"missing": ["PatientID", "PatientName", "Modality"]},
        {"patient_name": "Müller^Jörg", "charset": "ISO_IR 100"},
        {"patient_name": "Yamada^Tarou=山田^太郎", "charset": ["", "ISO 2022 IR 87"]},
        {"NumberOfFrames": 60000},
        {"missing": ["PixelData", "NumberOfFrames"]},
        {"frames": 0},
    ],
    ids=["no patient", "latin", "japanese", "60,000 frames", "no pixels", "single frame"],
)
def test_what_is_odd_but_identified_is_kept_for_others_to_judge(node, tmp_path, attributes):
    assert node.send(cine(tmp_path, **attributes)) == [0x0000]
    assert len(node.objects()) == 1


def test_below_the_limit_of_free_space_objects_are_out_of_resources(tmp_path):
    with listening(tmp_path, full_below_bytes=1 << 60) as node:
        told = storescu(node.port, cine(tmp_path))
        assert told.statuses == [0xA700]
        row = node.refusal()
        assert row.details["reason"] == "The disk is nearly full."
        assert list(node.store.incoming.iterdir()) == []
        node.listener._full_below_bytes = 0
        assert goes_through(node, tmp_path)


def test_a_disk_that_fills_up_in_the_middle_of_an_object_is_out_of_resources(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes more rights")
    try:
        with listening(small) as node:
            large = cine(tmp_path, "large.dcm", frames=20, rows=512, columns=512)
            assert storescu(node.port, large).statuses == [0xA700]
            assert node.objects() == []
            assert list(node.store.incoming.iterdir()) == []
            assert goes_through(node, tmp_path)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_while_the_database_is_locked_objects_are_out_of_resources_and_the_row_comes_later(node, tmp_path):
    other = sqlite3.connect(tmp_path / "fullfield.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert storescu(node.port, cine(tmp_path)).statuses == [0xA700]
    assert node.objects() == []
    other.execute("ROLLBACK")
    other.close()
    assert goes_through(node, tmp_path)
    row = node.refusal()
    assert row.details["status"] == "0xA700"
    assert "happened_at" in row.details


def test_a_fault_of_what_comes_next_keeps_nothing_and_is_told_without_a_traceback(node, tmp_path, capfd):
    node.fault = RuntimeError("a fault in Invented^Patient")
    with captured_log() as log:
        assert storescu(node.port, cine(tmp_path)).statuses == [0xA700]
    assert node.objects() == []
    assert node.rows("object_received") == []
    assert "RuntimeError" in log.getvalue()
    assert "Invented" not in log.getvalue()
    assert "Traceback" not in "".join(capfd.readouterr())
    node.fault = None
    assert goes_through(node, tmp_path)


def test_parallel_associations_lose_nothing(node, tmp_path):
    batches = [
        [cine(tmp_path, f"{batch}-{n}.dcm", sop_instance_uid=generate_uid()) for n in range(5)]
        for batch in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda batch: storescu(node.port, *batch), batches))
    assert [answer.statuses for answer in told] == [[0x0000] * 5] * 6
    assert len(node.objects()) == len(set(node.kept)) == 30
    with node.database.reading() as tx:
        assert verify(tx) == 30


def test_the_same_object_from_two_peers_at_once_is_kept_once(node, tmp_path):
    path = cine(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: storescu(node.port, path), range(4)))
    assert all(answer.accepted for answer in told)
    assert len(node.objects()) == 1
    assert len(node.rows("object_repeated")) == 3


def test_an_aborted_association_keeps_what_was_acknowledged_and_tells_its_end(node, tmp_path):
    path = cine(tmp_path)
    assert storescu(node.port, path, "--abort").statuses == [0x0000]
    wait_until(lambda: node.released)
    assert node.released == [([dcmread(path).SeriesInstanceUID], "STORESCU")]
    assert len(node.rows("association_lost")) == 1


def test_a_connection_cut_in_the_middle_of_an_object_leaves_nothing_behind(node, tmp_path):
    ae = AE("CARM")
    context = build_context(XRayAngiographicImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", node.port, [context], ae_title="FULLFIELD")
    connection = association.dul.socket.socket
    recorded: list[bytes] = []
    association.dul.socket.send = recorded.append
    threading.Thread(
        target=association.send_c_store, args=(xa(frames=20, rows=128, columns=128),), daemon=True
    ).start()
    wait_until(lambda: len(recorded) > 3)
    connection.sendall(b"".join(recorded[:3]) + recorded[3][:100])
    wait_until(lambda: list(node.store.incoming.iterdir()))
    connection.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: node.rows("association_lost"))
    assert "1 objects underway" in node.rows("association_lost")[0].details["reason"]
    wait_until(lambda: not list(node.store.incoming.iterdir()))
    assert node.objects() == []
    assert goes_through(node, tmp_path)
    association.kill()


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"",
        b"\x04\x00\xff\xff\xff\xff" + b"x" * 100,
        b"\x01\x00\x00\x00\x00\x04abcd",
    ],
    ids=["http", "nothing", "endless unit", "broken request"],
)
def test_rubbish_on_the_port_does_no_harm(node, tmp_path, capfd, rubbish):
    with captured_log() as log:
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(30)
            while connection.recv(1000):
                pass
        assert goes_through(node, tmp_path)
    assert "Traceback" not in log.getvalue() + "".join(capfd.readouterr())


def test_a_peer_that_proposes_all_syntaxes_in_one_context_gets_the_one_it_prefers(node, tmp_path):
    path = cine(tmp_path, transfer_syntax=JPEGLosslessSV1)
    assert storescu(node.port, path, "-xs", "+C").accepted
    assert [stored.transfer_syntax_uid for stored in node.objects()] == [JPEGLosslessSV1]


def test_the_log_of_a_reception_holds_no_patient_data(node, tmp_path):
    image = xa(patient_name="Secretname^Person", PatientID="SECRETID", StudyDescription="x" * 100)
    path = write(image, tmp_path / "a.dcm")
    with captured_log("debug") as log:
        assert storescu(node.port, path).accepted
        assert storescu(node.port, path).accepted
        store_raw(node.port, encoded(image)[:200], sop_instance_uid=image.SOPInstanceUID)
        store_raw(node.port, encoded(image), sop_instance_uid=generate_uid())
        wait_until(lambda: len(node.released) == 2)
    said = log.getvalue()
    assert "object kept" in said
    assert "object refused" in said
    for secret in ("Secretname", "SECRETID", image.SOPInstanceUID, image.StudyInstanceUID):
        assert secret not in said


def test_a_port_that_is_taken_is_told_in_a_sentence(node):
    second = Listener(
        ListenerSettings(port=node.port), node.store, node.database, node._on_kept, lambda *_: None, 0
    )
    with pytest.raises(StorageUnavailable, match=f"Cannot listen on 127.0.0.1, port {node.port}"):
        second.start()


def test_stopping_ends_associations_that_stay_open(tmp_path):
    node = Node(tmp_path)
    node.listener.start()
    contexts = [build_context(Verification)]
    association = AE("CARM").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
    node.listener.stop(0.1)
    wait_until(lambda: not association.is_established)
    assert not echoscu(node.port).accepted


@pytest.mark.long
def test_memory_stays_flat_over_an_object_of_two_gigabytes(node, tmp_path):
    path = cine(tmp_path, frames=1, rows=1024, columns=1024, NumberOfFrames=1000)
    image = dcmread(path)
    size = 2_000_000_000
    header = path.read_bytes()[: -len(image.PixelData) - 4]
    with path.open("wb") as file:
        file.write(header + size.to_bytes(4, "little"))
        file.truncate(file.tell() + size)
    assert storescu(node.port, cine(tmp_path, "small.dcm")).accepted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert storescu(node.port, path).accepted
    assert node.objects()[-1].size > size
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
