"""Kills at random instants, of the node and of its worker by turns, while a modality keeps sending.

Whatever was acknowledged is kept, and reaches the PACS once.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from storage.audit_trail import verify
from storage.files import ObjectStore
from storage.schema import Delivery, StoredObject
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState
from tests.hospital import PACS, RESULTS, Hospital, shows
from tests.nodes import LONG, NodeProcess, is_alive, kill
from tests.peers import orthanc, wait_until

SEED = 20260301
#: Seconds between two objects of the modality.
PAUSE = 0.1
CINES_A_KILL = 2


class Modality:
    """Sends cines one after the other; when all were acknowledged, any of them once more."""

    def __init__(self, here: Hospital, dice: random.Random) -> None:
        self.cines: list[Path] = []
        self.acknowledged: set[Path] = set()
        self._here = here
        self._dice = dice
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, name="modality")

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send until the end, and until each was acknowledged."""
        self._thread.start()
        try:
            yield
            wait_until(lambda: self.acknowledged == set(self.cines), what="acknowledgements", seconds=LONG)
        finally:
            self._stopping.set()
            self._thread.join()

    def _send(self) -> None:
        while not self._stopping.wait(PAUSE):
            waiting = [cine for cine in self.cines if cine not in self.acknowledged]
            for cine in waiting[:1] or self._dice.sample(self.cines, min(1, len(self.cines))):
                if self._here.push(cine).statuses == [0]:
                    self.acknowledged.add(cine)


@pytest.mark.long  # a few such kills among other faults: test_harness.py
@pytest.mark.parametrize(("kills", "kind"), [(30, "sqlite"), (30, "postgresql")])
def test_kills_at_random_instants_lose_and_duplicate_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, kills: int, kind: str
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    with orthanc(tmp_path / "pacs", ae_title=PACS) as pacs:
        node = NodeProcess(
            tmp_path / "node",
            {"pacs": pacs.port},
            titles={"pacs": PACS},
            database=url,
            worker={"max_attempts": 2 * kills},
        )
        here, dice = Hospital(tmp_path, node, pacs), random.Random(SEED)
        modality = Modality(here, random.Random(SEED))
        with node.running():
            pace = _pace(here)
            with modality.sending():
                workers = _strike(here, modality, pace, dice, kills)
            everything = 2 + len(modality.cines)
            jobs = node.wait_until_settled(everything)
            assert [(job.state, job.reason) for job in jobs] == [(JobState.DELIVERED, None)] * everything
            _is_kept_once(here, modality.cines, everything)
            _is_in_the_pacs_once(here, modality.cines, everything)
            _is_told_once(here, everything)
            assert here.goes_through()
        wait_until(lambda: not any(map(is_alive, workers)), what="the workers to end", seconds=LONG)


@dataclass(frozen=True)
class Pace:
    """Seconds that this machine takes from the start of a node to its first result, and then for each."""

    first: float
    next: float


def _pace(here: Hospital) -> Pace:
    """The pace of a node that has been started just now."""
    begun = time.monotonic()
    assert here.goes_through()
    warm = time.monotonic()
    assert here.goes_through()
    return Pace(first=warm - begun, next=time.monotonic() - warm)


def _strike(here: Hospital, modality: Modality, pace: Pace, dice: random.Random, kills: int) -> set[int]:
    """Kill node and worker by turns, the node first, with cines always on their way; the workers that were seen.

    One kill in three comes at any instant between start and first result, the others while jobs are done.
    """
    workers = set[int]()
    for number in range(kills):
        started = here.node.told("job_started")
        modality.cines += [here.cine() for _ in range(CINES_A_KILL)]
        if number % 3 == 2:
            time.sleep(dice.uniform(0, pace.first))
        else:
            wait_until(lambda before=started: here.node.told("job_started") > before, what="work", seconds=LONG)
            time.sleep(dice.uniform(0, CINES_A_KILL * pace.next))
        if number % 2 == 0:
            workers.update(here.node.workers())
            here.node.kill()
            here.node.launch()
        else:
            kill(wait_until(here.node.workers, what="a worker", seconds=LONG)[0])
    return workers


def _is_kept_once(here: Hospital, cines: list[Path], everything: int) -> None:
    store, database = ObjectStore(here.node.folder / "var"), here.node.database()
    with database.reading() as tx:
        kept = {object.sop_instance_uid: object for object in tx.scalars(select(StoredObject))}
        rows = [object.kind for object in tx.scalars(select(StoredObject))]
        deliveries = list(tx.scalars(select(Delivery)))
    database.close()
    assert sorted(rows) == [ObjectKind.ORIGINAL] * everything + [ObjectKind.RESULT] * RESULTS * everything
    for cine in cines:
        digest = kept[dcmread(cine).SOPInstanceUID].digest
        store.verify(digest)
        assert _data_set(store.path(digest)) == _data_set(cine)
    assert [(d.state, d.lease_owner) for d in deliveries] == [(DeliveryState.ACKNOWLEDGED, None)] * RESULTS * everything


def _is_in_the_pacs_once(here: Hospital, cines: list[Path], everything: int) -> None:
    # Of each cine a picture, its Segmentation, presentation states and report, in a series each.
    assert len(here.pacs.get("/series")) == 4 * everything
    assert len(here.pacs.get("/instances")) == RESULTS * everything
    for cine in cines:
        assert shows(here.result(cine), cine)
        assert len(here.segmentations(cine)) == 1


def _is_told_once(here: Hospital, everything: int) -> None:
    for action in ("object_received", "job_queued", "job_delivered"):
        assert here.node.told(action) == everything
    assert here.node.told("reconstructed") == RESULTS * everything
    database = here.node.database()
    with database.reading() as tx:
        assert verify(tx)
    database.close()
    assert "Traceback" not in here.node.log.read_text()


def _data_set(path: Path) -> bytes:
    """The bytes of a part-10 file after its header, whose length stands in its first element (PS3.10 7.1)."""
    header = dcmread(path, stop_before_pixels=True).file_meta
    return path.read_bytes()[128 + 4 + 12 + header.FileMetaInformationGroupLength :]
