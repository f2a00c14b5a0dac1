"""A backup taken while a node receives holds all that was acknowledged before it began, and comes back whole."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select

from dicom_node.audit import Action
from storage import audit_trail, backup
from storage.backup import back_up
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import find_object, keep_object
from storage.retention import delete_objects, remove_files
from storage.schema import StoredObject
from tests.commands import Command
from tests.databases import postgresql_database
from tests.disks import disk
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu, wait_until
from tests.stored_jobs import received


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Iterator[tuple[str | None, str | None]]:
    """A database to back up, and an empty one to restore into; None for the default in the data root."""
    if request.param == "sqlite":
        yield None, None
        return
    server: str = request.getfixturevalue("postgresql_server")
    with postgresql_database(server) as one, postgresql_database(server) as other:
        yield one, other


def _node(folder: Path, database: str | None) -> NodeProcess:
    return NodeProcess(folder, {"pacs": free_port()}, worker={"processes": 0}, database=database)


def test_a_backup_under_load_restores_all_that_was_acknowledged_before_it_began(
    fullfield: Command, databases: tuple[str | None, str | None], tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    node, stop = _node(tmp_path / "node", databases[0]), threading.Event()

    def send() -> None:
        for number in range(1000):
            if stop.is_set():
                return
            path = write(xa(frames=1, rows=16, columns=16, seed=number), tmp_path / f"{number}.dcm")
            if storescu(node.port, path).accepted:
                acknowledged.append(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)

    sender = threading.Thread(target=send)
    with node.running():
        sender.start()
        try:
            wait_until(lambda: len(acknowledged) >= 5, what="objects")
            before = list(acknowledged)
            status, out, err = fullfield("backup", tmp_path / "backup", "--settings", node.settings)
            assert (status, "objects and the database" in out) == (0, True), err
            during = len(acknowledged)
            wait_until(lambda: len(acknowledged) > during, what="the node to go on")
        finally:
            stop.set()
            sender.join()
        assert node.told(Action.BACKED_UP) == 1

    again = _node(tmp_path / "again", databases[1])
    status, _, err = fullfield("restore", tmp_path / "backup", "--settings", again.settings)
    assert status == 0, err
    store, database = ObjectStore(again.folder / "var"), again.database()
    with database.reading() as tx:
        for uid in before:
            store.verify(find_object(tx, uid).digest)
        audit_trail.verify(tx)
    database.close()
    with again.running():
        assert again.told(Action.RESTORED) == 1
        assert storescu(again.port, tmp_path / "0.dcm").accepted


# Without a node


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "var")


@pytest.fixture
def node(store: ObjectStore) -> Iterator[Database]:
    """The database of a node whose settings lie in the folder that commands are run in."""
    database = Database(f"sqlite:///{store.root / 'fullfield.db'}")
    database.migrate()
    yield database
    database.close()


def _kept(database: Database, store: ObjectStore, seed: int = 1) -> StoredObject:
    with database.transaction() as tx:
        return keep_object(tx, received(store, xa(frames=1, rows=16, columns=16, seed=seed))).object


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "objects").glob("*/*/*"))


def _restored(fullfield: Command, folder: Path) -> tuple[int, str, str]:
    (folder / "new.toml").write_text('[storage]\nroot = "new"\n')
    return fullfield("restore", folder / "backup", "--settings", folder / "new.toml")


def test_the_next_backup_replaces_the_one_before_and_copies_only_what_is_new(fullfield, node, store, tmp_path):
    gone, stays = _kept(node, store), _kept(node, store, seed=2)
    assert fullfield("backup", "backup")[0] == 0
    inode = (tmp_path / "backup/objects" / store.path(stays.digest).relative_to(store.root / "objects")).stat().st_ino
    with node.transaction() as tx:
        delete_objects(tx, [gone.id])
    remove_files(node, store)
    new = _kept(node, store, seed=3)
    assert fullfield("backup", "backup")[0] == 0
    assert _files(tmp_path / "backup") == sorted([stays.digest, new.digest])
    kept = tmp_path / "backup/objects" / store.path(stays.digest).relative_to(store.root / "objects")
    assert kept.stat().st_ino == inode
    assert len(list((tmp_path / "backup").glob("database-*"))) == 1


def test_on_another_disk_files_are_copied_and_compared(fullfield, node, store, tmp_path):
    kept, bad = _kept(node, store), _kept(node, store, seed=2)
    with store.path(bad.digest).open("r+b") as file:
        file.write(b"rubbish")
    with disk(tmp_path / "disk", megabytes=8) as other:
        status, _, err = fullfield("backup", other / "backup")
        assert status == 1
        assert "1 objects are missing or damaged here" in err
        assert _files(other / "backup") == [kept.digest]


def test_a_backup_for_which_the_disk_has_no_room_says_so_and_the_one_before_stays(fullfield, node, store, tmp_path):
    _kept(node, store)
    with disk(tmp_path / "disk", megabytes=1) as other:
        assert fullfield("backup", other / "backup")[0] == 0
        before = (other / "backup" / "backup.json").read_text()
        with node.transaction() as tx:
            keep_object(tx, received(store, xa(frames=1, rows=1024, columns=1024)))
        status, _, err = fullfield("backup", other / "backup")
        assert status == 1
        assert "No space left on device" in err
        assert (other / "backup" / "backup.json").read_text() == before


def test_what_is_deleted_while_it_is_copied_has_the_database_dumped_anew(node, store, tmp_path, monkeypatch):
    gone, stays = _kept(node, store), _kept(node, store, seed=2)
    copy = backup._copy

    def deleting_first(*told):
        monkeypatch.setattr(backup, "_copy", copy)
        with node.transaction() as tx:
            delete_objects(tx, [gone.id])
        remove_files(node, store)
        return copy(*told)

    monkeypatch.setattr(backup, "_copy", deleting_first)
    url = f"sqlite:///{store.root / 'fullfield.db'}"
    made = back_up(url, node, store, tmp_path / "backup", lambda *_: None)
    assert (made.objects, made.missing) == (1, 0)
    assert _files(tmp_path / "backup") == [stays.digest]


def test_what_is_damaged_in_a_backup_is_told_and_the_rest_restored(fullfield, node, store, tmp_path):
    kept, bad = _kept(node, store), _kept(node, store, seed=2)
    assert fullfield("backup", "backup")[0] == 0
    spoilt = tmp_path / "backup/objects" / store.path(bad.digest).relative_to(store.root / "objects")
    spoilt.unlink()
    spoilt.write_bytes(b"rubbish")
    status, out, err = _restored(fullfield, tmp_path)
    assert (status, f"missing: {bad.digest}" in out) == (1, True)
    assert "1 objects of the backup are missing or damaged" in err
    restored = Database(f"sqlite:///{tmp_path / 'new' / 'fullfield.db'}")
    with restored.reading() as tx:
        found = {row.digest: row.damage for row in tx.scalars(select(StoredObject))}
    restored.close()
    assert found == {kept.digest: None, bad.digest: "missing"}


def test_a_backup_is_restored_into_an_empty_place_only(fullfield, node, store, tmp_path):
    _kept(node, store)
    assert fullfield("backup", "backup")[0] == 0
    assert _restored(fullfield, tmp_path)[0] == 0
    status, _, err = _restored(fullfield, tmp_path)
    assert (status, "is not empty" in err) == (1, True)


@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (lambda folder: (folder / "backup.json").unlink(), "holds no backup"),
        (lambda folder: (folder / "backup.json").write_text("{"), "is not one that this version can read"),
        (lambda folder: next(folder.glob("database-*")).write_bytes(b"rubbish"), "is damaged; take another backup"),
        (lambda folder: next(folder.glob("database-*")).unlink(), "is missing; take another backup"),
        (
            lambda folder: (folder / "backup.json").write_text(
                (folder / "backup.json").read_text().replace('"schema": "00', '"schema": "99')
            ),
            "newer schema",
        ),
        (
            lambda folder: (folder / "backup.json").write_text(
                (folder / "backup.json").read_text().replace('"sqlite"', '"postgresql"')
            ),
            "is a backup of postgresql, and cannot be restored into sqlite",
        ),
    ],
    ids=["no manifest", "no json", "damaged dump", "missing dump", "newer", "another kind"],
)
def test_what_cannot_be_restored_is_told_and_leaves_nothing(fullfield, node, store, tmp_path, happens, said):
    _kept(node, store)
    assert fullfield("backup", "backup")[0] == 0
    happens(tmp_path / "backup")
    status, _, err = _restored(fullfield, tmp_path)
    assert (status, said in err) == (1, True), err
    assert _files(tmp_path / "new") == []


@pytest.mark.usefixtures("node")
def test_a_backup_within_the_data_root_is_refused(fullfield, store):
    status, _, err = fullfield("backup", store.root / "backup")
    assert (status, "choose a folder outside" in err) == (1, True)
