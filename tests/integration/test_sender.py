"""The sender against dcmtk's storescp, Orthanc, and peers that reject, abort, are silent or are not there."""

import socket
import subprocess
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.dsutils import split_dataset
from pynetdicom.pdu import P_DATA_TF

from config.errors import DamagedObject, PeerRefused, PeerUnavailable, StorageUnavailable
from config.listener import ListenerSettings
from dicom_node.network.contexts import accepted_contexts
from dicom_node.network.intake import Intake
from dicom_node.network.listener import Listener
from dicom_node.network.sender import Address, ObjectPostponed, ObjectRefused, Sent, echo, send
from storage.database import Database
from storage.files import ObjectStore
from tests.factory import write, xa
from tests.peers import free_port, orthanc, storescp


def destination(port: int, ae_title: str = "PACS", host: str = "127.0.0.1") -> Address:
    return Address(ae_title, host, port)


def sent_to(peer, *paths: Path) -> list[Sent]:
    return list(send(destination(peer.port, peer.ae_title), "FULLFIELD", paths, 30))


def cine(folder: Path, name: str = "cine.dcm", transfer_syntax: str | None = None, **attributes) -> Path:
    attributes = {"sop_instance_uid": generate_uid(), **attributes}
    return write(xa(**attributes), folder / name, transfer_syntax)


@contextmanager
def answering(status: int) -> Iterator[SimpleNamespace]:
    """A peer that answers every object with one status, which no real one would do on request."""
    ae = AE("PACS")
    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=accepted_contexts(),
        evt_handlers=[(evt.EVT_C_STORE, lambda _: status)],
    )
    try:
        yield destination(server.server_address[1])
    finally:
        ae.shutdown()


def test_a_deflated_object_of_odd_length_is_padded_on_its_way(tmp_path):
    lengths = set()
    with storescp(tmp_path / "pacs", "+xa") as peer:
        for length in range(1, 40):
            path = cine(
                tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian, PatientComments="x1Q"[:length] * length
            )
            lengths.add((path.stat().st_size - split_dataset(path)[1]) % 2)
            assert sent_to(peer, path) == [Sent(dcmread(path).SOPInstanceUID, 0x0000)]
            if lengths == {0, 1}:
                break
        assert lengths == {0, 1}
        assert {dcmread(got).PatientComments[:1] for got in peer.files()} == {"x"}


@pytest.mark.parametrize(
    "transfer_syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        RLELossless,
    ],
)
def test_an_object_arrives_in_its_own_transfer_syntax(tmp_path, transfer_syntax):
    path = cine(tmp_path, transfer_syntax=transfer_syntax)
    with storescp(tmp_path / "pacs", "+xa") as peer:
        assert sent_to(peer, path) == [Sent(dcmread(path).SOPInstanceUID, 0x0000)]
        (arrived,) = peer.files()
    assert dcmread(arrived).file_meta.TransferSyntaxUID == transfer_syntax
    assert dcmread(arrived) == dcmread(path)
    assert dcmread(arrived).PixelData == dcmread(path).PixelData


