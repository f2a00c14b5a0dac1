"""Health and metrics of a node, read as Prometheus reads them."""

import os
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import requests
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from pydicom import dcmread

from config.settings import load_settings
from dicom_node.audit import Action, record
from dicom_node.monitoring.reception import Reception
from dicom_node.monitoring.state import State
from dicom_node.monitoring.steps import Steps
from storage import audit_trail
from storage.commitments import CommitmentRequest, add_commitment, claim_commitment, settle_commitment
from storage.database import Database, current_time
from storage.files import ObjectStore
from storage.objects import objects_of_job
from storage.queue import finish
from storage.scrub import ORPHAN_SECONDS
from storage.sought_commitments import add_sought, settle_sought
from storage.states import CommitmentState, SoughtState
from storage.transitions import JobState
from tests.factory import write, xa
from tests.harness.server import DatabaseServer
from tests.hospital import RESULTS, hospital
from tests.jobs import queued, result, take
from tests.listening import cine, listening
from tests.metrics import Samples, metrics_in
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu, wait_until

HOUR = 3600


def collected(collector: Collector) -> Samples:
    registry = CollectorRegistry()
    registry.register(collector)
    return metrics_in(generate_latest(registry).decode())


def asked_by(calling_ae: str, number: int) -> CommitmentRequest:
    return CommitmentRequest(
        transaction_uid=f"2.25.{number}",
        items=[("1.2", "1.3")],
        calling_ae=calling_ae,
        called_ae="FULLFIELD",
        peer_address="10.0.0.7",
        association_id="a",
    )


def state(database: Database, folder: Path) -> Samples:
    store = ObjectStore(folder / "store")
    running = {"associations": lambda: 2, "workers": lambda: 3, "orphans": lambda: None}
    return collected(State(database, store, full_below_bytes=5, low_below_bytes=7, **running))


