"""Several associations to one destination: more at a time, and each study in its order all the same."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom import AE, AllStoragePresentationContexts, evt

from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.workflow import delivery
from dicom_node.workflow.delivery import Courier
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import keep_object
from storage.outbox import add_delivery
from storage.queue import claim, finish
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.factory import xa
from tests.peers import free_port, storescp
from tests.stored_jobs import queue_job, received, wait_for

ASSOCIATIONS = 3
QUICK = DeliverySettings(first_wait_seconds=0.05, longest_wait_seconds=0.2, timeout_seconds=30, poll_seconds=0.02)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def small_parcels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An association carries two objects, so that little is much."""
    monkeypatch.setattr(delivery, "_MOST_OBJECTS", 2)


def test_an_archive_gets_each_object_once_over_several_associations(database, store, tmp_path):
    jobs = [results(database, store, f"1.2.{number}", 3)[0] for number in range(6)]
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs.port):
        for job in jobs:
            wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 18


def test_as_many_associations_are_open_at_a_time_as_the_destination_takes(database, store):
    jobs = [results(database, store, f"1.2.{number}", 4)[0] for number in range(6)]
    archive = Archive(seconds=0.2)
    with archive.listening() as port, delivering(database, store, port):
        for job in jobs:
            wait_for(database, job, JobState.DELIVERED)
    assert archive.most_at_once == ASSOCIATIONS


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    studies=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=3, max_size=8),
    away=st.sets(st.integers(0, 20), max_size=4),
)
def test_each_study_keeps_its_order_whatever_the_archive_cannot_take_at_first(database, store, studies, away):
    made: dict[str, list[str]] = defaultdict(list)
    jobs = []
    for letter, count in studies:
        study = f"1.2.{ord(letter)}"
        job, uids = results(database, store, study, count)
        made[study] += uids
        jobs.append(job)
    archive = Archive(seconds=0.01, away=away)
    with archive.listening() as port, delivering(database, store, port):
        for job in jobs:
            wait_for(database, job, JobState.DELIVERED)
    assert archive.kept == made
    assert not archive.mixed


class Archive:
    """A peer that takes its time for each object, and answers those that come as the so many-th that it is full."""

    def __init__(self, *, seconds: float, away: set[int] = frozenset()) -> None:
        self._seconds = seconds
        self._away = away
        self._lock = threading.Lock()
        self._come = 0
        self._at_work: list[str] = []
        self.most_at_once = 0
        #: Whether two objects of a study have come at a time.
        self.mixed = False
        #: SOP Instance UIDs of what it has taken, by study, in the order in which they came.
        self.kept: dict[str, list[str]] = defaultdict(list)

    def _take(self, event: evt.Event) -> int:
        study = event.dataset.StudyInstanceUID
        with self._lock:
            number, self._come = self._come, self._come + 1
            self.mixed = self.mixed or study in self._at_work
            self._at_work.append(study)
            self.most_at_once = max(self.most_at_once, len(self._at_work))
        time.sleep(self._seconds)
        with self._lock:
            self._at_work.remove(study)
            if number in self._away:
                return 0xA700
            self.kept[study].append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Its port."""
        ae = AE("PEER")
        ae.supported_contexts = AllStoragePresentationContexts
        port = free_port()
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._take)])
        try:
            yield port
        finally:
            server.shutdown()


@contextmanager
def delivering(database: Database, store: ObjectStore, port: int) -> Iterator[None]:
    """A courier that knows one destination, which takes several associations."""
    pacs = Destination(name="pacs", ae_title="PEER", host="127.0.0.1", port=port, associations=ASSOCIATIONS)
    table = RouteTable(destinations=(pacs,))
    courier = Courier(database, store, QUICK, table=lambda: table, calling_ae="FULLFIELD", name="node")
    courier.start()
    try:
        yield
    finally:
        courier.stop()


def results(database: Database, store: ObjectStore, study: str, count: int) -> tuple[int, list[str]]:
    """A job on a study with so many results in the outbox; its number, and their SOP Instance UIDs."""
    source, *made = [xa(frames=1, rows=16, columns=16, study_instance_uid=study) for _ in range(count + 1)]
    number = queue_job(database, store, source)
    with database.transaction() as tx:
        job, lease = claim(tx, owner="worker", lease_seconds=60)
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        for dataset in made:
            result = keep_object(tx, received(store, dataset, ObjectKind.RESULT, number)).object
            add_delivery(tx, job=job, object=result, destination="pacs")
    return number, [str(dataset.SOPInstanceUID) for dataset in made]
