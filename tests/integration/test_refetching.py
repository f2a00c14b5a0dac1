"""Originals whose file is damaged, and that are fetched again where their route says so."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

from dicom_node.network.refetched import keep_again
from dicom_node.workflow import fetching
from dicom_node.workflow.scrubbing import scrub
from storage.fetches import add_fetch, settle_fetch
from storage.files import ObjectStore
from storage.objects import keep_object, objects_of_job
from storage.queue import get_job
from storage.refetches import ask_for_damaged, last_refetch
from storage.schema import Fetch, StoredObject
from storage.scrub import damaged
from storage.states import Damage, FetchState, ObjectKind
from tests.factory import write, xa
from tests.peers import free_port, orthanc, storescu, wait_until
from tests.stored_jobs import queue_job, received
from tests.wards import OVER, TITLE, Archive, Ward, answers, uid, ward, ward_and_archive, ward_and_pacs

AGAIN = {"refetch": "pacs"}


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    monkeypatch.setattr(fetching, "_LOOK_SECONDS", 0.02)


def original(here: Ward) -> StoredObject:
    (found,) = [row for row in here.node.objects() if row.kind == ObjectKind.ORIGINAL]
    return found


def struck(here: Ward, *, missing: bool = False) -> StoredObject:
    """The original after its file was lost, or changed in one bit, and the scrubber has come by."""
    path = here.node.store.path(original(here).digest)
    if missing:
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
    return scrubbed(here)


def scrubbed(here: Ward) -> StoredObject:
    scrub(here.node.database, here.node.store, [original(here)], lambda _: True)
    return original(here)


def over(here: Ward, before: int = 0) -> Fetch:
    """Wait until there is an end of a fetch behind that number."""

    def last() -> Fetch | None:
        with here.node.database.reading() as tx:
            fetch = last_refetch(tx, original(here).sop_instance_uid)
        return fetch if fetch is not None and fetch.id > before and fetch.state in OVER else None

    return wait_until(last, what="the end of the fetch")


def is_whole(here: Ward) -> bool:
    here.node.store.verify(original(here).digest)
    with here.node.database.reading() as tx:
        return damaged(tx) == []


def encoded_anew(path: Path, folder: Path, syntax: str = ImplicitVRLittleEndian, **changed: object) -> Path:
    """A copy as an archive makes it."""
    copy = dcmread(path)
    for keyword, value in changed.items():
        setattr(copy, keyword, value)
    return write(copy, folder / f"{generate_uid()}.dcm", syntax)


# From a PACS


@pytest.mark.parametrize("program", ["dcmtk", "pynetdicom", "Orthanc"])
@pytest.mark.parametrize("missing", [True, False])
def test_a_pacs_gives_back_the_very_file(tmp_path, program, missing):
    with ward_and_pacs(tmp_path, program, route=AGAIN) as (here, pacs):
        dataset = dcmread(here.cine())
        dataset.ReferencedStudySequence = [Dataset()]
        dataset.ReferencedStudySequence[0].ReferencedSOPInstanceUID = "1.2.3"
        cine = write(dataset, tmp_path / "with_a_sequence.dcm")
        here.sends(cine)
        assert storescu(pacs.port, cine, called=pacs.ae_title).accepted
        before = struck(here, missing=missing)
        assert over(here).state == FetchState.FETCHED
        assert is_whole(here)
        after = original(here)
        assert (after.digest, after.job_id, after.calling_ae) == (before.digest, before.job_id, "CARM")
        (row,) = here.node.rows("object_refetched")
        assert (row.sop_instance_uid, row.peer_ae, row.job_id) == (uid(cine), pacs.ae_title, before.job_id)
        assert (row.details["archive"], row.details["differs"]) == ("pacs", "in nothing")
        (asked,), (done,) = here.node.rows("fetch_asked"), here.node.rows("fetched")
        assert asked.sop_instance_uid == done.sop_instance_uid == uid(cine)
        # It is no new input.
        assert here.jobs() == [[uid(cine)]]


def test_what_a_pacs_has_in_another_transfer_syntax_takes_the_place_and_that_is_told(tmp_path):
    with ward_and_pacs(tmp_path, route=AGAIN) as (here, pacs):
        cine = here.cine()
        here.sends(cine)
        assert storescu(pacs.port, encoded_anew(cine, tmp_path), "-xi", called=TITLE).accepted
        before = struck(here)
        assert over(here).state == FetchState.FETCHED
        assert is_whole(here)
        after = original(here)
        (row,) = here.node.rows("object_refetched")
        assert row.details["differs"] == "in the transfer syntax"
        assert (row.details["digest_before"], row.details["digest"]) == (before.digest, after.digest)
        assert row.details["transfer_syntax_before_uid"] == before.transfer_syntax_uid == ExplicitVRLittleEndian
        assert row.details["transfer_syntax_uid"] == after.transfer_syntax_uid == ImplicitVRLittleEndian
        assert "changed" not in row.details
        assert here.jobs() == [[uid(cine)]]


def test_a_pacs_that_does_not_have_it_is_told_once_and_asked_again_when_the_scrubber_comes_by(tmp_path):
    with ward_and_pacs(tmp_path, route=AGAIN) as (here, pacs):
        cine = here.cine()
        here.sends(cine)
        struck(here)
        first = over(here)
        assert (first.state, first.reason) == (FetchState.REFUSED, "pacs does not have the object")
        (row,) = here.node.rows("fetch_refused")
        assert (row.sop_instance_uid, row.outcome) == (uid(cine), "refused")
        assert (here.node.store.quarantined / original(here).digest).exists()
        # Its administrator has it sent there, and `fullfield storage repair` looks again.
        assert storescu(pacs.port, cine, called=TITLE).accepted
        assert len(here.node.rows("fetch_refused")) == 1
        scrubbed(here)
        assert over(here, first.id).state == FetchState.FETCHED
        assert is_whole(here)


def test_a_pacs_that_is_away_is_asked_until_it_is_back(tmp_path):
    port, node_port = free_port(), free_port()
    with ward(tmp_path, port, node_port, route=AGAIN) as here:
        cine = here.cine()
        here.sends(cine)
        struck(here)
        wait_until(lambda: len(here.node.rows("fetch_postponed")) >= 2, what="two tries")
        waits = [row.details["wait_seconds"] for row in here.node.rows("fetch_postponed")]
        assert all(wait > 0 for wait in waits)
        here.fetcher.stop(2)
        modalities = {"node": ["FULLFIELD", "127.0.0.1", node_port]}
        with orthanc(tmp_path / "pacs", ae_title=TITLE, port=port, DicomModalities=modalities):
            assert storescu(port, cine, called=TITLE).accepted
            here.fetcher = here.another_fetcher()
            here.fetcher.start()
            assert over(here).state == FetchState.FETCHED
            assert is_whole(here)


def test_without_the_key_nothing_is_fetched_again(tmp_path):
    with ward_and_pacs(tmp_path, route={}) as (here, pacs):
        cine = here.cine()
        here.sends(cine)
        assert storescu(pacs.port, cine, called=TITLE).accepted
        struck(here)
        with here.node.database.transaction() as tx:
            here.fetcher._look_for_damaged()
            assert last_refetch(tx, uid(cine)) is None


# From one that behaves as no good PACS does


def gives_back(here: Ward, archive: Archive, cine: Path, *sent: Path) -> Fetch:
    """The end of a fetch of the damaged original, for which the archive sends what it is told to."""
    here.sends(cine)
    archive.finds, archive.sends = answers(cine, level="IMAGE"), list(sent)
    struck(here)
    return over(here)


@pytest.mark.parametrize("tells_mover", [True, False])
def test_another_transfer_syntax_and_a_new_patient_are_told(tmp_path, tells_mover):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        archive.tells_mover = tells_mover
        cine = here.cine()
        copy = encoded_anew(cine, tmp_path, PatientName="Merged^Later")
        assert gives_back(here, archive, cine, copy).state == FetchState.FETCHED
        assert is_whole(here)
        (found,) = here.node.rows("damage_found")
        (row,) = here.node.rows("object_refetched")
        assert row.details["differs"] == "in the transfer syntax"
        assert row.details["changed"] == ["PatientName"]
        assert row.details["digest_before"] == found.details["digest"]
        assert (original(here).digest, here.kept(ObjectKind.ASIDE)) == (row.details["digest"], [])
        assert here.jobs() == [[uid(cine)]]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"SeriesInstanceUID": "1.2.3"}, "it has another series"),
        ({"StudyInstanceUID": "1.2.3"}, "it has another study"),
        ({"NumberOfFrames": 1}, "it has another number of frames"),
        ({"Rows": 8}, "it has another Rows"),
        ({"LossyImageCompression": "01"}, "it was compressed with loss on the way"),
    ],
)
def test_another_object_under_its_uid_is_kept_beside_it_and_it_stays_damaged(tmp_path, changed, reason):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        cine = here.cine()
        copy = encoded_anew(cine, tmp_path, **changed)
        fetch = gives_back(here, archive, cine, copy)
        assert (fetch.state, fetch.reason) == (
            FetchState.REFUSED,
            f"what pacs sent is not the original: {reason}",
        )
        assert original(here).damage == Damage.ALTERED
        (row,) = here.node.rows("object_kept_aside")
        assert (row.details["reason"], here.kept(ObjectKind.ASIDE)) == (reason, [uid(cine)])
        assert here.jobs() == [[uid(cine)]]


def test_another_object_than_was_asked_for_is_no_input(tmp_path):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        cine, other = here.cine(), here.cine()
        fetch = gives_back(here, archive, cine, other)
        assert fetch.reason == "pacs says to have sent the object, and it has not come"
        (row,) = here.node.rows("object_fetched")
        assert row.details["reason"] == "it is another object than was asked for"
        assert here.kept(ObjectKind.FETCHED) == [uid(other)]
        assert original(here).damage == Damage.ALTERED
        assert here.jobs() == [[uid(cine)]]


def test_a_copy_that_was_kept_aside_before_takes_the_place(tmp_path):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        cine = here.cine()
        here.sends(cine)
        copy = encoded_anew(cine, tmp_path)
        archive.finds, archive.sends = answers(cine, level="IMAGE"), [copy]
        archive.send("WORKSTATION", 1)
        assert here.kept(ObjectKind.ASIDE) == [uid(cine)]
        struck(here)
        assert over(here).state == FetchState.FETCHED
        assert is_whole(here)
        assert here.kept(ObjectKind.ASIDE) == []


def test_a_copy_that_comes_late_with_other_bytes_is_kept_aside(tmp_path):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        cine = here.cine()
        assert gives_back(here, archive, cine).state == FetchState.REFUSED
        archive.sends = [encoded_anew(cine, tmp_path)]
        archive.send("FULLFIELD", 1)
        (row,) = here.node.rows("object_kept_aside")
        assert row.details["reason"] == "it came when it was no longer asked for, with other bytes"
        # The very file is welcome whenever it comes.
        archive.sends = [cine]
        archive.send("FULLFIELD", 1)
        assert is_whole(here)


def test_an_original_that_is_whole_by_then_is_not_asked_for(tmp_path):
    with ward_and_archive(tmp_path, route=AGAIN) as (here, archive):
        cine = here.cine()
        here.sends(cine)
        archive.finds = lambda _: iter([(0xA700, None)])
        struck(here)
        wait_until(lambda: here.node.rows("fetch_postponed"), what="a try")
        here.sends(cine)
        assert over(here).reason == "it is damaged no more"
        assert archive.moves == []


def test_a_copy_in_a_lossy_transfer_syntax_is_not_the_original(tmp_path, database):
    store = ObjectStore(tmp_path)
    one = received(store, xa(frames=2, rows=16, columns=16))
    with database.transaction() as tx:
        kept = keep_object(tx, one).object
        kept.damage = Damage.MISSING
        fetch = Fetch(archive="pacs", sop_instance_uid=one.sop_instance_uid, state=FetchState.ASKED)
        lossy = replace(one, transfer_syntax_uid=JPEGBaseline8Bit, digest="b" * 64)
        beside, told = keep_again(tx, fetch, lossy)
        assert (beside.outcome, told) == ("aside", {"reason": "it was compressed with loss on the way"})
        assert kept.damage == Damage.MISSING


# As the database knows it


def test_a_damaged_original_is_asked_for_once_each_time_that_it_is_found_so(tmp_path, database):
    store = ObjectStore(tmp_path)
    number = queue_job(database, store, xa(frames=1, rows=16, columns=16))
    with database.transaction() as tx:
        (kept,) = objects_of_job(tx, number)
        keep_object(tx, received(store, xa(frames=1, rows=16, columns=16))).object.damage = Damage.MISSING
    store.path(kept.digest).unlink()
    for asked in (0, 1):
        with database.transaction() as tx:
            assert len(ask_for_damaged(tx, {"all": "pacs"})) == asked
        scrub(database, store, [kept], lambda _: True)
    with database.transaction() as tx:
        fetch = last_refetch(tx, kept.sop_instance_uid)
        assert (fetch.archive, fetch.job_id, fetch.state) == ("pacs", number, FetchState.WAITING)
        # Found once more, and asked for still.
        assert ask_for_damaged(tx, {"all": "pacs"}) == []
        # Who asks for the other series of the study is not content with that.
        assert add_fetch(tx, get_job(tx, number), archive="pacs", modalities=["XA"]) is not None
        settle_fetch(tx, fetch.id, FetchState.REFUSED, reason="pacs does not have the object")
    with database.transaction() as tx:
        assert ask_for_damaged(tx, {"other": "pacs"}) == []
        (fetch,) = ask_for_damaged(tx, {"all": "pacs"})
        settle_fetch(tx, fetch.id, FetchState.REFUSED)
    with database.transaction() as tx:
        assert ask_for_damaged(tx, {"all": "pacs"}) == []
