"""What looking after 100,000 small objects takes: a start, a backup, a pass of scrubber and of retention, on SQLite.

`python -m benchmarks.upkeep 20000` takes fewer.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks._objects import fill
from benchmarks._place import folder_on_disk
from config.retention import RetentionSettings
from dicom_node.workflow.retention import Retention
from dicom_node.workflow.scrubbing import AT_ONCE, scrub
from storage.backup import back_up, restore
from storage.database import Database, current_time
from storage.files import ObjectStore
from storage.scrub import longest_unread, orphans
from storage.soundness import make_ready

_OBJECTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
_BYTES = 10_000
#: Of these the scrubber reads, and retention deletes, so many.
_SAMPLE = 2_000


def main() -> None:
    """Print a line for each."""
    with folder_on_disk() as folder:
        store = ObjectStore(folder / "var")
        url = f"sqlite:///{store.root / 'fullfield.db'}"
        database = Database(url)
        database.migrate()
        with _timed("fill", _OBJECTS):
            fill(database, store, _OBJECTS, _BYTES, old=_SAMPLE)
        size = (store.root / "fullfield.db").stat().st_size >> 20
        print(f"{_OBJECTS} objects of {_BYTES} bytes, database {size} MB")
        with _timed("checks of a start", _OBJECTS):
            make_ready(database, store)
        with _timed("backup by links", _OBJECTS):
            back_up(url, database, store, folder / "backup", lambda *_: None)
        with _timed("the next backup", _OBJECTS):
            back_up(url, database, store, folder / "backup", lambda *_: None)
        with _timed("restore", _OBJECTS):
            again = ObjectStore(folder / "again")
            assert restore(f"sqlite:///{again.root / 'fullfield.db'}", again, folder / "backup", lambda *_: None) == []
        with _timed("look for orphans", _OBJECTS):
            assert list(orphans(database, store)) == []
        with _timed("scrub", _SAMPLE):
            _scrub(database, store)
        nothing = Retention(database, store, RetentionSettings(originals_days=300), threading.Event())
        with _timed("pass of retention with nothing to delete", _OBJECTS):
            assert nothing.keep_to_days() == 0
        few = Retention(database, store, RetentionSettings(originals_days=50), threading.Event())
        with _timed("pass of retention", _SAMPLE):
            assert few.keep_to_days() == _SAMPLE
        database.close()


def _scrub(database: Database, store: ObjectStore) -> None:
    for _ in range(_SAMPLE // AT_ONCE):
        with database.reading() as tx:
            objects = longest_unread(tx, before=current_time(tx), limit=AT_ONCE)
        scrub(database, store, objects, lambda _: True)


@contextmanager
def _timed(what: str, objects: int) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took = time.perf_counter() - began
    print(f"{what}: {took:.1f} s, {objects / took:.0f} objects/s", flush=True)


if __name__ == "__main__":
    main()
