"""Delivery by STOW-RS to real servers: Orthanc's DICOMweb plug-in, and this node's own services."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from config.routes import Destination, RouteTable
from config.settings import AllowedWebClient, TLSSettings
from dicom_node.audit import Action
from dicom_node.checks import Level, check_destination
from dicom_node.network.tls import Credentials, credentials_of
from dicom_node.workflow.delivery import Courier
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import keep_object, objects_of_job
from storage.outbox import add_delivery
from storage.queue import claim, finish
from storage.schema import Delivery
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState
from tests.certificates import Authority
from tests.factory import xa
from tests.listening import QUICK
from tests.peers import free_port, orthanc, wait_until
from tests.stored_jobs import deliveries, job_of, queue_job, received, steps, story, wait_for
from tests.web import serving

PLUG_IN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
TOKEN = "a-token-of-some-length"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def reconstructed(database: Database, store: ObjectStore, objects: int = 1, side: int = 32) -> int:
    """A job with so many results that are due to the destination `web`; its number."""
    number = queue_job(database, store, xa(frames=1, rows=32, columns=32), destinations=("web",))
    with database.transaction() as tx:
        job, lease = claim(tx, owner="worker", lease_seconds=60)
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        for _ in range(objects):
            made = received(store, xa(frames=10, rows=side, columns=side), ObjectKind.RESULT, number)
            add_delivery(tx, job=job, object=keep_object(tx, made).object, destination="web")
    return number


@contextmanager
def delivering(
    database: Database,
    store: ObjectStore,
    url: str,
    credentials: Credentials | None = None,
    patience: float = QUICK.timeout_seconds,
    **how: str,
) -> Iterator[Destination]:
    """A courier that takes what is due to `web` to a server. patience: seconds that it waits for an answer."""
    destination = Destination(name="web", url=url, **how)
    table = RouteTable(destinations=(destination,))
    known = {"table": lambda: table, "calling_ae": "FULLFIELD", "name": "node", "credentials": credentials}
    courier = Courier(database, store, QUICK.model_copy(update={"timeout_seconds": patience}), **known)
    courier.start()
    try:
        yield destination
    finally:
        courier.stop()


def test_orthanc_gets_results_by_stow_and_the_job_is_delivered(database, store, tmp_path):
    job = reconstructed(database, store, objects=3)
    plug_in = {"Plugins": [PLUG_IN], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    with orthanc(tmp_path / "orthanc", **plug_in) as peer:
        with delivering(database, store, f"http://127.0.0.1:{peer.http_port}/dicom-web") as destination:
            wait_for(database, job, JobState.DELIVERED)
            assert check_destination(destination, "FULLFIELD", 30).level == Level.OK
        assert len(peer.get("/instances")) == 3
    told = [row for row in story(database, job) if row.action == Action.DELIVERED]
    assert [(row.peer_ae, row.peer_address) for row in told] == [(None, "127.0.0.1")] * 3


def test_a_server_that_lets_the_node_in_gets_the_very_bytes_of_a_result(database, store, tmp_path):
    job = reconstructed(database, store, objects=2)
    allow = (AllowedWebClient(ae_title="NODE", token=TOKEN),)
    with serving(tmp_path / "server", {"allow": allow}) as web:
        with delivering(database, store, web.url, token="another"):
            wait_until(lambda: Action.DELIVERY_POSTPONED in steps(database, job), what="a delivery that is not let in")
            assert "HTTP status 401" in (deliveries(database, job)[0].reason or "")
        with delivering(database, store, web.url, token=TOKEN):
            wait_for(database, job, JobState.DELIVERED)
        with delivering(database, store, web.url, user="NODE", token=TOKEN) as destination:
            assert check_destination(destination, "FULLFIELD", 30).level == Level.OK
        there = {row.sop_instance_uid: row for row in web.node.objects()}
    with database.reading() as tx:
        results = objects_of_job(tx, job, "result")
    assert sorted(there) == sorted(result.sop_instance_uid for result in results)
    for result in results:
        row = there[result.sop_instance_uid]
        assert row.calling_ae == "NODE"
        # Of the file each node writes the beginning itself.
        kept, sent = (path.read_bytes() for path in (web.node.store.path(row.digest), store.path(result.digest)))
        assert behind_header(kept) == behind_header(sent)


def behind_header(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def test_what_a_server_will_not_take_fails_the_job_with_its_reason(database, store, tmp_path):
    job = reconstructed(database, store, side=256)
    with serving(tmp_path / "server", title={"max_object_mb": 1}) as web, delivering(database, store, web.url):
        wait_for(database, job, JobState.FAILED)
    assert "failure reason 0xA700" in (job_of(database, job).reason or "")


def test_a_server_that_is_full_or_away_gets_the_result_later(database, store, tmp_path):
    job = reconstructed(database, store)
    with serving(tmp_path / "server", full_below_bytes=1 << 60) as web:
        with delivering(database, store, web.url):
            wait_until(lambda: deliveries(database, job)[0].attempts >= 2, what="two tries")
            assert "HTTP status 503" in (deliveries(database, job)[0].reason or "")
        nobody = f"http://127.0.0.1:{free_port()}/dicom-web"
        with delivering(database, store, nobody) as destination:
            wait_until(lambda: "cannot be reached" in (deliveries(database, job)[0].reason or ""), what="a try in vain")
            assert check_destination(destination, "FULLFIELD", 1).level == Level.FAIL
        web.node.intake._full_below_bytes = 0
        with delivering(database, store, web.url):
            wait_for(database, job, JobState.DELIVERED)


@contextmanager
def answering(
    answer: Callable[[], tuple[int, dict[str, object]]], context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A server that gives answers which are hard to have of a real one: status and data set. context: for TLS."""

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, said = answer()
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_over_https_the_hospitals_own_authority_is_trusted_and_no_other(database, store, tmp_path):
    hospital, other = Authority(tmp_path / "hospital", "Hospital"), Authority(tmp_path / "other", "Other")
    here, there = hospital.issue("node"), hospital.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(there.certificate, there.key)
    context.load_verify_locations(hospital.file)
    context.verify_mode = ssl.CERT_REQUIRED
    job = reconstructed(database, store)
    with answering(lambda: (200, {}), context) as url:
        for authority, state in ((other, JobState.DELIVERING), (hospital, JobState.DELIVERED)):
            tls = TLSSettings(certificate=here.certificate, key=here.key, authorities=authority.file)
            with delivering(database, store, url, credentials=credentials_of(tls)):
                if state == JobState.DELIVERING:
                    wait_until(lambda: deliveries(database, job)[0].attempts >= 2, what="two tries")
                    assert "over TLS" in (deliveries(database, job)[0].reason or "")
                else:
                    wait_for(database, job, state)


