"""Files that have changed, are missing, cannot be read or are nobody's: found, told, and set right where it is safe."""

import errno
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.audit import Action
from dicom_node.checks import Level, check_objects
from dicom_node.workflow import scrubbing
from dicom_node.workflow.scrubbing import Scrubber, scrub
from storage import files
from storage.audit_trail import trail
from storage.database import Database, current_time
from storage.fetches import settle_fetch
from storage.files import ObjectStore
from storage.objects import keep_object, objects_of_job
from storage.queue import claim
from storage.refetches import ask_for_damaged
from storage.retention import delete_objects
from storage.schema import StoredObject
from storage.scrub import ORPHAN_SECONDS, examine, longest_unread, note, orphans
from storage.states import Damage, FetchState
from tests.commands import Command
from tests.factory import xa
from tests.peers import wait_until
from tests.stored_jobs import queue_job, received


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path)


@pytest.fixture
def node(tmp_path: Path, database_url: str) -> Database:
    """The database of a node whose settings and objects lie in the folder that commands are run in."""
    (tmp_path / "fullfield.toml").write_text(f'[storage]\nroot = "."\ndatabase = "{database_url}"\n')
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


def _kept(database: Database, store: ObjectStore, seed: int = 1) -> StoredObject:
    with database.transaction() as tx:
        return keep_object(tx, received(store, xa(frames=1, rows=16, columns=16, seed=seed))).object


def _now(database: Database, number: int) -> StoredObject:
    with database.reading() as tx:
        return tx.get(StoredObject, number)


def _flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(300)
        byte = file.read(1)[0]
        file.seek(300)
        file.write(bytes([byte ^ 1]))


def _scrub(database: Database, store: ObjectStore) -> list[str]:
    """One pass over everything; what is news."""
    with database.reading() as tx:
        objects = longest_unread(tx, before=current_time(tx), limit=100)
    return [f"{v.damage}" for v in scrub(database, store, objects, lambda _: True) if v.is_news]


def _told(database: Database) -> list[str]:
    with database.reading() as tx:
        return [row.action for row in trail(tx)]


def _old(path: Path) -> None:
    then = time.time() - ORPHAN_SECONDS - 60
    os.utime(path, (then, then))


def test_whole_files_are_read_and_nothing_is_told(database, store):
    kept = _kept(database, store)
    assert _scrub(database, store) == []
    assert _now(database, kept.id).verified_at > kept.verified_at
    assert _told(database) == []


def test_a_changed_file_is_moved_aside_and_told_once(database, store):
    kept, other = _kept(database, store), _kept(database, store, seed=2)
    _flip_a_bit(store.path(kept.digest))
    assert _scrub(database, store) == ["altered"]
    assert not store.path(kept.digest).exists()
    assert (store.quarantined / kept.digest).stat().st_size == kept.size
    assert _now(database, kept.id).damage == Damage.ALTERED
    assert _now(database, other.id).damage is None
    assert _told(database) == [Action.DAMAGE_FOUND]
    # What was moved aside is not there from then on, which is no news.
    assert _scrub(database, store) == []
    assert _now(database, kept.id).damage == Damage.ALTERED


def test_a_missing_file_is_told_and_one_that_is_sent_again_mends_it(database, store):
    dataset = xa(frames=1, rows=16, columns=16)
    with database.transaction() as tx:
        kept = keep_object(tx, received(store, dataset)).object
    store.path(kept.digest).unlink()
    assert _scrub(database, store) == ["missing"]
    with database.transaction() as tx:
        assert keep_object(tx, received(store, dataset)).outcome == "repeated"
    assert _now(database, kept.id).damage is None
    assert _scrub(database, store) == []


def test_a_file_that_was_put_back_is_found_whole(database, store, tmp_path):
    kept = _kept(database, store)
    aside = store.path(kept.digest).rename(tmp_path / "aside")
    assert _scrub(database, store) == ["missing"]
    aside.rename(store.path(kept.digest))
    assert _scrub(database, store) == ["None"]
    assert _told(database) == [Action.DAMAGE_FOUND, Action.DAMAGE_MENDED]


def test_a_file_that_the_disk_cannot_read_stays_where_it_is_and_is_told(database, store, monkeypatch):
    kept, other = _kept(database, store), _kept(database, store, seed=2)
    digest = files._digest

    def bad_sector(path: Path) -> str:
        if path.name == kept.digest:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest(path)

    monkeypatch.setattr(files, "_digest", bad_sector)
    assert _scrub(database, store) == ["unreadable"]
    assert store.path(kept.digest).exists()
    assert _now(database, other.id).damage is None


def test_a_file_that_is_sent_again_while_the_changed_one_is_read_stays(database, store):
    dataset = xa(frames=1, rows=16, columns=16)
    with database.transaction() as tx:
        kept = keep_object(tx, received(store, dataset)).object
    _flip_a_bit(store.path(kept.digest))
    verdict = examine(store, kept)
    received(store, dataset)
    with database.transaction() as tx:
        assert [noted.damage for noted in note(tx, store, [verdict])] == [None]
    store.verify(kept.digest)


