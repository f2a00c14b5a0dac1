"""What the listener refuses, how it says so, and that the next object goes through."""

import json
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from pydicom.uid import (
    EnhancedXAImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import Verification

from config.listener import AllowedPeer
from dicom_node.network import server
from tests.captured_log import captured_log
from tests.disks import disk
from tests.factory import xa
from tests.fuzzing.conversations import conversation
from tests.listening import Node, cine, goes_through, listening
from tests.peers import echoscu, encoded, store_raw, storescu, wait_until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path) as node:
        yield node


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


def test_a_fault_while_a_peer_is_judged_keeps_it_out(node, monkeypatch):
    monkeypatch.setattr(node.listener, "_answer", lambda *_: 1 / 0)
    with captured_log() as log:
        assert "Rejected Transient" in echoscu(node.port).output
    assert "ZeroDivisionError" in log.getvalue()


def test_one_association_too_many_is_refused_for_now(tmp_path):
    with listening(tmp_path, max_associations=1) as node:
        contexts = [build_context(Verification)]
        open_one = AE("CARM").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
        assert "Local Limit Exceeded" in echoscu(node.port).output
        open_one.release()
        wait_until(lambda: echoscu(node.port).accepted)


def test_a_sop_class_that_is_not_received_is_accounted_for(node, tmp_path):
    path = cine(tmp_path, sop_class=MRImageStorage)
    assert not storescu(node.port, path).accepted
    row = node.refusal()
    assert row.action == "contexts_refused"
    assert row.details["sop_class_uids"] == [MRImageStorage]
    assert goes_through(node, tmp_path)


@pytest.mark.parametrize("sop_class", [MRImageStorage, "1.2.3.4.5.6", EnhancedXAImageStorage])
def test_an_object_of_another_class_than_negotiated_is_answered_0122(node, tmp_path, sop_class):
    image = xa(sop_class=sop_class)
    uid = image.SOPInstanceUID
    assert store_raw(node.port, encoded(image), sop_class_uid=sop_class, sop_instance_uid=uid) == 0x0122
    assert node.refusal().details["status"] == "0x0122"
    assert list(node.store.incoming.iterdir()) == []
    assert goes_through(node, tmp_path)


def test_a_data_set_of_another_instance_than_the_request_is_answered_a900(node, tmp_path):
    image = xa()
    uid = image.SOPInstanceUID
    image.SOPInstanceUID = generate_uid()
    assert store_raw(node.port, encoded(image), sop_instance_uid=uid) == 0xA900
    row = node.refusal()
    assert (row.action, row.sop_instance_uid) == ("object_refused", uid)
    assert goes_through(node, tmp_path)


def test_a_data_set_of_another_class_than_the_request_is_kept_as_what_it_says_it_is(node):
    image = xa()
    image.SOPClassUID = SecondaryCaptureImageStorage
    assert store_raw(node.port, encoded(image), sop_instance_uid=image.SOPInstanceUID) == 0x0000
    (kept,) = node.objects()
    assert (kept.sop_instance_uid, kept.sop_class_uid) == (image.SOPInstanceUID, SecondaryCaptureImageStorage)


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


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_request_that_names_an_instance_by_too_long_a_uid_is_aborted_and_told_as_a_lost_association(node, tmp_path):
    uid = "1.2." + "3" * 61
    with captured_log() as log:
        # pynetdicom's reader of messages aborts; no status could be answered, for it would have to name the instance.
        assert store_raw(node.port, encoded(xa(sop_instance_uid=uid)), sop_instance_uid=uid) is None
        (row,) = wait_until(lambda: node.rows("association_lost"))
    assert (row.outcome, row.peer_ae, row.sop_instance_uid) == ("failed", "RAW", None)
    assert row.details["reason"] == "It ended before its release; 1 objects underway were not acknowledged."
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert any(one.get("error") == "ValueError" and "_AffectedSOPInstanceUID" in one["at"] for one in told)
    assert [one["incomplete"] for one in told if one["event"] == "association lost"] == [1]
    assert uid not in log.getvalue()
    assert list(node.store.incoming.iterdir()) == []
    assert goes_through(node, tmp_path)
    assert len(node.objects()) == 1


