"""A file is in the object store whole and durable, or it is not there."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import DamagedObject, StorageFull, StorageUnavailable
from dicom_node.network.incoming import IncomingFile
from dicom_node.network.receiving import Receiving
from storage.files import ObjectStore, StoredFile

CONTENT = b"a cine" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def received(store: ObjectStore, content: bytes = CONTENT, name: str = "received") -> Path:
    path = store.incoming / name
    path.write_bytes(content)
    return path


def kept(store: ObjectStore) -> list[Path]:
    return [path for path in (store.incoming.parent / "objects").rglob("*") if path.is_file()]


def test_a_kept_file_is_found_by_its_digest(store: ObjectStore) -> None:
    path = received(store)
    assert store.keep(path) == StoredFile(DIGEST, len(CONTENT))
    assert not path.exists()
    assert store.path(DIGEST).read_bytes() == CONTENT
    assert store.path(DIGEST).parts[-3:] == (DIGEST[:2], DIGEST[2:4], DIGEST)
    with store.open(DIGEST) as file:
        assert file.read() == CONTENT
    store.verify(DIGEST)


def test_a_known_digest_is_not_computed_again(store: ObjectStore) -> None:
    assert store.keep(received(store), DIGEST) == StoredFile(DIGEST, len(CONTENT))


def test_without_the_room_that_is_to_stay_free_nothing_is_made_and_what_has_come_is_kept(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "store", full_below_bytes=1 << 60)
    with pytest.raises(StorageFull):
        store.write(CONTENT)
    assert list(store.incoming.iterdir()) == []
    assert store.keep(received(store)).digest == DIGEST


def test_what_is_moved_aside_is_whole_and_out_of_the_way(store: ObjectStore) -> None:
    store.keep(received(store))
    aside = store.quarantine(DIGEST)
    assert aside is not None and aside.read_bytes() == CONTENT
    assert kept(store) == [] and store.quarantine(DIGEST) is None


def test_what_is_removed_is_gone_and_may_be_removed_again(store: ObjectStore) -> None:
    store.keep(received(store))
    store.remove(DIGEST)
    store.remove(DIGEST)
    assert kept(store) == list(store.files()) == []


def test_the_same_content_is_kept_once(store: ObjectStore) -> None:
    store.keep(received(store, name="one"))
    store.keep(received(store, name="other"))
    assert kept(store) == [store.path(DIGEST)]
    assert list(store.incoming.iterdir()) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_what_is_written_is_read_however_it_was_cut(store: ObjectStore, chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert store.write(iter(chunks)) == store.write(whole)
    with store.open(hashlib.sha256(whole).hexdigest()) as file:
        assert file.read() == whole


def test_an_error_while_writing_leaves_nothing(store: ObjectStore) -> None:
    def chunks() -> Iterator[bytes]:
        yield CONTENT
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write(chunks())
    assert kept(store) == [] and list(store.incoming.iterdir()) == []


def test_writers_of_the_same_file_at_once_do_not_disturb_each_other(store: ObjectStore) -> None:
    together = threading.Barrier(8)

    def write(number: int) -> str:
        own = ObjectStore(store.incoming.parent)
        path = received(own, name=str(number))
        together.wait(30)
        return own.keep(path).digest

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(write, range(8))) == {DIGEST}
    store.verify(DIGEST)
    assert kept(store) == [store.path(DIGEST)]


def test_all_that_leads_to_a_file_is_on_disk_before_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[Path, bool]] = []
    fsync = os.fsync
    root = tmp_path / "new" / "store"
    target = root / "objects" / DIGEST[:2] / DIGEST[2:4] / DIGEST

    def noted(handle: int) -> None:
        fsync(handle)
        synced.append((Path(f"/proc/self/fd/{handle}").readlink(), target.exists()))

    monkeypatch.setattr(os, "fsync", noted)
    store = ObjectStore(root)
    for folder in (tmp_path, root.parent, root):
        assert (folder, False) in synced
    synced.clear()

    path = received(store)
    store.keep(path)
    folders = [root / "objects", target.parent.parent]
    assert synced == [(path, False), *((folder, False) for folder in folders), (target.parent, True)]
    synced.clear()

    # Another process cannot know that the first one has come to the end of that.
    ObjectStore(root).keep(received(store))
    assert {folder for folder, _ in synced} >= {root, *folders, target.parent}
    synced.clear()

    # This one knows: the way is paid once, not with each file.
    store.keep(received(store))
    assert [folder for folder, _ in synced] == [path, target.parent]


def test_a_missing_file_is_damage(store: ObjectStore) -> None:
    with pytest.raises(DamagedObject, match=f"The object {DIGEST} is missing"):
        store.open(DIGEST)
    with pytest.raises(DamagedObject):
        store.verify(DIGEST)


def test_changed_bytes_are_damage_and_keeping_the_file_again_mends_it(store: ObjectStore) -> None:
    store.write(CONTENT)
    store.path(DIGEST).write_bytes(CONTENT[:-1])
    with pytest.raises(DamagedObject, match="another digest"):
        store.verify(DIGEST)
    store.keep(received(store))
    store.verify(DIGEST)


def test_a_store_that_is_gone_is_unavailable_and_its_objects_are_not_called_missing(
    store: ObjectStore,
) -> None:
    digest = store.write(CONTENT).digest
    root = store.incoming.parent
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(StorageUnavailable):
        store.open(digest)
    with pytest.raises(StorageUnavailable):
        store.write(CONTENT)
    with pytest.raises(StorageUnavailable):
        store.free_bytes()


def test_a_root_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(StorageUnavailable):
        ObjectStore(tmp_path / "store")


@pytest.mark.parametrize("name", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1], f"{DIGEST}\n"])
def test_what_is_no_digest_names_no_file(store: ObjectStore, name: str) -> None:
    with pytest.raises(ValueError, match="64 lower-case hexadecimal"):
        store.path(name)


def test_a_full_disk_leaves_no_half_object(small_disk: Path) -> None:
    store = ObjectStore(small_disk / "store")
    assert 0 < store.free_bytes() <= 2**20
    store.write(CONTENT)
    with pytest.raises(StorageFull, match="is full"):
        store.write(bytes(2**20) for _ in range(4))
    assert kept(store) == [store.path(DIGEST)]
    assert list(store.incoming.iterdir()) == []
    store.write(b"small")


def test_a_disk_that_fails_is_unavailable(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path = received(store)
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageUnavailable, match="Input/output error"):
        store.keep(path)
    assert kept(store) == [] and path.exists()


def test_a_process_killed_while_it_writes_leaves_no_half_object(store: ObjectStore) -> None:
    program = """if True:
        import sys
        from pathlib import Path
        from storage.files import ObjectStore
        def chunks():
            for number in range(10**6):
                yield bytes(1000)
                if number == 100:
                    print("writing", flush=True)
        ObjectStore(Path(sys.argv[1])).write(chunks())
    """
    with subprocess.Popen([sys.executable, "-c", program, store.incoming.parent], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n"
        writer.kill()
    assert kept(store) == []
    assert len(list(store.incoming.iterdir())) == 1
    assert store.sweep(older_than_seconds=-1) == 1
    assert list(store.incoming.iterdir()) == []


def test_sweeping_spares_what_is_being_written(store: ObjectStore) -> None:
    old, new = received(store, name="old"), received(store, name="new")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert store.sweep(older_than_seconds=3600) == 1
    assert not old.exists() and new.exists()


def test_sweeping_spares_what_is_held_however_old_a_clock_makes_it_look(store: ObjectStore) -> None:
    swept = []

    def fill(file: BinaryIO) -> None:
        file.write(b"half of it")
        swept.append(store.sweep(older_than_seconds=-3600))

    store.write_with(fill)
    assert (swept, len(kept(store))) == ([0], 1)


def test_sweeping_spares_what_is_received_until_it_is_kept_or_dropped(store: ObjectStore) -> None:
    file = IncomingFile(Receiving(store.incoming), lambda: b"header", lambda: True)
    file.write(b"fragment")
    assert store.sweep(older_than_seconds=-3600) == 0
    digest = file.complete()
    assert store.sweep(older_than_seconds=-3600) == 0
    store.keep(file.path, digest)
    file.discard()
    assert kept(store) == [store.path(digest)]
