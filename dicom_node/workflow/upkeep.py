"""Upkeep of the storage: the disk's watermarks, what a crash has left over, and retention, in a thread of its own."""

import threading
import time
from enum import StrEnum

import structlog

from config.errors import FullfieldError
from config.settings import StorageSettings
from dicom_node.audit import Action, record
from dicom_node.workflow.retention import Retention
from storage.database import Database
from storage.files import ObjectStore

log = structlog.get_logger()

_ACTOR = "storage"
#: Seconds between two looks at the disk.
_EVERY = 5.0
#: Seconds between two looks for what has had its days; while the disk is low, it is looked at each time.
_PASS_EVERY = 3600.0
#: A file in the incoming folder that was last written to so long ago is left from a crash.
_LEFT_OVER_SECONDS = 3600.0
#: The same while the disk is low. What somebody still writes to is held, and spared at any age.
_LEFT_OVER_SECONDS_IF_LOW = 600.0
#: The disk counts as low until so much more than the watermark is free: it is not low and roomy by turns.
_CLEARLY = 1.1


class Room(StrEnum):
    """How much room the disk has."""

    ENOUGH = "enough"
    #: Below the low watermark: somebody should look at it.
    LOW = "low"
    #: Below the full watermark: nothing is received, and no result made.
    FULL = "full"


class Upkeep:
    """Looks after the storage from `start` to `stop`."""

    def __init__(self, database: Database, store: ObjectStore, settings: StorageSettings) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._stopping = threading.Event()
        self._retention = Retention(database, store, settings.retention, self._stopping)
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._room = Room.ENOUGH
        self._passed_at: float | None = None

    def start(self) -> None:
        """Begin, with what the node before has left."""
        self._thread.start()

    def stop(self, grace_seconds: float = 10) -> None:
        """End, after the transaction that is under way."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(grace_seconds)

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except FullfieldError as error:
                log.warning("the storage could not be looked after", reason=str(error))
            except Exception:
                log.exception("the storage could not be looked after")
            if self._stopping.wait(_EVERY):
                return

    def look(self) -> None:
        """Look once, and do what is to be done."""
        self._watch()
        low = self._room != Room.ENOUGH
        self._sweep(_LEFT_OVER_SECONDS_IF_LOW if low else _LEFT_OVER_SECONDS)
        if low or self._passed_at is None or time.monotonic() - self._passed_at > _PASS_EVERY:
            self._retention.keep_to_days()
            self._passed_at = time.monotonic()
        if low and self._retention.make_room(lambda: self._now() != Room.ENOUGH):
            self._watch()

    def _sweep(self, older_than_seconds: float) -> None:
        swept = self._store.sweep(older_than_seconds)
        if swept:
            log.info("left-over files deleted", files=swept)
            self._tell(Action.LEFT_OVERS_DELETED, files=swept)

    def _watch(self) -> None:
        """Tell when the disk has come to have more or less room."""
        before, self._room = self._room, self._now()
        if self._room == before:
            return
        free, low, full = self._store.free_bytes() >> 20, self._settings.low_mb, self._settings.full_below_mb
        if self._room == Room.ENOUGH:
            log.info("the disk has room again", free_mb=free)
            self._tell(Action.DISK_HAS_ROOM, free_mb=free)
        elif self._room == Room.LOW:
            reason = f"less than {low} MB are free; below {full} MB nothing is received"
            log.warning("the disk is low", free_mb=free, reason=reason)
            self._tell(Action.DISK_LOW, failed=True, reason=reason, free_mb=free)
        else:
            reason = f"less than {full} MB are free: nothing is received, and no result made"
            log.error("the disk is full", free_mb=free, reason=reason)
            self._tell(Action.DISK_FULL, failed=True, reason=reason, free_mb=free)

    def _now(self) -> Room:
        free, low = self._store.free_bytes(), self._settings.low_mb << 20
        if free < self._settings.full_below_mb << 20:
            return Room.FULL
        return Room.LOW if free < low * (1 if self._room == Room.ENOUGH else _CLEARLY) else Room.ENOUGH

    def _tell(self, action: Action, *, failed: bool = False, **details: str | int) -> None:
        with self._database.transaction() as tx:
            record(tx, action, actor=_ACTOR, outcome="failed" if failed else "success", details=details)
