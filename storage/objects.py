"""Objects as the database knows them: kept once, found again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pydicom.dataset import Dataset
from sqlalchemy import bindparam, delete, literal_column, select
from sqlalchemy.orm import Session, make_transient_to_detached

from storage.catalogue import catalogue, forget
from storage.database import current_time
from storage.entering import enter, table_of
from storage.schema import FileToRemove, StoredObject
from storage.states import ObjectKind

#: UIDs that one query asks for; databases bound the number of their parameters.
_MOST_AT_ONCE = 500

_FILES_TO_REMOVE = table_of(FileToRemove)
_NOT_TO_BE_REMOVED = delete(_FILES_TO_REMOVE).where(_FILES_TO_REMOVE.c.digest == bindparam("wanted"))


@dataclass(frozen=True, kw_only=True)
class ReceivedObject:
    """An object whose bytes are in the object store, before the database knows of it."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    frames: int
    #: SHA-256 of the part-10 file, its name in the object store.
    digest: str
    #: Bytes of the part-10 file.
    size: int
    kind: ObjectKind = ObjectKind.ORIGINAL
    #: Who sent it, to whom, from where; empty for a result.
    calling_ae: str = ""
    called_ae: str = ""
    peer_address: str = ""
    #: Aware; None for now. Its bytes count as compared with the digest then.
    received_at: datetime | None = None
    #: The job that made it, for a result.
    job_id: int | None = None
    #: Its data set, with or without pixels, for the catalogue; without one it is entered there later.
    header: Dataset | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Kept:
    """What became of a received object."""

    object: StoredObject
    #: ``repeated``: the same UID and bytes were here before, and `object` is that one. ``aside``: another
    #: object had the UID before, and this one is kept beside it. ``mended``: it has taken the place of the file of
    #: `object`, which was damaged.
    outcome: Literal["new", "repeated", "aside", "mended"]
    #: Whether the UID is that of a result of this node.
    is_result: bool = False


def keep_object(tx: Session, received: ReceivedObject) -> Kept:
    """Enter an object, and in the catalogue what its header says, unless it is here already.

    What was fetched from an archive is no reason to keep the object itself aside when it is sent here.
    Two processes may enter the same object at once: the second waits for the first to commit, then finds
    its row.
    """
    values = _values(received, received.received_at or current_time(tx))
    is_result = False
    while (number := enter(tx, StoredObject, values)) is None:
        known = _same_object(tx, received)
        first = find_object(tx, received.sop_instance_uid)
        if first is not None and first.kind == ObjectKind.FETCHED and received.kind != ObjectKind.FETCHED:
            if known is not None:
                return Kept(_taken_over(tx, first, known, received), "new")
            _set_aside(tx, first)
            values["kind"] = received.kind
            continue
        is_result = first is not None and first.kind == ObjectKind.RESULT
        if known is not None:
            known.damage = None  # Its file was just replaced by a whole one.
            return Kept(known, "repeated", is_result)
        values["kind"] = received.kind if first is None else ObjectKind.ASIDE
    # A file of these bytes that is to be removed is wanted again; where that is under way, this waits for it. It comes
    # after the row, which may have waited for an earlier one's deletion.
    tx.execute(_NOT_TO_BE_REMOVED, {"wanted": received.digest})
    row = StoredObject(id=number, **values)
    make_transient_to_detached(row)
    tx.add(row)
    if row.kind == ObjectKind.ASIDE:
        return Kept(row, "aside", is_result)
    if received.header is not None:
        catalogue(tx, row, received.header)
    return Kept(row, "new", is_result)


def mend_object(tx: Session, damaged: StoredObject, received: ReceivedObject) -> Kept:
    """Have a copy of an object, with the same bytes or others, be the file of one that is damaged.

    It stays what it was otherwise: who sent it and when, and which job takes it in.
    """
    twin = _same_object(tx, received)
    if twin is not None and twin is not damaged:
        # The same copy came before, and was kept aside.
        tx.delete(twin)
        tx.flush()
    is_changed = damaged.digest != received.digest
    damaged.digest, damaged.size = received.digest, received.size
    damaged.transfer_syntax_uid, damaged.frames = received.transfer_syntax_uid, received.frames
    damaged.damage, damaged.verified_at = None, current_time(tx)
    tx.flush()
    tx.execute(_NOT_TO_BE_REMOVED, {"wanted": received.digest})
    if is_changed and received.header is not None:
        forget(tx, [damaged.id])
        catalogue(tx, damaged, received.header)
    return Kept(damaged, "mended")


