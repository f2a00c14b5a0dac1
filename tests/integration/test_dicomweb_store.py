"""STOW-RS: what a client stores by HTTP is kept as what a modality sends, and refused as that is (PS3.18 10.5)."""

import socket
import sqlite3
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.tag import Tag
from pydicom.uid import MRImageStorage, XRayAngiographicImageStorage
from requests.auth import HTTPBasicAuth

from config.settings import AllowedWebClient
from dicom_node.network.dicomweb import store_requests
from tests.factory import xa
from tests.peers import storescu, wait_until
from tests.web import RELATED, Web, multipart, part_10, serving

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("web")) as served:
        yield served


def answered(response: requests.Response) -> Dataset:
    assert response.headers["Content-Type"] == "application/dicom+json"
    return Dataset.from_json(response.json())


def failures(response: requests.Response) -> list[tuple[str, int]]:
    items = answered(response).get("FailedSOPSequence", [])
    return [(item.ReferencedSOPInstanceUID, item.FailureReason) for item in items]


def test_dicomweb_client_stores_objects_and_is_told_where_they_are(web):
    made = [xa(study_instance_uid="1.2.3.1", series_instance_uid="1.2.3.1.1") for _ in range(2)]
    datasets = [dcmread(BytesIO(part_10(dataset))) for dataset in made]
    answer = web.client().store_instances(datasets)
    # The client leaves the port out of its Host header.
    assert answer.RetrieveURL == f"{web.url}/studies/1.2.3.1"
    told = [(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence]
    assert told == [(XRayAngiographicImageStorage, dataset.SOPInstanceUID) for dataset in datasets]
    assert "FailedSOPSequence" not in answer
    kept = [row for row in web.node.objects() if row.study_instance_uid == "1.2.3.1"]
    assert [(row.calling_ae, row.called_ae, row.peer_address) for row in kept] == [
        ("DICOMWEB", "FULLFIELD", "127.0.0.1")
    ] * 2
    assert dcmread(web.node.store.path(kept[0].digest)) == datasets[0]
    rows = [row for row in web.node.rows("object_received") if row.study_instance_uid == "1.2.3.1"]
    assert [(row.actor, row.peer_ae) for row in rows] == [("dicomweb", "DICOMWEB")] * 2
    # One request is as one association: its end completes the series.
    assert rows[0].details["association"] == rows[1].details["association"]
    assert (["1.2.3.1.1"], "DICOMWEB") in web.node.released


def test_the_same_object_by_dimse_and_by_http_is_kept_once(web, tmp_path):
    dataset = xa()
    path = tmp_path / "one.dcm"
    dcmwrite(path, dataset, enforce_file_format=True)
    assert storescu(web.node.port, path).accepted
    assert web.post([path.read_bytes()]).status_code == 200
    assert len([row for row in web.node.objects() if row.sop_instance_uid == dataset.SOPInstanceUID]) == 1
    assert [row.sop_instance_uid for row in web.node.rows("object_repeated")] == [dataset.SOPInstanceUID]


def test_an_object_may_come_alone(web):
    dataset = xa()
    response = requests.post(
        f"{web.url}/studies", part_10(dataset), headers={"Content-Type": "application/dicom"}, timeout=30
    )
    assert response.status_code == 200
    assert dataset.SOPInstanceUID in web.node.kept


def test_when_some_objects_are_refused_the_answer_is_202_and_says_which(web):
    good, strange, other = xa(), xa(sop_class=MRImageStorage), xa(study_instance_uid="1.2.9")
    response = web.post([part_10(good), part_10(strange), b"no DICOM", part_10(other)], good.StudyInstanceUID)
    assert response.status_code == 202
    assert failures(response) == [(strange.SOPInstanceUID, 0x0122), (other.SOPInstanceUID, 0xA900)]
    answer = answered(response)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [good.SOPInstanceUID]
    assert [item.FailureReason for item in answer.OtherFailuresSequence] == [0xC000]
    refused = [row.details["status"] for row in web.node.rows("object_refused")[-3:]]
    assert refused == ["0x0122", "0xC000", "0xA900"]
    assert list(web.node.store.incoming.iterdir()) == []


def test_when_all_objects_are_refused_the_answer_is_409(web):
    dataset = xa()
    response = web.post([part_10(dataset)], "1.2.9")
    assert response.status_code == 409
    assert failures(response) == [(dataset.SOPInstanceUID, 0xA900)]


def test_a_data_set_with_other_uids_than_its_file_header_is_refused(web):
    dataset = xa()
    content = bytearray(part_10(dataset))
    content[content.rindex(dataset.SOPInstanceUID.encode())] ^= 1
    assert failures(web.post([bytes(content)])) == [(dataset.SOPInstanceUID, 0xA900)]


@pytest.mark.filterwarnings("ignore:The value length")
def test_an_object_whose_uid_is_too_long_cannot_be_understood_and_is_not_named_by_a_part_of_it(web):
    named = "1.2." + "3" * 60
    longer, dataset = xa(sop_instance_uid=named + "3"), xa(sop_instance_uid=named)
    response = web.post([part_10(longer), part_10(dataset)])
    assert response.status_code == 202
    answer = answered(response)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [named]
    (failure,) = answer.OtherFailuresSequence
    assert list(failure.keys()) == [Tag("FailureReason")]
    assert failure.FailureReason == 0xC000
    assert "FailedSOPSequence" not in answer
    (refused,) = web.node.rows("object_refused")[-1:]
    assert refused.details["reason"] == "The part's SOP Instance UID has 65 characters; 64 are the most (PS3.5 9.1)."
    assert web.node.kept[-1] == named


def test_an_object_in_a_transfer_syntax_that_is_not_received_is_refused(web):
    dataset = xa()
    content = part_10(dataset).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0")
    assert failures(web.post([content])) == [(dataset.SOPInstanceUID, 0xC122)]


def test_the_answer_is_xml_for_whoever_wants_that(web):
    dataset = xa()
    response = web.post([part_10(dataset)], Accept="application/dicom+xml")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/dicom+xml")
    root = ElementTree.fromstring(response.content)
    (sequence,) = [node for node in root if node.get("keyword") == "ReferencedSOPSequence"]
    values = {node.get("keyword"): node.findtext("Value") for node in sequence.find("Item")}
    assert values["ReferencedSOPInstanceUID"] == dataset.SOPInstanceUID


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ('multipart/related; type="application/dicom+json"; boundary=a-boundary', b"", 415),
        ('multipart/related; type="application/dicom"', multipart([b"x"]), 400),
        (RELATED, b"", 400),
        (RELATED, b"no parts at all", 400),
        (RELATED, b"--a-boundary--\r\n", 400),
    ],
)
def test_a_message_that_is_none_is_refused(web, content_type, body, status):
    response = requests.post(f"{web.url}/studies", body, headers={"Content-Type": content_type}, timeout=30)
    assert response.status_code == status
    assert response.text.count("\n") == 1


