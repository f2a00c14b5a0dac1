"""The scrubber: finds files that have changed or are missing, and files that no row knows.

A file that has changed is moved aside, into `quarantine`, and its row marked; so is the row of one that is missing. An
object that a peer sends again brings a whole file, which takes the mark away.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.errors import DamagedObject, StorageUnavailable
from storage.database import Database, current_time
from storage.files import ObjectStore, StoredFile
from storage.schema import FileToRemove, Job, StoredObject
from storage.states import Damage
from storage.transitions import JobState

#: A file without a row that is younger may be about to get one.
ORPHAN_SECONDS = 3600.0
#: Digests that one query asks for; databases bound the number of their parameters.
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one object's file."""

    object_id: int
    digest: str
    #: Bytes, as its row says.
    size: int
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    #: None if it is whole.
    damage: Damage | None
    #: What was known before.
    before: Damage | None

    @property
    def is_news(self) -> bool:
        """Whether something has changed that a person should know of."""
        return self.damage != self.before


def longest_unread(tx: Session, *, before: datetime, limit: int) -> Sequence[StoredObject]:
    """Objects that were not compared with their digest since `before`, those first that were not for longest."""
    query = select(StoredObject).where(StoredObject.verified_at < before)
    return tx.scalars(query.order_by(StoredObject.verified_at, StoredObject.id).limit(limit)).all()


def examine(store: ObjectStore, object: StoredObject) -> Verdict:
    """Read an object's file and compare it with its digest; one that has changed is moved aside.

    Raises StorageUnavailable where the disk cannot be read at all.
    """
    return Verdict(
        object_id=object.id,
        digest=object.digest,
        size=object.size,
        sop_instance_uid=object.sop_instance_uid,
        series_instance_uid=object.series_instance_uid,
        study_instance_uid=object.study_instance_uid,
        damage=_damage(store, object.digest),
        before=object.damage,
    )


def note(tx: Session, store: ObjectStore, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Enter verdicts; those of objects that are still here, as they are now."""
    now, noted = current_time(tx), []
    locked = select(StoredObject).where(StoredObject.id.in_([verdict.object_id for verdict in verdicts]))
    ordered = locked.order_by(StoredObject.id).with_for_update().execution_options(populate_existing=True)
    rows = {row.id: row for row in tx.scalars(ordered)}
    for verdict in verdicts:
        row = rows.get(verdict.object_id)
        if row is None or row.digest != verdict.digest:
            continue  # Retention has deleted it, and its file; or an archive's copy has taken its place.
        damage = verdict.damage
        if damage in (Damage.MISSING, Damage.ALTERED) and store.path(row.digest).exists():
            damage = None  # A peer has sent it again meanwhile.
        if damage == Damage.MISSING and row.damage == Damage.ALTERED:
            damage = Damage.ALTERED  # It was moved aside.
        noted.append(replace(verdict, damage=damage, before=row.damage))
        row.damage, row.verified_at = damage, now
    tx.flush()
    return noted


def orphans(database: Database, store: ObjectStore) -> Iterator[StoredFile]:
    """Files that no row knows, and that none will: what a crash between the file and its row has left."""
    with database.reading() as tx:
        now = current_time(tx)
        # A running job has written results whose rows come when it ends.
        oldest = tx.scalar(select(func.min(Job.created_at)).where(Job.state == JobState.RUNNING))
    age = max(ORPHAN_SECONDS, (now - oldest).total_seconds() + ORPHAN_SECONDS if oldest is not None else 0)
    kept = store.files(older_than_seconds=age)
    while files := list(islice(kept, _AT_ONCE)):
        digests = [file.digest for file in files]
        with database.reading() as tx:
            known = set(tx.scalars(select(StoredObject.digest).where(StoredObject.digest.in_(digests))))
            # Its removal is under way.
            known |= set(tx.scalars(select(FileToRemove.digest).where(FileToRemove.digest.in_(digests))))
        yield from (file for file in files if file.digest not in known)


def damaged(tx: Session) -> Sequence[StoredObject]:
    """Objects whose file is known to be missing or changed."""
    return tx.scalars(select(StoredObject).where(StoredObject.damage.is_not(None)).order_by(StoredObject.id)).all()


def bytes_unread(tx: Session, *, before: datetime) -> int:
    """Bytes of the objects that were not compared with their digest since `before`."""
    return int(tx.scalar(select(func.sum(StoredObject.size)).where(StoredObject.verified_at < before)) or 0)


def _damage(store: ObjectStore, digest: str) -> Damage | None:
    try:
        store.verify(digest)
        return None
    except DamagedObject:
        pass
    except StorageUnavailable as error:
        if getattr(error.__cause__, "errno", None) != errno.EIO:
            raise
        store.check_writable()  # It is this file, not the whole disk.
        return Damage.UNREADABLE
    aside = store.quarantine(digest)
    if aside is None:
        return Damage.MISSING
    if store.is_whole(aside, digest):
        # A peer has sent it again, between the two looks at it.
        store.keep(aside, digest)
        return None
    return Damage.ALTERED