def test_what_retention_deletes_while_it_is_read_is_not_told_as_missing(database, store):
    kept = _kept(database, store)
    with database.transaction() as tx:
        delete_objects(tx, [kept.id])
    store.remove(kept.digest)
    assert scrub(database, store, [kept], lambda _: True) == []
    assert _told(database) == []


def test_an_old_file_without_a_row_is_an_orphan_and_a_new_one_is_not(database, store):
    kept, old = _kept(database, store), store.write(b"nobody's")
    store.write(b"about to get its row")
    for digest in (kept.digest, old.digest):
        _old(store.path(digest))
    assert list(orphans(database, store)) == [old]


def test_what_a_running_job_has_written_and_what_is_to_be_removed_is_no_orphan(database, store):
    gone = _kept(database, store)
    with database.transaction() as tx:
        delete_objects(tx, [gone.id])
    _old(store.path(gone.digest))
    queue_job(database, store, xa(frames=1, rows=16, columns=16))
    with database.transaction() as tx:
        job, _ = claim(tx, owner="worker", lease_seconds=60)
        assert list(orphans(database, store)) == []
    result = store.write(b"of the job")
    _old(store.path(result.digest))
    with database.transaction() as tx:
        tx.execute(update(type(job)).values(created_at=job.created_at.replace(year=job.created_at.year - 1)))
    assert list(orphans(database, store)) == []


def test_the_scrubber_of_a_node_reads_what_is_due_by_itself(database, store):
    kept = _kept(database, store)
    _flip_a_bit(store.path(kept.digest))
    scrubber = Scrubber(database, store, days=1e-9)
    scrubber.start()
    try:
        wait_until(lambda: _now(database, kept.id).damage == Damage.ALTERED, what="the damage to be found")
    finally:
        scrubber.stop()


def test_what_was_read_within_the_period_is_not_due(database, store):
    kept = _kept(database, store)
    scrubber = Scrubber(database, store, days=1)
    assert not scrubber._scrub_next()
    assert _now(database, kept.id).verified_at == kept.verified_at


def test_everything_is_read_in_half_the_period_and_the_wait_after_each_object_is_as_long_as_its_share(
    database, store, monkeypatch
):
    monkeypatch.setattr(scrubbing, "_LEAST_BYTES_A_SECOND", 0)
    sizes = _due(database, store, rows=(16, 64, 32), days=2)
    waits = _waits(monkeypatch, scrubber := Scrubber(database, store, days=1))
    assert scrubber._scrub_next()
    assert sum(waits) == pytest.approx(86400 / 2)
    assert [wait / sum(waits) for wait in waits] == pytest.approx([size / sum(sizes) for size in sizes])
    assert not scrubber._scrub_next()


def test_what_is_yet_to_come_due_counts_for_the_pace_and_is_not_waited_for(database, store, monkeypatch):
    monkeypatch.setattr(scrubbing, "_LEAST_BYTES_A_SECOND", 0)
    (size,) = _due(database, store, rows=(64,), days=2)
    other = _kept(database, store)
    waits = _waits(monkeypatch, scrubber := Scrubber(database, store, days=1))
    assert scrubber._scrub_next()
    assert waits == pytest.approx([86400 / 2 * size / (size + other.size)])


def test_little_is_read_at_the_least_pace(database, store, monkeypatch):
    sizes = _due(database, store, rows=(16, 64), days=40)
    waits = _waits(monkeypatch, scrubber := Scrubber(database, store, days=30))
    assert scrubber._scrub_next()
    assert waits == pytest.approx([size / (1 << 20) for size in sizes])


def test_orphans_are_looked_for_again_after_a_while_although_there_is_always_something_to_read(
    database, store, monkeypatch
):
    monkeypatch.setattr(scrubbing, "_ORPHANS_EVERY", 0.5)
    monkeypatch.setattr(scrubbing, "_PAUSE", 0.0)
    _kept(database, store)
    scrubber = Scrubber(database, store, days=1e-9)
    assert scrubber.orphans is None
    scrubber.start()
    try:
        wait_until(lambda: scrubber.orphans == 0, what="the first look")
        _old(store.path(store.write(b"nobody's").digest))
        wait_until(lambda: scrubber.orphans == 1, what="the next look")
    finally:
        scrubber.stop()


def _due(database: Database, store: ObjectStore, *, rows: tuple[int, ...], days: float) -> list[int]:
    """Objects of so many rows that were last read so many days ago; their sizes, in the order of their turn."""
    with database.transaction() as tx:
        for seed, height in enumerate(rows):
            dataset = xa(frames=1, rows=height, columns=16, seed=seed)
            kept = keep_object(tx, received(store, dataset)).object
            kept.verified_at -= timedelta(days=days, seconds=-seed)
        due = longest_unread(tx, before=current_time(tx), limit=100)
    assert len({object.size for object in due}) == len(rows)
    return [object.size for object in due]