def test_what_came_whole_before_a_message_broke_off_is_kept_and_said(web):
    dataset = xa()
    body = multipart([part_10(dataset), part_10(xa())])[:-2000]
    response = requests.post(f"{web.url}/studies", body, headers={"Content-Type": RELATED}, timeout=30)
    assert response.status_code == 202
    answer = answered(response)
    assert [item.ReferencedSOPInstanceUID for item in answer.ReferencedSOPSequence] == [dataset.SOPInstanceUID]
    assert [item.FailureReason for item in answer.OtherFailuresSequence] == [0xC000]
    assert web.node.rows("association_lost")
    assert list(web.node.store.incoming.iterdir()) == []
    assert web.node.intake.receiving.under_way == set()


def test_a_client_that_goes_away_leaves_what_came_whole(web):
    dataset = xa(series_instance_uid="1.2.3.7.1")
    body = multipart([part_10(dataset), part_10(xa())])
    with socket.create_connection(("127.0.0.1", web.server.port)) as connection:
        head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-3000])
        # Uvicorn passes on what has come so far when more comes, or the connection ends.
    wait_until(lambda: (["1.2.3.7.1"], "DICOMWEB") in web.node.released)
    assert dataset.SOPInstanceUID in web.node.kept
    assert list(web.node.store.incoming.iterdir()) == []


def test_without_room_nothing_is_taken(tmp_path):
    with serving(tmp_path, full_below_bytes=1 << 60) as web:
        response = web.post([part_10(xa())])
        assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
        assert web.node.objects() == []
        web.node.intake._full_below_bytes = 0
        assert web.post([part_10(xa())]).status_code == 200


