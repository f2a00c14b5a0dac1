"""The scrubber at work: every object is read again within a period, at the pace that this takes and no faster."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import takewhile

import structlog
from sqlalchemy.orm import Session

from config.errors import FullfieldError
from dicom_node.audit import Action, record
from dicom_node.logs import hashed
from storage.database import Database, current_time
from storage.files import ObjectStore
from storage.schema import StoredObject
from storage.scrub import Verdict, bytes_unread, examine, longest_unread, note, orphans

log = structlog.get_logger()

ACTOR = "scrubber"
#: Objects whose verdicts one transaction enters.
AT_ONCE = 20
#: The pace is twice that at which a period would just do, so that there is time for a standstill, and at least this.
_HEADROOM, _LEAST_BYTES_A_SECOND = 2.0, 1 << 20
#: Seconds to wait when nothing is due, between two groups of objects, and when the storage is away.
_IDLE, _PAUSE, _AWAY = 5.0, 0.1, 30.0
#: Seconds between two looks for files that no row knows.
_ORPHANS_EVERY = 86400.0


class Scrubber:
    """Reads what was not read for so many days, from `start` to `stop`."""

    def __init__(self, database: Database, store: ObjectStore, days: float) -> None:
        self._database = database
        self._store = store
        self._period = timedelta(days=days)
        #: Bytes of all objects, counted when something first comes due.
        self._held: int | None = None
        #: Files that no object has, at the last look; None before the first.
        self.orphans: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrubber", daemon=True)

    def start(self) -> None:
        """Begin with what was not read for longest."""
        self._thread.start()

    def stop(self, grace_seconds: float = 10) -> None:
        """End, after the object that is being read."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(grace_seconds)

    def _run(self) -> None:
        looked_at: float | None = None
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                if looked_at is None or time.monotonic() - looked_at >= _ORPHANS_EVERY:
                    looked_at = time.monotonic()
                    self._look_for_orphans()
                wait = _PAUSE if self._scrub_next() else _IDLE
            except FullfieldError as error:
                log.warning("the scrubber waits for the storage", reason=str(error))
                wait = _AWAY
            except Exception:
                log.exception("the scrubber met an error")
                wait = _AWAY

    def _scrub_next(self) -> bool:
        """Read the next objects that are due; whether there were any."""
        with self._database.reading() as tx:
            now = current_time(tx)
            due = longest_unread(tx, before=now - self._period, limit=AT_ONCE)
            if not due:
                self._held = None
                return False
            if self._held is None:
                self._held = bytes_unread(tx, before=now)
        pace = max(_HEADROOM * self._held / self._period.total_seconds(), _LEAST_BYTES_A_SECOND)
        noted = scrub(self._database, self._store, due, lambda object: not self._stopping.wait(object.size / pace))
        for verdict in noted:
            sop_instance = hashed(verdict.sop_instance_uid)
            if verdict.is_news and verdict.damage is not None:
                log.error("an object is damaged", damage=verdict.damage.value, sop_instance=sop_instance)
            elif verdict.is_news:
                log.info("an object is whole again", sop_instance=sop_instance)
        return True

    def _look_for_orphans(self) -> None:
        count = size = 0
        for file in takewhile(lambda _: not self._stopping.is_set(), orphans(self._database, self._store)):
            count, size = count + 1, size + file.size
        self.orphans = count
        if count:
            log.warning("files that no object has", files=count, bytes=size, mend="fullfield storage repair")


def scrub(
    database: Database, store: ObjectStore, objects: Sequence[StoredObject], go_on: Callable[[StoredObject], bool]
) -> list[Verdict]:
    """Read objects, and tell the audit trail what is news; all verdicts.

    go_on: asked after each object; False ends it with those that were read.
    """
    verdicts = []
    for object in objects:
        verdicts.append(examine(store, object))
        if not go_on(object):
            break
    with database.transaction() as tx:
        noted = note(tx, store, verdicts)
        for verdict in noted:
            if verdict.is_news:
                _tell(tx, verdict)
    return noted


def _tell(tx: Session, verdict: Verdict) -> None:
    record(
        tx,
        Action.DAMAGE_MENDED if verdict.damage is None else Action.DAMAGE_FOUND,
        actor=ACTOR,
        outcome="success" if verdict.damage is None else "failed",
        study_instance_uid=verdict.study_instance_uid,
        series_instance_uid=verdict.series_instance_uid,
        sop_instance_uid=verdict.sop_instance_uid,
        details={"digest": verdict.digest} | ({"reason": verdict.damage.value} if verdict.damage else {}),
    )