@pytest.mark.parametrize("said", [b"", b"\x04\x00\x00"], ids=["nothing", "half a header"])
def test_a_peer_that_says_nothing_for_too_long_is_aborted(tmp_path, monkeypatch, said):
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.5)
    aborted = threading.Event()
    with listening(tmp_path) as node:
        silent = AE("CARM").associate(
            "127.0.0.1",
            node.port,
            [build_context(Verification)],
            ae_title="FULLFIELD",
            evt_handlers=[(evt.EVT_ABORTED, lambda _: aborted.set())],
        )
        assert silent.is_established
        since = time.monotonic()
        silent.dul.socket.socket.sendall(said)
        (row,) = wait_until(lambda: node.rows("association_lost"))
        assert 0.3 < time.monotonic() - since < 15
        assert aborted.wait(15)
        assert (row.outcome, row.peer_ae) == ("failed", "CARM")
        assert row.details["reason"] == "It ended before its release; 0 objects underway were not acknowledged."
        assert goes_through(node, tmp_path)


def test_below_the_limit_of_free_space_objects_are_out_of_resources(tmp_path):
    with listening(tmp_path, full_below_bytes=1 << 60) as node:
        told = storescu(node.port, cine(tmp_path))
        assert told.statuses == [0xA700]
        row = node.refusal()
        assert row.details["reason"] == "The disk is nearly full."
        assert list(node.store.incoming.iterdir()) == []
        node.intake._full_below_bytes = 0
        assert goes_through(node, tmp_path)


def test_a_disk_that_fills_up_in_the_middle_of_an_object_is_out_of_resources(tmp_path):
    with disk(tmp_path / "small", megabytes=4) as small, listening(small) as node:
        large = cine(tmp_path, "large.dcm", frames=20, rows=512, columns=512)
        assert storescu(node.port, large).statuses == [0xA700]
        assert node.objects() == []
        assert list(node.store.incoming.iterdir()) == []
        assert goes_through(node, tmp_path)


def test_while_the_database_is_locked_objects_are_out_of_resources_and_the_row_comes_later(tmp_path):
    with listening(tmp_path, lock_timeout_seconds=0.3) as node:
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


def test_a_connection_cut_in_the_middle_of_an_object_leaves_nothing_behind(node, tmp_path):
    ae = AE("CARM")
    context = build_context(XRayAngiographicImageStorage, ExplicitVRLittleEndian)
    association = ae.associate("127.0.0.1", node.port, [context], ae_title="FULLFIELD")
    connection = association.dul.socket.socket
    recorded: list[bytes] = []
    association.dul.socket.send = recorded.append
    threading.Thread(target=association.send_c_store, args=(xa(frames=20, rows=128, columns=128),), daemon=True).start()
    wait_until(lambda: len(recorded) > 3)
    connection.sendall(b"".join(recorded[:3]) + recorded[3][:100])
    wait_until(lambda: list(node.store.incoming.iterdir()))
    wait_until(lambda: len(node.intake.receiving.under_way) == 1)
    connection.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: node.rows("association_lost"))
    assert "1 objects underway" in node.rows("association_lost")[0].details["reason"]
    wait_until(lambda: not list(node.store.incoming.iterdir()))
    wait_until(lambda: not node.intake.receiving.under_way)
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


@pytest.mark.parametrize(("called", "last_word"), [("FULLFIELD", 0x07), ("ANOTHER", 0x03)], ids=["abort", "reject"])
def test_a_peer_that_talks_on_hears_that_it_is_over(node, called, last_word):
    request, *parts = conversation(Random(0)).pdus
    with socket.create_connection(("127.0.0.1", node.port), 30) as connection:
        connection.sendall(request.replace(b"FULLFIELD".ljust(16), called.encode().ljust(16)))
        heard = connection.recv(1)[0]
        if heard == 0x02:
            # The presentation data value says that it is longer than the unit that it lies in.
            connection.sendall(struct.pack(">BxIIBB", 0x04, 6, 1 << 16, 1, 3))
        # A connection that is reset meanwhile would have the systems of some peers forget what came.
        for _ in range(10):
            time.sleep(0.03)
            connection.sendall(parts[-1])
        units = bytes([heard]) + connection.recv(1 << 16)
    assert last_word in kinds(units)


def kinds(units: bytes) -> list[int]:
    """Of protocol data units, one after the other (PS3.8 9.3.1)."""
    found = []
    while units:
        found.append(units[0])
        units = units[6 + struct.unpack(">I", units[2:6])[0] :]
    return found
