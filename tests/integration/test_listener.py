"""The listener against dcmtk, and against peers that behave badly."""

import resource
import subprocess
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
from pydicom import dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    MPEG2MPML,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from config.errors import StorageUnavailable
from config.listener import ListenerSettings, TransferSyntax
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.listener import Listener
from dicom_node.sop_classes import RECEIVED
from storage.audit_trail import verify
from storage.states import ObjectKind
from tests.captured_log import captured_log
from tests.factory import write, xa
from tests.listening import Node, cine, listening
from tests.peers import echoscu, encoded, postgresql, store_raw, storescu, wait_until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path) as node:
        yield node


def data_set_bytes(path: Path) -> bytes:
    """What follows the File Meta Information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def test_a_c_echo_is_answered(node):
    assert echoscu(node.port).accepted
    assert node.released == []


@pytest.mark.parametrize(
    ("transfer_syntax", "option", "bits"),
    [
        (ExplicitVRLittleEndian, "-xe", 12),
        (ExplicitVRBigEndian, "-xb", 12),
        (ImplicitVRLittleEndian, "-xi", 12),
        (DeflatedExplicitVRLittleEndian, "-xd", 12),
        (JPEGLosslessSV1, "-xs", 12),
        (JPEGLSLossless, "-xt", 12),
        (JPEG2000Lossless, "-xv", 12),
        (RLELossless, "-xr", 12),
        (JPEGBaseline8Bit, "-xy", 8),
        (JPEGExtended12Bit, "-xx", 12),
        (JPEGLSNearLossless, "-xu", 12),
        (JPEG2000, "-xw", 12),
    ],
)
def test_an_object_of_dcmtk_is_kept_in_the_form_in_which_it_came(node, tmp_path, transfer_syntax, option, bits):
    path = cine(tmp_path, transfer_syntax=transfer_syntax, bits_stored=bits)
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


@pytest.mark.parametrize("sop_class", RECEIVED, ids=lambda uid: uid.keyword)
def test_every_sop_class_of_a_fluoroscopy_room_is_taken(node, tmp_path, sop_class):
    assert storescu(node.port, cine(tmp_path, sop_class=sop_class)).accepted
    assert [stored.sop_class_uid for stored in node.objects()] == [sop_class]


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES, ids=lambda uid: uid.keyword)
def test_every_transfer_syntax_that_is_taken_can_be_decoded(syntax):
    assert get_decoder(syntax).is_available


def test_every_transfer_syntax_that_can_be_decoded_is_taken():
    assert {syntax for syntax in AllTransferSyntaxes if _decodable(syntax)} == set(TRANSFER_SYNTAXES)


def test_every_transfer_syntax_that_is_taken_can_be_preferred():
    assert get_args(TransferSyntax) == tuple(syntax.keyword for syntax in TRANSFER_SYNTAXES)


def _decodable(syntax):
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


@pytest.mark.parametrize(
    ("proposed", "accepted"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEG2000Lossless, ImplicitVRLittleEndian, JPEGBaseline8Bit], JPEG2000Lossless),
        ([JPEGBaseline8Bit, JPEG2000, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEGExtended12Bit, JPEGBaseline8Bit], JPEGExtended12Bit),
        ([MPEG2MPML, JPEG2000], JPEG2000),
    ],
    ids=["order", "lossless", "lossy first", "lossy only", "one unknown"],
)
def test_of_one_context_the_first_that_loses_nothing_is_accepted(node, proposed, accepted):
    contexts = [build_context(XRayAngiographicImageStorage, proposed)]
    association = AE("CARM").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
    assert [context.transfer_syntax for context in association.accepted_contexts] == [[accepted]]
    association.release()


def test_a_deflated_object_that_stands_for_a_thousand_times_its_size_takes_little_memory(node, tmp_path):
    path = cine(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    image = dcmread(path)
    plain = zlib.decompress(data_set_bytes(path), -zlib.MAX_WBITS)
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    header = plain[: -len(image.PixelData) - 4] + (512 << 20).to_bytes(4, "little")
    bomb = stream.compress(header) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(512)) + stream.flush()
    path.write_bytes(path.read_bytes().removesuffix(data_set_bytes(path)) + bomb + b"\0" * (len(bomb) % 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert storescu(node.port, path, "-xd").statuses == [0x0000]
    assert node.kept == [image.SOPInstanceUID]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


@pytest.mark.parametrize("spoil", [lambda data: data[:-300], lambda data: data[:600] + b"\xff" * 300 + data[900:]])
def test_a_deflated_object_that_is_cut_off_or_broken_is_answered_c000(node, tmp_path, spoil):
    path = cine(tmp_path, transfer_syntax=DeflatedExplicitVRLittleEndian)
    sent = dcmread(path)
    status = store_raw(
        node.port,
        spoil(data_set_bytes(path)),
        sop_instance_uid=sent.SOPInstanceUID,
        transfer_syntax=DeflatedExplicitVRLittleEndian,
    )
    assert status == 0xC000
    assert node.objects() == []


def test_the_release_of_an_association_is_told_with_the_series_that_came(node, tmp_path):
    series = generate_uid()
    paths = [cine(tmp_path, f"{n}.dcm", series_instance_uid=series, sop_instance_uid=generate_uid()) for n in range(3)]
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


def test_parallel_associations_lose_nothing(node, tmp_path):
    lose_nothing(node, tmp_path)


def test_parallel_associations_lose_nothing_on_postgresql_either(tmp_path):
    with postgresql(tmp_path / "postgresql") as url, listening(tmp_path, url=url) as node:
        lose_nothing(node, tmp_path)
        keep_once(node, tmp_path)


def test_the_same_object_from_several_peers_at_once_is_kept_once(node, tmp_path):
    keep_once(node, tmp_path)


def lose_nothing(node, tmp_path):
    batches = [
        [cine(tmp_path, f"{batch}-{n}.dcm", sop_instance_uid=generate_uid()) for n in range(5)] for batch in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda batch: storescu(node.port, *batch), batches))
    assert [answer.statuses for answer in told] == [[0x0000] * 5] * 6
    assert len(node.objects()) == len(set(node.kept)) == 30
    with node.database.reading() as tx:
        assert verify(tx) == 30


def keep_once(node, tmp_path):
    path = cine(tmp_path)
    before = len(node.objects())
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: storescu(node.port, path), range(4)))
    assert all(answer.accepted for answer in told)
    assert len(node.objects()) == before + 1
    assert len(node.rows("object_repeated")) == 3


def test_an_aborted_association_keeps_what_was_acknowledged_and_tells_its_end(node, tmp_path):
    path = cine(tmp_path)
    assert storescu(node.port, path, "--abort").statuses == [0x0000]
    wait_until(lambda: node.released)
    assert node.released == [([dcmread(path).SeriesInstanceUID], "STORESCU")]
    assert len(node.rows("association_lost")) == 1


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
    second = Listener(ListenerSettings(port=node.port), node.intake)
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
