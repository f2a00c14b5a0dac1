"""Retention at work: what has had its days is deleted, or what makes room on a low disk, each with its audit row."""

import threading
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial

import structlog

from config.retention import RetentionSettings
from dicom_node.audit import Action, record
from storage.database import Database, current_time
from storage.faultpoint import faultpoint
from storage.files import ObjectStore
from storage.retention import ORIGINALS, RESULTS, deletable, delete_objects, remove_files
from storage.states import ObjectKind

log = structlog.get_logger()

_ACTOR = "retention"
#: Objects that one transaction deletes: those who receive do not wait longer than a moment for it.
_AT_ONCE = 20
#: Seconds between two transactions.
_PAUSE = 0.05


class Retention:
    """What is deleted of a node's objects, and why; stopping ends a pass between two transactions."""

    def __init__(
        self, database: Database, store: ObjectStore, settings: RetentionSettings, stopping: threading.Event
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._stopping = stopping

    def keep_to_days(self) -> int:
        """Delete what is older than its kind is kept; how many objects. First come files that a crash has left."""
        remove_files(self._database, self._store)
        with self._database.reading() as tx:
            now = current_time(tx)
        days = ((RESULTS, self._settings.results_days), (ORIGINALS, self._settings.originals_days))
        return sum(
            self._delete(kinds, f"kept for {number:g} days", lambda: True, before=now - timedelta(days=number))
            for kinds, number in days
            if number is not None
        )

    def make_room(self, is_low: Callable[[], bool]) -> int:
        """Delete the oldest of the kinds that may be, results before originals, while the disk is low; how many."""
        kinds = ((RESULTS, self._settings.results_make_room), (ORIGINALS, self._settings.originals_make_room))
        return sum(self._delete(kind, "the disk is low", is_low) for kind, may in kinds if may)

    def _delete(
        self,
        kinds: Collection[ObjectKind],
        reason: str,
        go_on: Callable[[], bool],
        before: datetime | None = None,
    ) -> int:
        count = size = after = 0
        find = partial(deletable, kinds=kinds, before=before, limit=_AT_ONCE)
        while go_on() and not self._stopping.wait(_PAUSE):
            with self._database.reading() as tx:
                numbers = find(tx, after=after)
            if not numbers:
                break
            after = numbers[-1]
            with self._database.transaction() as tx:
                deleted = delete_objects(tx, numbers)
                for object in deleted:
                    record(
                        tx,
                        Action.OBJECT_DELETED,
                        actor=_ACTOR,
                        study_instance_uid=object.study_instance_uid,
                        series_instance_uid=object.series_instance_uid,
                        sop_instance_uid=object.sop_instance_uid,
                        job_id=object.job_id,
                        details={
                            "reason": reason,
                            "kind": object.kind.value,
                            "digest": object.digest,
                            "bytes": object.size,
                            "sop_class_uid": object.sop_class_uid,
                            "received": object.received_at.isoformat(timespec="seconds"),
                        },
                    )
            faultpoint("retention.deleted")
            remove_files(self._database, self._store)
            count, size = count + len(deleted), size + sum(object.size for object in deleted)
        if count:
            log.info("objects deleted", objects=count, bytes=size, reason=reason)
        return count