@pytest.mark.parametrize("transfer_syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
def test_what_a_peer_does_not_take_compressed_arrives_decompressed_and_equal(tmp_path, transfer_syntax):
    path = cine(tmp_path, transfer_syntax=transfer_syntax)
    with storescp(tmp_path / "pacs") as peer:
        (sent,) = sent_to(peer, path)
        (arrived,) = peer.files()
    received, original = dcmread(arrived), dcmread(path)
    assert received.SOPInstanceUID == sent.sop_instance_uid == original.SOPInstanceUID
    assert received.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (received.pixel_array == original.pixel_array).all()


@pytest.mark.parametrize("options", [(), ("+xi",)], ids=["explicit", "implicit"])
@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, JPEGLSLossless])
def test_what_is_written_anew_on_its_way_is_never_whole_in_memory_and_arrives_equal(tmp_path, transfer_syntax, options):
    path = cine(tmp_path, frames=80, rows=512, columns=512, transfer_syntax=transfer_syntax)
    original = dcmread(path)
    pixels = original.pixel_array
    with storescp(tmp_path / "pacs", *options) as peer:
        tracemalloc.start()
        try:
            sent_to(peer, path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        (arrived,) = peer.files()
    assert peak < pixels.nbytes / 5
    received = dcmread(arrived)
    assert received.file_meta.TransferSyntaxUID == (ImplicitVRLittleEndian if options else ExplicitVRLittleEndian)
    assert (received.pixel_array == pixels).all()
    del received.PixelData, original.PixelData
    assert received == original


def test_without_room_to_write_it_anew_it_is_the_storage_that_is_away(tmp_path):
    path = cine(tmp_path)
    with storescp(tmp_path / "pacs", "+xi") as peer, pytest.raises(StorageUnavailable, match="No such file"):
        list(send(peer, "FULLFIELD", [path], 30, scratch=tmp_path / "gone"))


def test_what_is_kept_in_big_endian_reaches_a_peer_that_takes_none(tmp_path):
    path = big_endian(cine(tmp_path), tmp_path / "big.dcm")
    with storescp(tmp_path / "pacs", "+xi") as peer:
        (sent,) = sent_to(peer, path)
        (arrived,) = peer.files()
    received, original = dcmread(arrived), dcmread(path)
    assert original.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    assert received.SOPInstanceUID == sent.sop_instance_uid == original.SOPInstanceUID
    assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert (received.pixel_array == original.pixel_array).all()
    del received.PixelData, original.PixelData
    assert received == original


def big_endian(path, target):
    """The same object as dcmtk writes it in big endian."""
    subprocess.run(["dcmconv", "+tb", path, target], check=True)
    return target


def test_a_peer_that_takes_only_implicit_gets_implicit(tmp_path):
    path = cine(tmp_path)
    with storescp(tmp_path / "pacs", "+xi") as peer:
        sent_to(peer, path)
        (arrived,) = peer.files()
    assert dcmread(arrived).file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert dcmread(arrived).PixelData == dcmread(path).PixelData


def test_no_answer_is_lost_among_hundreds(tmp_path):
    """pynetdicom's own thread took one in some hundred away, and the object was taken for not sent."""
    path = cine(tmp_path, frames=1)
    with storescp(tmp_path / "pacs", "--ignore") as peer:
        assert len(sent_to(peer, *[path] * 400)) == 400


def test_many_objects_go_over_one_association_and_are_told_one_by_one(tmp_path):
    paths = [
        cine(tmp_path, "1.dcm"),
        cine(tmp_path, "2.dcm", RLELossless),
        cine(tmp_path, "3.dcm", sop_class=SecondaryCaptureImageStorage),
    ]
    with storescp(tmp_path / "pacs", "+xa") as peer:
        acknowledged = [sent.sop_instance_uid for sent in sent_to(peer, *paths)]
        assert len(peer.files()) == 3
    assert acknowledged == [dcmread(path).SOPInstanceUID for path in paths]


def test_orthanc_takes_an_object_and_its_repetition_as_one(tmp_path):
    path = cine(tmp_path, transfer_syntax=JPEG2000Lossless)
    with orthanc(tmp_path / "orthanc") as peer:
        assert [sent.status for sent in sent_to(peer, path)] == [0x0000]
        assert [sent.status for sent in sent_to(peer, path)] == [0x0000]
        (instance,) = peer.get("/instances")
        (tmp_path / "back.dcm").write_bytes(peer.read(f"/instances/{instance}/file"))
        echo(destination(peer.port, "ORTHANC"), "FULLFIELD", 30)
    assert dcmread(tmp_path / "back.dcm") == dcmread(path)


def test_a_cine_of_several_megabytes_arrives_whole(tmp_path):
    path = cine(tmp_path, frames=30, rows=512, columns=512)
    with storescp(tmp_path / "pacs") as peer:
        sent_to(peer, path)
        (arrived,) = peer.files()
    assert dcmread(arrived).PixelData == dcmread(path).PixelData


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111])
def test_a_warning_counts_as_acknowledged(tmp_path, status):
    with answering(status) as peer:
        assert [sent.status for sent in sent_to(peer, cine(tmp_path))] == [status]


def test_a_failure_is_a_refusal_with_its_status(tmp_path):
    with answering(0x0124) as peer, pytest.raises(ObjectRefused, match="0x0124") as refusal:
        sent_to(peer, cine(tmp_path))
    assert refusal.value.status == 0x0124


def test_a_peer_out_of_resources_is_to_be_tried_again(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}")
    database.migrate()
    intake = Intake(ObjectStore(tmp_path / "store"), database, lambda *_: None, lambda *_: None, 1 << 60)
    listener = Listener(ListenerSettings(port=free_port()), intake)
    listener.start()
    try:
        peer = destination(listener.port, "FULLFIELD")
        with pytest.raises(ObjectPostponed) as refusal:
            sent_to(peer, cine(tmp_path))
        assert refusal.value.status == 0xA700
        assert isinstance(refusal.value, PeerUnavailable)
    finally:
        listener.stop()


def test_what_was_acknowledged_before_a_failure_is_told(tmp_path):
    paths = [cine(tmp_path, "1.dcm"), cine(tmp_path, "2.dcm", sop_class=MRImageStorage)]
    acknowledged = []
    with answering(0x0000) as peer, pytest.raises(PeerRefused, match="MR Image Storage"):
        for sent in send(peer, "FULLFIELD", paths, 30):
            acknowledged.append(sent.sop_instance_uid)
    assert acknowledged == [dcmread(paths[0]).SOPInstanceUID]