def _waits(monkeypatch: pytest.MonkeyPatch, scrubber: Scrubber) -> list[float]:
    """The seconds that a scrubber waits from now on, which it no longer does."""
    waits: list[float] = []
    monkeypatch.setattr(scrubber._stopping, "wait", waits.append)
    return waits


# Commands


def test_verify_says_that_all_is_whole(fullfield: Command, node, store):
    _kept(node, store)
    status, out, _ = fullfield("storage", "verify")
    assert (status, out) == (0, "All 1 objects are whole.\n")


def test_verify_tells_each_finding_in_a_line_and_exits_with_1(fullfield: Command, node, store):
    kept, orphan = _kept(node, store), store.write(b"nobody's")
    missing = _kept(node, store, seed=2)
    _flip_a_bit(store.path(kept.digest))
    store.path(missing.digest).unlink()
    _old(store.path(orphan.digest))
    status, out, err = fullfield("storage", "verify")
    assert status == 1
    assert sorted(out.splitlines()) == [
        f"altered: object {kept.sop_instance_uid}, {kept.digest}",
        f"missing: object {missing.sop_instance_uid}, {missing.digest}",
        f"orphan: no object has {orphan.digest}, {orphan.size} bytes",
    ]
    assert err.splitlines()[-1] == "fullfield: 2 of 2 objects are damaged."
    _, out, _ = fullfield("storage", "show")
    assert f"{kept.sop_instance_uid}: altered" in out


def test_show_says_what_the_archive_answered_that_was_asked_for_a_damaged_object(fullfield: Command, node, store):
    number = queue_job(node, store, xa(frames=1, rows=16, columns=16))
    with node.transaction() as tx:
        (kept,) = objects_of_job(tx, number)
        kept.damage = Damage.MISSING
    with node.transaction() as tx:
        (fetch,) = ask_for_damaged(tx, {"all": "pacs"})
        settle_fetch(tx, fetch.id, FetchState.REFUSED, reason="pacs does not have the object")
    out = " ".join(fullfield("storage", "show")[1].split())
    assert "missing; asked for again of pacs: refused, pacs does not have the object" in out


def test_repair_moves_orphans_aside_and_takes_back_what_is_whole_again(fullfield: Command, node, store, tmp_path):
    kept, orphan = _kept(node, store), store.write(b"nobody's")
    _old(store.path(orphan.digest))
    aside = store.path(kept.digest).rename(tmp_path / "aside")
    assert fullfield("storage", "verify")[0] == 1
    status, out, err = fullfield("storage", "repair")
    assert status == 1
    assert f"still missing: object {kept.sop_instance_uid}, {kept.digest}" in out
    assert "from a backup" in err
    aside.rename(store.path(kept.digest))
    assert fullfield("storage", "repair")[:2] == (0, "0 files moved aside, 1 objects whole again, 0 damaged.\n")
    assert (store.quarantined / orphan.digest).read_bytes() == b"nobody's"
    assert Action.ORPHANS_MOVED in _told(node)
    assert fullfield("storage", "verify")[0] == 0


def test_a_study_is_held_and_released_and_both_are_told(fullfield: Command, node, store):
    study = _kept(node, store).study_instance_uid
    assert fullfield("storage", "hold", study, "--reason", "a case")[:2] == (0, f"Study {study} is held.\n")
    assert fullfield("storage", "hold", study, "--reason", "again")[1] == f"Study {study} is held already.\n"
    assert study in fullfield("storage", "show")[1]
    assert fullfield("storage", "release", study)[0] == 0
    assert fullfield("storage", "release", study) == (1, "", f"fullfield: Study {study} is not held.\n")
    assert _told(node) == [Action.HOLD_PLACED, Action.HOLD_LIFTED]


def test_doctor_tells_of_damage_of_a_quarantine_and_of_a_scrubber_that_is_late(node, store, tmp_path, database_url):
    from config.settings import StorageSettings

    settings = StorageSettings(root=tmp_path, database=database_url)
    kept = _kept(node, store)
    assert [finding.level for finding in check_objects(settings)] == [Level.OK]
    with node.transaction() as tx:
        tx.execute(update(StoredObject).values(verified_at=kept.verified_at.replace(year=2000)))
    assert [finding.level for finding in check_objects(settings)] == [Level.WARN]
    _flip_a_bit(store.path(kept.digest))
    _scrub(node, store)
    damaged, quarantine = check_objects(settings)
    assert (damaged.level, quarantine.level) == (Level.FAIL, Level.WARN)
    assert damaged.said.startswith("1 of 1 objects are damaged")
