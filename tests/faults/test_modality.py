"""What a modality may do wrong, seen from the whole node: each is answered and told, and what comes next is done."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, generate_uid

from storage.files import ObjectStore
from storage.schema import AuditRow
from storage.transitions import JobState
from tests.factory import write, xa
from tests.hospital import RESULTS, Hospital, hospital, shows
from tests.peers import wait_until


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    allowed = {"allow": [{"ae_title": "CARM1", "addresses": ["127.0.0.1"]}]}
    with hospital(tmp_path_factory.mktemp("hospital"), listener=allowed) as here:
        yield here


def _told(here: Hospital, action: str) -> AuditRow:
    """The newest step of a kind; a sender may know of it a moment before it is told."""
    wait_until(lambda: here.node.told(action), what=action)
    return [row for row in here.node.audit() if row.action == action][-1]


def test_an_unknown_calling_title_is_kept_out(here: Hospital) -> None:
    cine = here.cine()
    told = here.push(cine, calling="STRANGER")
    assert not told.accepted
    assert "Calling AE Title Not Recognized" in told.output
    row = _told(here, "association_refused")
    assert (row.outcome, row.peer_ae) == ("refused", "STRANGER")
    assert "not in the list of allowed systems" in row.details["reason"]
    assert here.push(cine).accepted
    assert shows(here.result(cine), cine)


def test_an_unknown_sop_class_is_refused(here: Hospital) -> None:
    image = here.cine(frames=0, sop_class=MRImageStorage)
    assert not here.push(image).accepted
    row = _told(here, "contexts_refused")
    assert row.details["sop_class_uids"] == [MRImageStorage]
    assert here.goes_through()


def test_other_content_under_a_known_uid_is_kept_aside_and_makes_no_second_result(here: Hospital) -> None:
    uids = {f"{level}_instance_uid": generate_uid() for level in ("study", "series", "sop")}
    first, second = here.cine(**uids), here.cine(**uids)
    assert here.push(first).accepted
    assert here.push(second).accepted
    row = _told(here, "object_kept_aside")
    assert row.sop_instance_uid == uids["sop_instance_uid"]
    assert _is_kept(here, row.details["digest"], second)
    assert shows(here.result(first), first)
    here.node.wait_until_settled(1)
    story = [row.action for row in here.node.audit() if row.study_instance_uid == uids["study_instance_uid"]]
    assert [story.count(action) for action in ("object_received", "job_queued", "reconstructed")] == [1, 1, RESULTS]
    assert here.goes_through()


def _cut_short(cine: Dataset) -> None:
    cine.PixelData = cine.PixelData[:1000]


def _claims_60_000_frames(cine: Dataset) -> None:
    cine.NumberOfFrames = 60_000


@pytest.mark.parametrize("spoil", [_cut_short, _claims_60_000_frames])
def test_a_bad_cine_is_declined_with_a_reason_and_leaves_the_worker_alive(
    here: Hospital, tmp_path: Path, spoil: Callable[[Dataset], None]
) -> None:
    assert here.goes_through()
    workers = here.node.workers()
    bad = xa(frames=2)
    spoil(bad)
    path = write(bad, tmp_path / "bad.dcm")
    jobs = len(here.node.jobs())
    assert here.push(path).accepted
    job = here.node.wait_until_settled(jobs + 1)[-1]
    assert job.state == JobState.DECLINED
    assert job.reason.endswith(".")
    assert "error" not in job.reason.lower()
    assert here.results(path) == []
    assert here.goes_through()
    assert here.node.workers() == workers


def _is_kept(here: Hospital, digest: str, cine: Path) -> bool:
    """Whether the object store holds a cine under a digest."""
    kept = ObjectStore(here.node.folder / "var").path(digest)
    return bool((dcmread(kept).pixel_array == dcmread(cine).pixel_array).all())