def test_while_the_database_is_locked_the_answer_is_503_and_the_row_comes_later(tmp_path):
    with serving(tmp_path, lock_timeout_seconds=0.3) as web:
        dataset = xa()
        other = sqlite3.connect(tmp_path / "fullfield.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        response = web.post([part_10(dataset)])
        assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
        assert failures(response) == [(dataset.SOPInstanceUID, 0xA700)]
        assert web.node.objects() == []
        other.execute("ROLLBACK")
        other.close()
        assert web.post([part_10(dataset)]).status_code == 200
        assert "happened_at" in web.node.refusal().details


def test_a_fault_of_the_nodes_own_is_answered_503_and_keeps_nothing(web):
    web.node.fault = RuntimeError()
    dataset = xa()
    response = web.post([part_10(dataset)])
    web.node.fault = None
    assert response.status_code == 503
    assert failures(response) == [(dataset.SOPInstanceUID, 0xA700)]
    assert dataset.SOPInstanceUID not in [row.sop_instance_uid for row in web.node.objects()]


def test_an_object_that_is_larger_than_objects_may_be_is_refused_and_leaves_nothing(tmp_path):
    with serving(tmp_path, title={"max_object_mb": 1}) as web:
        large, small = xa(frames=10, rows=256, columns=256), xa()
        response = web.post([part_10(large)])
        assert response.status_code == 413
        assert failures(response) == [(large.SOPInstanceUID, 0xA700)]
        assert web.post([part_10(large), part_10(small)]).status_code == 202
        assert [row.sop_instance_uid for row in web.node.objects()] == [small.SOPInstanceUID]
        assert list(web.node.store.incoming.iterdir()) == []
        assert "larger than 1 MB" in web.node.rows("object_refused")[0].details["reason"]


def begun(web: Web, length: int, body: bytes = b"") -> bytes:
    """What a client is answered that announces a message of some length and sends no more than this of it."""
    head = f"POST /dicom-web/studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {RELATED}\r\n"
    with socket.create_connection(("127.0.0.1", web.server.port)) as connection:
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode() + body)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_a_message_that_the_disk_has_no_room_for_is_refused_before_it_comes(web):
    answer = begun(web, 1 << 60, b"--")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"The message is larger than the room that is left on the disk.\n")


def test_a_client_that_falls_silent_is_told_so_and_leaves_what_came_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(store_requests, "_IDLE_SECONDS", 0.2)
    whole, half = xa(), xa()
    body = multipart([part_10(whole), part_10(half)])
    with serving(tmp_path) as web:
        assert begun(web, len(body), body[:100]).startswith(b"HTTP/1.1 408 ")
        assert web.node.objects() == []
        assert begun(web, len(body), body[:-3000]).startswith(b"HTTP/1.1 202 ")
        assert [row.sop_instance_uid for row in web.node.objects()] == [whole.SOPInstanceUID]
        assert list(web.node.store.incoming.iterdir()) == []
        assert len(web.node.rows("association_lost")) == 2


def test_only_clients_with_a_token_may_ask_where_tokens_are_set(tmp_path):
    allow = (
        AllowedWebClient(ae_title="VIEWER", token=TOKEN),
        AllowedWebClient(ae_title="AFAR", token=TOKEN + "2", addresses=("10.1.2.0/24",)),
    )
    with serving(tmp_path, {"allow": allow}) as web:
        refused = web.post([part_10(xa())])
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert web.post([part_10(xa())], Authorization="Bearer " + "x" * 20).status_code == 401
        assert web.post([part_10(xa())], Authorization=f"Bearer {TOKEN}2").status_code == 403
        assert web.post([part_10(xa())], Authorization=f"Bearer {TOKEN}").status_code == 200
        basic = {"auth": HTTPBasicAuth("VIEWER", TOKEN), "headers": {"Content-Type": "application/dicom"}}
        assert requests.post(f"{web.url}/studies", part_10(xa()), timeout=30, **basic).status_code == 200
        assert [row.calling_ae for row in web.node.objects()] == ["VIEWER", "VIEWER"]
        assert [row.details["status"] for row in web.node.rows("request_refused")] == [401, 401, 403]


def test_a_page_that_reaches_this_machine_by_another_name_is_refused(web):
    # DNS rebinding: the browser takes the node for the page's own server.
    assert web.post([part_10(xa())], Host="page.example.org").status_code == 403
    assert web.post([part_10(xa())], Host="localhost").status_code == 200


def test_browsers_may_call_from_the_pages_that_are_set_only(tmp_path):
    with serving(tmp_path, {"origins": ("https://viewer.example.org",)}) as web:
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        allowed = requests.options(
            f"{web.url}/studies", headers={"Origin": "https://viewer.example.org", **asked}, timeout=30
        )
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://viewer.example.org"
        other = requests.options(f"{web.url}/studies", headers={"Origin": "https://other.org", **asked}, timeout=30)
        assert other.status_code == 400


def test_the_log_of_a_request_holds_no_patient_data(tmp_path: Path):
    from tests.captured_log import captured_log

    with captured_log() as log, serving(tmp_path) as web:
        dataset = xa()
        web.post([part_10(dataset), b"x"], dataset.StudyInstanceUID)
        web.get(f"/studies/{dataset.StudyInstanceUID}/nothing?PatientName=Invented")
    assert "object kept" in log.getvalue()
    assert "Invented" not in log.getvalue() and dataset.StudyInstanceUID not in log.getvalue()