def test_a_peer_that_takes_none_of_it_refuses(tmp_path):
    with answering(0x0000) as peer, pytest.raises(PeerRefused, match="accepts none"):
        sent_to(peer, cine(tmp_path, sop_class=MRImageStorage))


def test_a_peer_that_rejects_the_association_refuses(tmp_path):
    with (
        storescp(tmp_path / "pacs", "--refuse") as peer,
        pytest.raises(PeerRefused, match="rejected the association"),
    ):
        sent_to(peer, cine(tmp_path))


@pytest.mark.parametrize("option", ["--abort-after", "--abort-during"])
def test_a_peer_that_aborts_is_unavailable(tmp_path, option):
    large = cine(tmp_path, frames=30, rows=512, columns=512)
    with storescp(tmp_path / "pacs", option) as peer, pytest.raises(PeerUnavailable):
        sent_to(peer, large)


def test_nobody_at_the_port_is_unavailable(tmp_path):
    with pytest.raises(PeerUnavailable, match="cannot be reached"):
        sent_to(destination(free_port()), cine(tmp_path))
    with pytest.raises(PeerUnavailable, match="cannot be reached"):
        echo(destination(free_port()), "FULLFIELD", 5)


def test_a_host_without_an_address_is_unavailable(tmp_path):
    nowhere = destination(104, host="no-such-host.invalid")
    with pytest.raises(PeerUnavailable, match="cannot be found"):
        list(send(nowhere, "FULLFIELD", [cine(tmp_path)], 5))


def test_a_silent_peer_is_unavailable_after_the_timeout(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = destination(silent.getsockname()[1])
        with pytest.raises(PeerUnavailable):
            list(send(peer, "FULLFIELD", [cine(tmp_path)], 0.5))


def test_a_peer_that_takes_an_object_and_never_answers_is_unavailable(tmp_path):
    with storescp(tmp_path / "pacs", "--sleep-during", "600") as peer, pytest.raises(PeerUnavailable):
        list(send(destination(peer.port), "FULLFIELD", [cine(tmp_path)], 1))


def test_what_a_peer_acknowledged_before_it_hung_is_acknowledged(tmp_path):
    path = cine(tmp_path)
    with storescp(tmp_path / "pacs", "--sleep-after", "600") as peer:
        (sent,) = send(destination(peer.port), "FULLFIELD", [path], 1)
    assert sent == Sent(dcmread(path).SOPInstanceUID, 0x0000)


def test_what_is_no_dicom_file_is_told_before_anything_is_sent(tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(DamagedObject, match=r"text\.dcm"):
        sent_to(destination(free_port()), tmp_path / "text.dcm")


def test_compressed_pixels_that_cannot_be_decoded_are_not_sent_to_a_peer_without_compression(tmp_path):
    path = cine(tmp_path, transfer_syntax=JPEG2000Lossless)
    # The marker segment SIZ, without which no picture can be made of a code stream (ISO/IEC 15444-1 A.5.1).
    start_and_size = b"\xff\x4f\xff\x51"
    content = path.read_bytes()
    assert start_and_size in content
    path.write_bytes(content.replace(start_and_size, b"\xff\x4f\xaa\xaa"))
    with storescp(tmp_path / "pacs") as peer, pytest.raises(PeerRefused, match="cannot be decoded"):
        sent_to(peer, path)


def test_a_peer_that_is_there_answers_an_echo(tmp_path):
    with storescp(tmp_path / "pacs") as peer:
        echo(destination(peer.port), "FULLFIELD", 30)


@pytest.mark.parametrize("maximum", [0, 1024, 4096, 16382, 1 << 20])
def test_units_are_as_large_as_the_peer_takes(tmp_path, maximum):
    path = cine(tmp_path, frames=7, rows=301, columns=300)
    lengths, kept = [], []
    ae = AE("PACS")
    ae.maximum_pdu_size = maximum

    def pdu(event):
        if isinstance(event.pdu, P_DATA_TF):
            lengths.append(event.pdu.pdu_length)

    def stored(event):
        kept.append(event.request.DataSet.getvalue())
        return 0x0000

    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        contexts=accepted_contexts(),
        evt_handlers=[(evt.EVT_C_STORE, stored), (evt.EVT_PDU_RECV, pdu)],
    )
    try:
        list(send(destination(server.server_address[1]), "FULLFIELD", [path], 30))
    finally:
        ae.shutdown()

    assert kept == [path.read_bytes()[split_dataset(path)[1] :]]
    assert max(lengths) <= (maximum or 1 << 20)
    # Those of the data set, but for the last, are full.
    assert len(set(lengths[1:-1])) <= 1
