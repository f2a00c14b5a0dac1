"""Storage commitment that the node asks for: a job is committed when its destinations have said so, or ends clearly."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from config.listener import ListenerSettings
from config.routes import Destination, RouteTable
from dicom_node.audit import Action
from dicom_node.network.commitment_reports import CommitmentReports
from dicom_node.network.intake import Intake
from dicom_node.network.listener import Listener
from dicom_node.network.tls import Credentials
from dicom_node.workflow import commitment_seeker, delivery
from dicom_node.workflow.commitment_seeker import CommitmentSeeker
from dicom_node.workflow.delivery import Courier
from storage.database import Database
from storage.files import ObjectStore
from storage.queue import cancel, retry
from storage.sought_commitments import sought_of
from storage.states import DeliveryState, SoughtState
from storage.transitions import JobState
from tests.certificates import Authority
from tests.listening import QUICK, listening
from tests.peers import free_port, orthanc, wait_until
from tests.stored_jobs import deliveries, job_of, reconstructed, steps, story, wait_for


class Archive:
    """A PACS that does storage commitment: takes objects, and reports on requests as it is told to.

    reasons: for each request the Failure Reason of its first object, 0 for none; the last again and again.
    report: ``same`` over the association that asked, ``new`` over one to the node, ``never``.
    takes: after so many objects it refuses what comes.
    """

    def __init__(
        self,
        *,
        reasons: tuple[int, ...] = (0,),
        report: str = "same",
        action_status: int = 0x0000,
        takes: int = 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.port = free_port()
        self.node_port = 0
        self.stored: list[str] = []
        self.asked: list[Dataset] = []
        self.answers: list[int | None] = []
        self.reasons = list(reasons)
        self.report = report
        self.action_status = action_status
        self.takes = takes
        #: Until it is set, no request for commitment is answered.
        self.silent_until = threading.Event()
        self.silent_until.set()
        self._tls = tls

    @contextmanager
    def running(self, *, commitment: bool = True) -> Iterator["Archive"]:
        ae = AE("PACS")
        ae.supported_contexts = list(AllStoragePresentationContexts)
        if commitment:
            ae.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._requested)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self._tls)
        try:
            yield self
        finally:
            server.shutdown()

    def _store(self, event: evt.Event) -> int:
        if len(self.stored) >= self.takes:
            return 0xC000
        self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def _requested(self, event: evt.Event) -> tuple[int, None]:
        asked = event.action_information
        self.asked.append(asked)
        self.silent_until.wait(60)
        if self.action_status == 0 and self.report != "never":
            threading.Thread(target=self._tell, args=(event.assoc, asked), daemon=True).start()
        return self.action_status, None

    def _tell(self, association, asked: Dataset) -> None:
        time.sleep(0.1)
        reason = self.reasons.pop(0) if len(self.reasons) > 1 else self.reasons[0]
        said = report_on(asked, reason)
        if self.report == "new":
            self.answers.append(self.call_and_tell(said))
        else:
            self.answers.append(_send(association, said))

    def call_and_tell(self, said: Dataset, *, role: bool = True) -> int | None:
        """Report over an association to the node."""
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
        association = AE("PACS").associate(
            "127.0.0.1",
            self.node_port,
            [build_context(StorageCommitmentPushModel)],
            ae_title="FULLFIELD",
            ext_neg=roles,
        )
        assert association.is_established
        status = _send(association, said)
        association.release()
        return status


def report_on(asked: Dataset, reason: int = 0) -> Dataset:
    """All is committed, but for the first object if there is a reason."""
    said = Dataset()
    said.TransactionUID = asked.TransactionUID
    committed, failed = list(asked.ReferencedSOPSequence), []
    if reason:
        failed = [committed.pop(0)]
        failed[0].FailureReason = reason
    if committed:
        said.ReferencedSOPSequence = committed
    if failed:
        said.FailedSOPSequence = failed
    return said


def _send(association, said: Dataset) -> int | None:
    kind = 2 if "FailedSOPSequence" in said else 1
    answer, _ = association.send_n_event_report(
        said, kind, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    return answer.get("Status")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'fullfield.db'}")
    database.migrate()
    yield database
    database.close()


@contextmanager
def working(
    database: Database,
    store: ObjectStore,
    *ports: int,
    title: str = "PACS",
    node_port: int = 0,
    seeking: bool = True,
    credentials: Credentials | None = None,
    **hours: float,
) -> Iterator[int]:
    """A node that delivers to PACS at these ports and asks them for commitment; its own port."""
    names = ["pacs", "second"]
    table = RouteTable(
        destinations=tuple(
            Destination(
                name=name, ae_title=title, host="127.0.0.1", port=port, commitment=True, tls=credentials is not None
            )
            for name, port in zip(names, ports, strict=False)
        )
    )
    patience = QUICK.model_copy(update=hours)
    known = {"table": lambda: table, "calling_ae": "FULLFIELD", "name": "node", "credentials": credentials}
    courier = Courier(database, store, patience, **known)
    seeker = CommitmentSeeker(database, patience, **known)
    intake = Intake(store, database, lambda *_: None, lambda *_: None, 0)
    settings = ListenerSettings(port=node_port or free_port())
    reports = CommitmentReports(database, store, settings, patience, name="node")
    listener = Listener(settings, intake, [reports.service, seeker.service])
    parts = (listener, courier, seeker) if seeking else (listener, courier)
    for part in parts:
        part.start()
    try:
        yield listener.port
    finally:
        for part in parts:
            part.stop(2)


def sought(database: Database, job: int) -> list[SoughtState]:
    with database.reading() as tx:
        return [row.state for row in sought_of(tx, job)]


def wait_for_end(database: Database, job: int) -> None:
    """Wait until the last request has its end."""
    still = (SoughtState.WAITING, SoughtState.ASKED)
    wait_until(lambda: (found := sought(database, job)) and found[-1] not in still, what="the end of the request")


# Given


@pytest.mark.parametrize("way", ["same", "new"])
def test_a_job_is_committed_when_its_pacs_has_said_so(database, store, way):
    with Archive(report=way).running() as pacs, working(database, store, pacs.port) as port:
        pacs.node_port = port
        job = reconstructed(database, store, "pacs")
        wait_for(database, job, JobState.COMMITTED)
        wait_until(lambda: pacs.answers == [0x0000], what="the answer to the report")
        (asked,) = pacs.asked
        assert [item.ReferencedSOPInstanceUID for item in asked.ReferencedSOPSequence] == pacs.stored
    assert steps(database, job)[-2:] == [Action.COMMITMENT_GIVEN, Action.JOB_COMMITTED]
    (row,) = [row for row in story(database, job) if row.action == Action.COMMITMENT_GIVEN]
    assert (row.peer_ae, row.details["objects"], row.details["destination"]) == ("PACS", 2, "pacs")


def test_a_pacs_over_tls_is_asked_over_tls(database, store, tmp_path):
    hospital = Authority(tmp_path / "tls", "Hospital")
    own, pacs_own = hospital.issue("fullfield.hospital"), hospital.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(hospital.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pacs_own.certificate, pacs_own.key)
    credentials = Credentials(hospital.settings(own))
    with Archive(tls=context).running() as pacs, working(database, store, pacs.port, credentials=credentials):
        job = reconstructed(database, store, "pacs")
        wait_for(database, job, JobState.COMMITTED)
    assert len(pacs.asked) == 1


def test_a_job_of_two_destinations_is_committed_by_both(database, store):
    first, second = Archive(), Archive(report="never")
    with first.running(), second.running(), working(database, store, first.port, second.port) as second.node_port:
        job = reconstructed(database, store, "pacs", "second")
        wait_until(lambda: SoughtState.COMMITTED in sought(database, job) and second.asked)
        assert job_of(database, job).state == JobState.DELIVERED
        # As some peers do, without a word of roles.
        assert second.call_and_tell(report_on(second.asked[0]), role=False) == 0x0000
        wait_for(database, job, JobState.COMMITTED)


def test_many_jobs_are_asked_for_over_one_association_and_another_node_commits(database, store, tmp_path):
    jobs = [reconstructed(database, store, "pacs", objects=1) for _ in range(8)]
    with listening(tmp_path / "other") as other:
        with working(database, store, other.port, title="FULLFIELD", seeking=False):
            for job in jobs:
                wait_for(database, job, JobState.DELIVERED)
        with working(database, store, other.port, title="FULLFIELD"):
            for job in jobs:
                wait_for(database, job, JobState.COMMITTED)
        asked = other.rows(Action.COMMITMENT_REQUESTED)
    assert len(asked) == 8
    assert len({row.details["association"] for row in asked}) == 1


def test_orthanc_commits_to_what_it_holds_and_gets_again_what_it_has_lost(database, store, tmp_path):
    port, node_port = free_port(), free_port()
    modalities = {"fullfield": ["FULLFIELD", "127.0.0.1", node_port]}
    with orthanc(tmp_path / "orthanc", port=port, DicomModalities=modalities) as pacs:
        job = reconstructed(database, store, "pacs")
        with working(database, store, port, title="ORTHANC", node_port=node_port, seeking=False):
            wait_for(database, job, JobState.DELIVERED)
        lost, kept = pacs.get("/instances")
        pacs.delete(f"/instances/{lost}")
        with working(database, store, port, title="ORTHANC", node_port=node_port):
            wait_for(database, job, JobState.COMMITTED)
        assert set(pacs.get("/instances")) == {lost, kept}
    assert sought(database, job) == [SoughtState.INCOMPLETE, SoughtState.COMMITTED]
    assert {row.peer_ae for row in story(database, job) if row.action.startswith("commitment_")} == {"ORTHANC"}


def test_a_job_that_was_cancelled_under_way_is_committed_by_its_retry_if_its_pacs_has_all(
    database, store, tmp_path, monkeypatch, fullfield
):
    (tmp_path / "fullfield.toml").write_text('[storage]\nroot = "."\n')

    def cancels(point: str) -> None:
        if point == "delivery.receipt":
            with database.transaction() as tx:
                cancel(tx, job, by="a person")

    monkeypatch.setattr(delivery, "faultpoint", cancels)
    job = reconstructed(database, store, "pacs", objects=1)
    with Archive().running() as pacs, working(database, store, pacs.port):
        wait_until(lambda: sought(database, job) == [SoughtState.COMMITTED], what="the report")
        assert job_of(database, job).state == JobState.FAILED
    status, out, _ = fullfield("jobs", "retry", job)
    assert (status, out.splitlines()[-1]) == (0, f"Job {job} is committed.")
    assert steps(database, job)[-2:] == [Action.JOB_RETRIED, Action.JOB_COMMITTED]


# Not given


def test_what_a_pacs_lacks_is_sent_again_and_asked_for_again(database, store):
    with Archive(reasons=(0x0112, 0)).running() as pacs, working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs")
        wait_for(database, job, JobState.COMMITTED)
        first, second = sorted(set(pacs.stored), key=pacs.stored.index)
        assert pacs.stored == [first, second, first]
        assert len({asked.TransactionUID for asked in pacs.asked}) == 2
    assert sought(database, job) == [SoughtState.INCOMPLETE, SoughtState.COMMITTED]
    (row,) = [row for row in story(database, job) if row.action == Action.COMMITMENT_INCOMPLETE]
    assert (row.outcome, row.details["not_committed"], row.details["sent_again"]) == (
        "failed",
        [f"{first} (0x0112)"],
        True,
    )


def test_a_pacs_that_loses_everything_three_times_fails_the_job_which_can_be_retried(database, store):
    with Archive(reasons=(0x0112, 0x0112, 0x0112, 0)).running() as pacs, working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs", objects=1)
        wait_for(database, job, JobState.FAILED)
        assert len(pacs.stored) == 3
        assert "acknowledged, but not committed (0x0112)" in job_of(database, job).reason
        with database.transaction() as tx:
            retry(tx, job)
        wait_for(database, job, JobState.COMMITTED)
        assert len(pacs.stored) == 4


def test_what_a_pacs_lacks_of_a_job_that_has_failed_waits_for_its_retry(database, store):
    with Archive(reasons=(0x0112, 0), takes=1).running() as pacs, working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs")
        wait_until(lambda: sought(database, job) == [SoughtState.INCOMPLETE], what="the report")
        assert job_of(database, job).state == JobState.FAILED
        assert [delivery.state for delivery in deliveries(database, job)] == [DeliveryState.REFUSED] * 2
        pacs.takes = 1000
        with database.transaction() as tx:
            retry(tx, job)
        wait_for(database, job, JobState.COMMITTED)
        assert len(pacs.stored) == 3


def test_an_object_of_a_class_that_is_never_committed_is_not_sent_again(database, store):
    with Archive(reasons=(0x0122,)).running() as pacs, working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs")
        wait_for(database, job, JobState.FAILED)
        assert len(pacs.stored) == 2
    assert [delivery.state for delivery in deliveries(database, job)] == [
        DeliveryState.REFUSED,
        DeliveryState.ACKNOWLEDGED,
    ]


def test_what_a_report_passes_over_is_not_committed(database, store):
    with Archive(report="never").running() as pacs, working(database, store, pacs.port) as port:
        pacs.node_port = port
        reconstructed(database, store, "pacs")
        wait_until(lambda: pacs.asked)
        said = report_on(pacs.asked[0])
        passed_over = said.ReferencedSOPSequence.pop(0).ReferencedSOPInstanceUID
        assert pacs.call_and_tell(said) == 0x0000
        wait_until(lambda: len(pacs.stored) == 3, what="the object to be sent again")
        assert pacs.stored[-1] == passed_over


@pytest.mark.parametrize("refusal", ["no context", "status"])
def test_a_pacs_that_does_no_commitment_leaves_the_job_delivered_and_it_says_so(database, store, refusal):
    pacs = Archive(action_status=0x0000 if refusal == "no context" else 0x0124)
    with pacs.running(commitment=refusal != "no context"), working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs")
        wait_for_end(database, job)
    assert sought(database, job) == [SoughtState.REFUSED]
    assert job_of(database, job).state == JobState.DELIVERED
    assert "pacs does not do storage commitment" in job_of(database, job).reason
    assert steps(database, job)[-1] == Action.COMMITMENT_NOT_GIVEN


def test_a_pacs_that_cannot_be_asked_now_is_asked_later(database, store):
    with Archive(action_status=0x0213).running() as pacs, working(database, store, pacs.port):
        job = reconstructed(database, store, "pacs")
        wait_until(lambda: steps(database, job).count(Action.COMMITMENT_ASKING_POSTPONED) >= 2)
        pacs.action_status = 0x0000
        wait_for(database, job, JobState.COMMITTED)
        assert len({asked.TransactionUID for asked in pacs.asked}) == 1


def test_a_pacs_that_never_answers_the_request_is_asked_again(database, store):
    pacs = Archive()
    with pacs.running(), working(database, store, pacs.port, timeout_seconds=0.5):
        pacs.silent_until.clear()
        job = reconstructed(database, store, "pacs")
        try:
            wait_until(lambda: steps(database, job).count(Action.COMMITMENT_ASKING_POSTPONED) >= 2)
        finally:
            pacs.silent_until.set()
        told = [row for row in story(database, job) if row.action == Action.COMMITMENT_ASKING_POSTPONED]
        assert told[0].details["reason"].endswith("ended the association or did not answer in time.")
        assert job_of(database, job).state == JobState.DELIVERED
        wait_for(database, job, JobState.COMMITTED)
    assert len({asked.TransactionUID for asked in pacs.asked}) == 1


def test_a_pacs_that_does_not_report_is_asked_again_and_in_the_end_no_more(database, store, monkeypatch):
    monkeypatch.setattr("dicom_node.network.commitment_scu._LINGER_SECONDS", 0.1)
    hours = {"commitment_wait_hours": 0.2 / 3600, "commitment_give_up_hours": 2 / 3600}
    with Archive(report="never").running() as pacs, working(database, store, pacs.port, **hours):
        job = reconstructed(database, store, "pacs")
        wait_until(lambda: steps(database, job)[-1:] == [Action.COMMITMENT_NOT_GIVEN], what="the end")
    assert len({asked.TransactionUID for asked in pacs.asked}) == len(pacs.asked) >= 2
    assert set(sought(database, job)) == {SoughtState.UNANSWERED}
    assert job_of(database, job).state == JobState.DELIVERED
    assert job_of(database, job).reason == "pacs has not reported on storage commitment"


def test_a_report_that_comes_after_the_next_request_counts(database, store, monkeypatch):
    monkeypatch.setattr("dicom_node.network.commitment_scu._LINGER_SECONDS", 0.1)
    pacs = Archive(report="never")
    with pacs.running(), working(database, store, pacs.port, commitment_wait_hours=2 / 3600) as pacs.node_port:
        job = reconstructed(database, store, "pacs")
        wait_until(lambda: len(pacs.asked) >= 2)
        assert pacs.call_and_tell(report_on(pacs.asked[0])) == 0x0000
        wait_for(database, job, JobState.COMMITTED)
        assert pacs.call_and_tell(report_on(pacs.asked[0], 0x0112)) == 0x0000
        assert job_of(database, job).state == JobState.COMMITTED


def test_a_report_on_what_was_never_asked_for_is_refused(database, store):
    stranger = Dataset()
    stranger.TransactionUID = generate_uid()
    stranger.ReferencedSOPSequence = []
    with working(database, store, free_port()) as port:
        pacs = Archive()
        pacs.node_port = port
        assert pacs.call_and_tell(stranger) == 0x0115
        del stranger.TransactionUID
        assert pacs.call_and_tell(stranger) == 0x0115


def test_a_node_that_died_after_it_had_decided_to_ask_asks_when_it_runs_again(database, store):
    pacs = Archive()
    job = reconstructed(database, store, "pacs")
    with pacs.running(), working(database, store, pacs.port):
        wait_for(database, job, JobState.COMMITTED)
    # As a crash before the N-ACTION leaves it: the row is there, held by the node that is dead.
    second = reconstructed(database, store, "pacs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commitment_seeker, "ask", lambda *_, **__: time.sleep(60))
        with pacs.running(), working(database, store, pacs.port):
            wait_for(database, second, JobState.DELIVERED)
            wait_until(lambda: sought(database, second))
    assert sought(database, second) == [SoughtState.WAITING]
    with pacs.running(), working(database, store, pacs.port):
        wait_for(database, second, JobState.COMMITTED)