def test_what_waits_is_told_by_route_and_destination_with_the_age_of_the_oldest(database, tmp_path):
    with database.transaction() as tx:
        for number in range(1, 4):
            queued(tx, number, route="thorax").created_at -= timedelta(hours=number)
        running, lease = take(tx)
        finish(tx, lease, JobState.RECONSTRUCTED)
        result(tx, running, "pacs").created_at -= timedelta(minutes=30)
        take(tx)
    told = state(database, tmp_path)
    assert told["fullfield_jobs"] == {
        ("thorax", "queued"): 1,
        ("thorax", "running"): 1,
        ("thorax", "reconstructed"): 1,
    }
    ages = told["fullfield_jobs_oldest_seconds"]
    assert sorted(age // 3600 for age in ages.values()) == [1, 2, 3]
    assert told["fullfield_deliveries"] == {("pacs",): 1}
    assert told["fullfield_deliveries_oldest_seconds"][("pacs",)] >= 1800
    assert told["fullfield_associations"] == {(): 2}
    assert told["fullfield_workers"] == {(): 3}
    assert told["fullfield_disk_full_below_bytes"] == {(): 5}
    assert told["fullfield_disk_low_below_bytes"] == {(): 7}
    assert "fullfield_orphans" not in told, "nobody has looked for them yet"
    assert told["fullfield_disk_free_bytes"][()] > 0
    assert told["fullfield_database_up"] == {(): 1}


def test_commitments_and_the_scrubber_are_told(database, tmp_path):
    told = state(database, tmp_path)
    assert told["fullfield_commitment_reports_owed"] == {(): 0}
    assert told["fullfield_scrub_age_seconds"] == {(): 0}
    assert "fullfield_commitments_sought" not in told
    with database.transaction() as tx:
        job = queued(tx)
        seek, two_hours = partial(add_sought, tx, job_id=job.id), timedelta(hours=2)
        seek(destination="pacs", transaction_uid="2.25.1", items=[["1.2", "1.3"]], since=current_time(tx) - two_hours)
        seek(destination="pacs", transaction_uid="2.25.2", items=[["1.2", "1.4"]])
        answered = seek(destination="archive", transaction_uid="2.25.3", items=[["1.2", "1.3"]])
        settle_sought(tx, answered, SoughtState.COMMITTED)
        for number, asker in enumerate(("CARM1", "CARM1", "CARM2")):
            add_commitment(tx, asked_by(asker, number), owner="one", lease_seconds=60, wait_seconds=0)
        taken = claim_commitment(tx, "CARM2", owner="one", lease_seconds=60)
        assert settle_commitment(tx, taken.id, attempt=taken.attempts, state=CommitmentState.REPORTED)
        (object,) = objects_of_job(tx, job.id)
        object.verified_at -= timedelta(days=3)
        queued(tx, 2)
    told = state(database, tmp_path)
    assert told["fullfield_commitments_sought"] == {("pacs",): 2}
    (age,) = told["fullfield_commitments_sought_oldest_seconds"].values()
    assert 2 * HOUR <= age < 3 * HOUR
    assert told["fullfield_commitment_reports_owed"] == {(): 2}
    assert 72 * HOUR <= told["fullfield_scrub_age_seconds"][()] < 73 * HOUR


def test_while_the_database_is_away_the_rest_is_told(tmp_path):
    told = state(Database("postgresql://fullfield@127.0.0.1:1/none"), tmp_path)
    assert told["fullfield_database_up"] == {(): 0}
    assert told["fullfield_disk_free_bytes"][()] > 0
    assert "fullfield_jobs" not in told


@pytest.fixture
def tell(database, monkeypatch):
    """Tells of a step at so many seconds after noon."""
    noon = datetime(2024, 5, 6, 12, tzinfo=UTC)

    def tell(action: Action, at: float, job: int | None = None, **details: object) -> None:
        monkeypatch.setattr(audit_trail, "current_time", lambda _: noon + timedelta(seconds=at))
        with database.transaction() as tx:
            record(tx, action, actor="test", job_id=job, details=details)

    return tell


def test_the_time_of_each_stage_comes_from_the_audit_trail(database, tell):
    with database.transaction() as tx:
        job = queued(tx, route="thorax", frames=16).id
    steps = Steps(database)
    steps.begin()
    tell(Action.JOB_QUEUED, 0, job)
    tell(Action.JOB_STARTED, 10, job)
    tell(Action.JOB_PUT_BACK, 12, job)
    tell(Action.JOB_STARTED, 20, job)
    tell(Action.RECONSTRUCTED, 84, job)
    tell(Action.RECONSTRUCTED, 84, job)
    tell(Action.DELIVERED, 90, job, destination="pacs")
    told = collected(steps)
    assert told["fullfield_stage_seconds_sum"] == {("thorax", "queued"): 18, ("thorax", "working"): 64}
    assert told["fullfield_stage_seconds_count"] == {("thorax", "queued"): 2, ("thorax", "working"): 1}
    assert told["fullfield_model_seconds_per_frame_sum"] == {("thorax",): 64 / 16}
    assert told["fullfield_delivery_seconds_sum"] == {("pacs",): 6}
    tell(Action.JOB_DELIVERED, 94, job)
    tell(Action.JOB_COMMITTED, 194, job)
    # One that begins later reads what it has not seen.
    later = Steps(database)
    later._seen = steps._seen
    assert collected(later)["fullfield_stage_seconds_sum"]["thorax", "delivering"] == 10
    told = collected(steps)
    assert told["fullfield_stage_seconds_sum"]["thorax", "delivering"] == 10
    assert told["fullfield_stage_seconds_sum"]["thorax", "committing"] == 100
    assert told["fullfield_steps_total"]["reconstructed", "success"] == 2


def test_each_step_is_counted_once_and_history_is_not(database, tell):
    tell(Action.OBJECT_RECEIVED, 0, bytes=1_000)
    steps = Steps(database)
    steps.begin()
    assert "fullfield_steps_total" not in collected(steps)
    with database.transaction() as tx:
        for _ in range(700):
            record(tx, Action.OBJECT_RECEIVED, actor="test", details={"bytes": 3})
    for _ in range(2):
        told = collected(steps)
        assert told["fullfield_steps_total"] == {("object_received", "success"): 700}
        assert told["fullfield_received_bytes_total"] == {(): 2100}


def test_a_storage_slower_than_its_senders_shows(tmp_path):
    seen = []

    def kept_slowly(*_: object) -> None:
        seen.append(collected(reception)["fullfield_objects_under_reception"])
        time.sleep(0.6)

    with listening(tmp_path / "node") as node:
        reception = Reception(lambda: len(node.intake.receiving.under_way))
        node.intake.on_answer, node.intake._on_kept = reception.answered, kept_slowly
        assert storescu(node.port, *(cine(tmp_path, f"{number}.dcm", seed=number) for number in (1, 2))).accepted
        told = collected(reception)
    assert seen == [{(): 1}, {(): 1}]
    assert told["fullfield_objects_under_reception"] == {(): 0}
    assert told["fullfield_answer_seconds_count"] == {(): 2}
    assert told["fullfield_answer_seconds_sum"][()] >= 1.2
    assert told["fullfield_answer_seconds_bucket"][("0.5",)] == 0


def test_the_pages_of_a_node_are_for_those_who_may_read_them(tmp_path):
    port = free_port()
    token = "a-token-of-a-monitor"
    web = {"port": port, "allow": [{"ae_title": "MONITOR", "token": token}]}
    node = NodeProcess(tmp_path / "node", {"pacs": free_port()}, web=web, worker={"processes": 0})
    url = f"http://127.0.0.1:{port}"
    with node.running():
        live, ready = requests.get(f"{url}/live", timeout=30), requests.get(f"{url}/ready", timeout=30)
        assert (live.status_code, live.text) == (200, "node: ok\n")
        assert (ready.status_code, ready.text) == (200, "node: ok\ndatabase: ok\ndisk: ok\n")
        assert requests.get(f"{url}/metrics", timeout=30).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        cine = xa(frames=2, patient_name="Secretname^Person", PatientID="SECRETID")
        assert storescu(node.port, write(cine, tmp_path / "cine.dcm"), calling="CARM").accepted
        wait_until(node.jobs)
        said = requests.get(f"{url}/metrics", headers=headers, timeout=30).text
    told = metrics_in(said)
    assert told["fullfield_steps_total"]["object_received", "success"] == 1
    assert told["fullfield_jobs"] == {("all", "queued"): 1}
    assert told["fullfield_objects_under_reception"] == {(): 0}
    assert told["fullfield_answer_seconds_count"] == {(): 1}
    assert told["process_open_fds"][()] > 0
    assert not any(secret in said for secret in ("Secretname", "SECRETID", cine.StudyInstanceUID))


def test_a_node_without_room_is_alive_and_not_ready(tmp_path):
    port = free_port()
    full = {"full_below_mb": 1 << 40}
    node = NodeProcess(tmp_path, {"pacs": free_port()}, web={"port": port}, worker={"processes": 0}, storage=full)
    with node.running():
        ready = requests.get(f"http://127.0.0.1:{port}/ready", timeout=30)
        assert (ready.status_code, ready.text) == (503, "node: ok\ndatabase: ok\ndisk: not ok\n")
        assert requests.get(f"http://127.0.0.1:{port}/live", timeout=30).status_code == 200


def test_a_node_without_its_database_is_alive_and_not_ready_until_it_is_back(tmp_path):
    port = free_port()
    with DatabaseServer.running() as server:
        node = NodeProcess(tmp_path, {"pacs": 1}, database=server.url, web={"port": port}, worker={"processes": 0})
        with node.running():

            def page(name: str) -> tuple[int, str]:
                answer = requests.get(f"http://127.0.0.1:{port}/{name}", timeout=60)
                return answer.status_code, answer.text

            assert page("ready")[0] == 200
            server.kill()
            assert page("ready") == (503, "node: ok\ndatabase: not ok\ndisk: ok\n")
            assert page("live")[0] == 200
            server.start()
            wait_until(lambda: page("ready")[0] == 200, what="the node to be ready again")


def test_a_file_that_no_object_has_shows_and_so_do_the_limits_of_the_disk(tmp_path):
    port = free_port()
    limits = {"full_below_mb": 2, "low_below_mb": 3}
    node = NodeProcess(tmp_path, {"pacs": 1}, web={"port": port}, worker={"processes": 0}, storage=limits)
    database, store = node.database(), ObjectStore(load_settings(node.settings).storage.root)
    database.migrate()
    database.close()
    then = time.time() - ORPHAN_SECONDS - 60
    os.utime(store.path(store.write(b"nobody's").digest), (then, then))
    store.write(b"about to get its row")
    with node.running():

        def told() -> Samples:
            return metrics_in(requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text)

        assert wait_until(lambda: told().get("fullfield_orphans"), what="a look for them") == {(): 1}
        assert told()["fullfield_disk_full_below_bytes"] == {(): 2 << 20}
        assert told()["fullfield_disk_low_below_bytes"] == {(): 3 << 20}


@pytest.mark.long
def test_a_whole_job_shows_in_the_metrics_and_no_patient_does(tmp_path):
    port = free_port()
    with hospital(tmp_path, web={"port": port}) as here:
        cine = here.cine(frames=2, patient_name="Secretname^Person", PatientID="SECRETID")
        assert here.push(cine).accepted
        here.node.wait_until_settled(1)
        said = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    told = metrics_in(said)
    for stage in ("queued", "working", "delivering"):
        assert told["fullfield_stage_seconds_count"]["all", stage] == 1
    work = told["fullfield_stage_seconds_sum"]["all", "working"]
    assert told["fullfield_model_seconds_per_frame_sum"]["all",] == pytest.approx(work / 2)
    assert told["fullfield_delivery_seconds_count"]["pacs",] == RESULTS
    for secret in ("Secretname", "SECRETID", str(dcmread(cine).StudyInstanceUID)):
        assert secret not in said
