"""Retention: which objects may be deleted, and their deletion, rows before files.

The rows of an object go in one transaction, which notes its file as one to remove; the file goes after the commit. What
a crash leaves between the two is a note, and whoever comes by next removes the file. An object that arrives again
meanwhile takes its note away, and keeps its file.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from storage.catalogue import forget
from storage.database import Database, current_time
from storage.faultpoint import faultpoint
from storage.files import ObjectStore
from storage.schema import Delivery, FileToRemove, Job, LegalHold, Series, SoughtCommitment, StoredObject
from storage.states import DeliveryState, ObjectKind, SeriesState
from storage.transitions import JobState

#: What was received, under its own UID or another object's.
ORIGINALS = frozenset({ObjectKind.ORIGINAL, ObjectKind.ASIDE, ObjectKind.FETCHED})
RESULTS = frozenset({ObjectKind.RESULT})


#: Files that are removed in one transaction.
_FILES_AT_ONCE = 20


@dataclass(frozen=True, kw_only=True)
class DeletedObject:
    """An object that was here."""

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    digest: str
    #: Bytes.
    size: int
    received_at: datetime
    job_id: int | None


def deletable(
    tx: Session, kinds: Collection[ObjectKind], *, before: datetime | None = None, after: int = 0, limit: int
) -> list[int]:
    """Numbers of objects that nothing needs any more, the oldest first, from the one behind `after`.

    before: only what was received before then.
    """
    query = select(StoredObject.id).where(StoredObject.kind.in_(kinds), StoredObject.id > after, *_let_go())
    if before is not None:
        query = query.where(StoredObject.received_at < before)
    return list(tx.scalars(query.order_by(StoredObject.id).limit(limit)))


def delete_objects(tx: Session, numbers: Collection[int]) -> list[DeletedObject]:
    """Delete the rows of those of the objects that nothing needs; their files go by `remove_files`, later.

    What another transaction is about is left alone.
    """
    # First the locks, then a statement of its own that sees what was committed until they were had.
    locked = select(StoredObject.id).where(StoredObject.id.in_(numbers)).order_by(StoredObject.id)
    held = list(tx.scalars(locked.with_for_update(skip_locked=True)))
    free = select(StoredObject).where(StoredObject.id.in_(held), *_let_go()).order_by(StoredObject.id)
    objects = list(tx.scalars(free.execution_options(populate_existing=True)))
    gone = [object.id for object in objects]
    now = current_time(tx)
    tx.execute(delete(Delivery).where(Delivery.object_id.in_(gone)))
    forget(tx, gone)
    tx.execute(delete(StoredObject).where(StoredObject.id.in_(gone)))
    digests = {object.digest for object in objects}
    shared = set(tx.scalars(select(StoredObject.digest).where(StoredObject.digest.in_(digests))))
    tx.add_all(FileToRemove(digest=digest, since=now) for digest in sorted(digests - shared))
    tx.flush()
    return [_told(object) for object in objects]


def remove_files(database: Database, store: ObjectStore) -> int:
    """Remove the files of all that was deleted; how many. Some at a time, in a transaction that holds their notes."""
    removed = 0
    with database.reading() as tx:
        digests = list(tx.scalars(select(FileToRemove.digest).order_by(FileToRemove.since)))
    for start in range(0, len(digests), _FILES_AT_ONCE):
        wanted = FileToRemove.digest.in_(digests[start : start + _FILES_AT_ONCE])
        with database.transaction() as tx:
            # What is wanted again has no note any more, and what another process removes has a locked one.
            held = list(tx.scalars(select(FileToRemove.digest).where(wanted).with_for_update(skip_locked=True)))
            used = set(tx.scalars(select(StoredObject.digest).where(StoredObject.digest.in_(held))))
            for digest in held:
                if digest not in used:
                    store.remove(digest)
                    removed += 1
                    faultpoint("retention.removed")
            tx.execute(delete(FileToRemove).where(FileToRemove.digest.in_(held)))
    return removed


def place_hold(tx: Session, study_instance_uid: str, *, reason: str, by: str) -> bool:
    """Let nothing of a study be deleted; whether that is new. A study may be held before anything of it is here."""
    if tx.get(LegalHold, study_instance_uid, with_for_update=True) is not None:
        return False
    tx.add(LegalHold(study_instance_uid=study_instance_uid, reason=reason, placed_by=by, placed_at=current_time(tx)))
    tx.flush()
    # A deletion that has not seen the hold yet has ended when this has had its locks.
    of_study = select(StoredObject.id).where(StoredObject.study_instance_uid == study_instance_uid)
    tx.execute(of_study.order_by(StoredObject.id).with_for_update())
    return True


def lift_hold(tx: Session, study_instance_uid: str) -> bool:
    """Let retention have a study again; whether it was held."""
    hold = tx.get(LegalHold, study_instance_uid, with_for_update=True)
    if hold is None:
        return False
    tx.delete(hold)
    tx.flush()
    return True


def kept(tx: Session) -> dict[ObjectKind, tuple[int, int]]:
    """How many objects are kept of each kind, and how many bytes they have."""
    query = select(StoredObject.kind, func.count(), func.sum(StoredObject.size)).group_by(StoredObject.kind)
    found = {kind: (count, int(size)) for kind, count, size in tx.execute(query)}
    return {kind: found.get(kind, (0, 0)) for kind in ObjectKind}


def holds(tx: Session) -> Sequence[LegalHold]:
    """All legal holds, the oldest first."""
    return tx.scalars(select(LegalHold).order_by(LegalHold.placed_at, LegalHold.study_instance_uid)).all()


def _let_go() -> tuple[ColumnElement[bool], ...]:
    """What is true of an object that nothing needs: no job, no delivery, no open series, no legal hold.

    A job lets go of its objects when it is committed or declined; or delivered, where no destination was asked for
    commitment. A failed job does not: it can be retried, and what it has made is not delivered.
    """
    asked = exists().where(SoughtCommitment.job_id == Job.id)
    settled = or_(
        Job.state.in_((JobState.COMMITTED, JobState.DECLINED)), and_(Job.state == JobState.DELIVERED, not_(asked))
    )
    of_job = exists().where(Job.id == StoredObject.job_id, not_(settled))
    # A result may be delivered by a later job than the one that has made it.
    of_delivery = exists().where(
        Delivery.object_id == StoredObject.id,
        Delivery.job_id == Job.id,
        or_(Delivery.state == DeliveryState.WAITING, not_(settled)),
    )
    of_series = and_(
        StoredObject.job_id.is_(None),
        exists().where(
            Series.series_instance_uid == StoredObject.series_instance_uid, Series.state == SeriesState.OPEN
        ),
    )
    held = exists().where(LegalHold.study_instance_uid == StoredObject.study_instance_uid)
    return not_(of_job), not_(of_delivery), not_(of_series), not_(held)


def _told(object: StoredObject) -> DeletedObject:
    return DeletedObject(
        kind=object.kind,
        sop_class_uid=object.sop_class_uid,
        sop_instance_uid=object.sop_instance_uid,
        series_instance_uid=object.series_instance_uid,
        study_instance_uid=object.study_instance_uid,
        digest=object.digest,
        size=object.size,
        received_at=object.received_at,
        job_id=object.job_id,
    )