def find_object(tx: Session, sop_instance_uid: str) -> StoredObject | None:
    """The object with this UID; never one kept aside."""
    # Written out, as in the index's own condition: only so does SQLite use the index.
    not_aside = StoredObject.kind != literal_column("'aside'")
    query = select(StoredObject).where(StoredObject.sop_instance_uid == sop_instance_uid, not_aside)
    return tx.scalars(query).one_or_none()


def has_results(tx: Session, series_instance_uid: str) -> bool:
    """Whether results of this node are of that series."""
    query = select(StoredObject.id).where(
        StoredObject.series_instance_uid == series_instance_uid, StoredObject.kind == ObjectKind.RESULT
    )
    return tx.scalars(query.limit(1)).first() is not None


def objects_under(tx: Session, sop_instance_uids: Sequence[str]) -> dict[str, list[StoredObject]]:
    """Everything that is kept under these UIDs, what is kept aside too; a UID that is not known is left out."""
    found: dict[str, list[StoredObject]] = {}
    for start in range(0, len(sop_instance_uids), _MOST_AT_ONCE):
        uids = sop_instance_uids[start : start + _MOST_AT_ONCE]
        for row in tx.scalars(select(StoredObject).where(StoredObject.sop_instance_uid.in_(uids))):
            found.setdefault(row.sop_instance_uid, []).append(row)
    return found


def objects_of_job(
    tx: Session, job_id: int, kind: ObjectKind | Literal["original", "result"] = ObjectKind.ORIGINAL
) -> list[StoredObject]:
    """What a job takes in (originals) or has made (results), in the order of arrival."""
    query = (
        select(StoredObject)
        .where(StoredObject.job_id == job_id, StoredObject.kind == ObjectKind(kind))
        .order_by(StoredObject.received_at, StoredObject.id)
    )
    return list(tx.scalars(query))


def _taken_over(tx: Session, fetched: StoredObject, known: StoredObject, received: ReceivedObject) -> StoredObject:
    """What was fetched has now been sent by itself, the same bytes: from now on it is an original like any other."""
    if known is not fetched:
        _set_aside(tx, fetched)
    known.kind = received.kind
    known.calling_ae, known.called_ae = received.calling_ae, received.called_ae
    known.peer_address, known.received_at = received.peer_address, received.received_at or current_time(tx)
    known.damage = None  # Its file was just replaced by a whole one.
    tx.flush()
    if known is not fetched and received.header is not None:
        catalogue(tx, known, received.header)
    return known


def _set_aside(tx: Session, fetched: StoredObject) -> None:
    """Make room for the object itself, where an archive's copy with other bytes came before it."""
    forget(tx, [fetched.id])
    fetched.kind = ObjectKind.ASIDE
    tx.flush()


def _same_object(tx: Session, received: ReceivedObject) -> StoredObject | None:
    query = select(StoredObject).where(
        StoredObject.sop_instance_uid == received.sop_instance_uid, StoredObject.digest == received.digest
    )
    # Retention cannot delete it until this transaction has ended, and what it deletes is not found.
    return tx.scalars(query.with_for_update(read=True, key_share=True)).one_or_none()


def _values(received: ReceivedObject, received_at: datetime) -> dict[str, Any]:
    return {
        "sop_instance_uid": received.sop_instance_uid,
        "sop_class_uid": received.sop_class_uid,
        "transfer_syntax_uid": received.transfer_syntax_uid,
        "study_instance_uid": received.study_instance_uid,
        "series_instance_uid": received.series_instance_uid,
        "modality": received.modality,
        "frames": received.frames,
        "digest": received.digest,
        "size": received.size,
        "kind": received.kind,
        "calling_ae": received.calling_ae,
        "called_ae": received.called_ae,
        "peer_address": received.peer_address,
        "received_at": received_at,
        "verified_at": received_at,
        "job_id": received.job_id,
        "damage": None,
    }