def failed(reason: int) -> dict[str, object]:
    return {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("warning", [0xB000, 0xB006, 0xB007])
def test_what_is_stored_with_a_warning_is_delivered_and_the_warning_is_told(database, store, status, warning):
    job = reconstructed(database, store)
    with database.reading() as tx:
        (result,) = objects_of_job(tx, job, "result")
    item = {"00081155": {"vr": "UI", "Value": [result.sop_instance_uid]}}
    item |= {"00081196": {"vr": "US", "Value": [warning]}}
    said = {"00081199": {"vr": "SQ", "Value": [item]}}
    with answering(lambda: (status, said)) as url, delivering(database, store, url):
        wait_for(database, job, JobState.DELIVERED)
    (row,) = [row for row in story(database, job) if row.action == Action.DELIVERED]
    assert row.details["status"] == f"0x{warning:04X}"


def test_a_server_that_takes_a_result_and_never_answers_gets_it_again(database, store):
    job, answers = reconstructed(database, store), threading.Event()

    def in_the_end() -> tuple[int, dict[str, object]]:
        answers.wait(60)
        return 200, {}

    with answering(in_the_end) as url, delivering(database, store, url, patience=0.5):
        try:
            wait_until(lambda: deliveries(database, job)[0].attempts >= 2, what="two tries")
            assert (deliveries(database, job)[0].reason or "").endswith("does not answer in time.")
            assert job_of(database, job).state == JobState.DELIVERING
        finally:
            answers.set()
        wait_for(database, job, JobState.DELIVERED)


@pytest.mark.parametrize(
    ("status", "said", "state"),
    [
        (200, {}, DeliveryState.ACKNOWLEDGED),
        (409, failed(0x0111), DeliveryState.ACKNOWLEDGED),
        (409, failed(0xA900), DeliveryState.REFUSED),
        (202, failed(0xC000), DeliveryState.REFUSED),
        (415, {}, DeliveryState.REFUSED),
        (409, failed(0xA700), DeliveryState.WAITING),
        (307, {}, DeliveryState.WAITING),
        (404, {}, DeliveryState.WAITING),
        (500, {}, DeliveryState.WAITING),
    ],
)
def test_an_answer_comes_to_what_it_says_of_the_object(database, store, status, said, state):
    job = reconstructed(database, store)

    def settled() -> Delivery | None:
        (delivery,) = deliveries(database, job)
        tried = delivery.attempts >= 2 if state == DeliveryState.WAITING else delivery.state != DeliveryState.WAITING
        return delivery if tried else None

    with answering(lambda: (status, said)) as url, delivering(database, store, url):
        assert wait_until(settled, what="an answer").state == state
