"""A route that waits for the end of an association, and a node that dies before it: the series is completed yet."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, XRayAngiographicImageStorage, generate_uid
from pynetdicom import AE, build_context

from dicom_node.workflow.series import LONGEST_SILENCE
from storage.database import current_time
from storage.objects import objects_of_job
from storage.schema import Series
from tests.hospital import Hospital, hospital
from tests.nodes import LONG
from tests.peers import wait_until


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    with hospital(folder, route={"complete": "association"}, worker={"processes": 0}) as here:
        yield here


def _send_and_die(here: Hospital, cine: Path) -> None:
    """Have a cine acknowledged over an association that the node does not live to see the end of."""
    context = build_context(XRayAngiographicImageStorage, ExplicitVRLittleEndian)
    association = AE("CARM1").associate("127.0.0.1", here.node.port, [context], ae_title="FULLFIELD")
    assert association.is_established
    assert association.send_c_store(dcmread(cine)).Status == 0
    here.node.kill()
    association.join()
    here.node.start()


def _taken_in(here: Hospital, job: int) -> list[str]:
    """The objects that a job takes in, when there is one."""
    wait_until(lambda: len(here.node.jobs()) >= job, what="the job", seconds=LONG)
    database = here.node.database()
    with database.reading() as tx:
        uids = [object.sop_instance_uid for object in objects_of_job(tx, here.node.jobs()[job - 1].id)]
    database.close()
    return uids


def test_a_sender_that_begins_again_has_its_series_in_one_job(here: Hospital) -> None:
    series = generate_uid()
    first, second = (here.cine(series_instance_uid=series) for _ in range(2))
    _send_and_die(here, first)
    assert here.node.jobs() == []
    assert here.push(first, second).accepted
    assert _taken_in(here, 1) == [dcmread(cine).SOPInstanceUID for cine in (first, second)]


def test_a_sender_that_never_comes_back_has_its_series_completed_after_a_long_silence(here: Hospital) -> None:
    cine = here.cine()
    _send_and_die(here, cine)
    _let_silence_pass(here, dcmread(cine).SeriesInstanceUID)
    assert _taken_in(here, 2) == [dcmread(cine).SOPInstanceUID]
    (row,) = [row for row in here.node.audit() if row.details.get("reason") == "its quiet time is over"]
    assert row.action == "series_completed"


def test_what_a_dead_node_was_receiving_is_cleared_away_in_the_end(here: Hospital) -> None:
    left, new = (here.node.folder / "var" / "incoming" / name for name in ("left.dcm", "new.dcm"))
    for path in (left, new):
        path.write_bytes(b"DICM")
    os.utime(left, (0, 0))
    wait_until(lambda: not left.exists(), what="the file to be cleared away")
    assert new.exists()


def _let_silence_pass(here: Hospital, series_instance_uid: str) -> None:
    """The silence is as long as it should be; and now it is over."""
    database = here.node.database()
    with database.transaction() as tx:
        series = tx.get_one(Series, series_instance_uid)
        assert series.due_at == series.last_received_at + LONGEST_SILENCE
        series.due_at = current_time(tx)
    database.close()
