"""The audit trail: append-only, each row chained to the one before by hash.

Triggers in the database refuse to change or delete a row; the chain shows it if someone did so past them.
What the chain cannot show is that the newest rows are missing: for that, `hash` of a row has to be noted
elsewhere.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from config.errors import DamagedObject
from storage.database import current_time
from storage.entering import table_of
from storage.schema import AuditRow

#: What the first row is chained to.
BEGINNING = "0" * 64

#: Number of the PostgreSQL advisory lock that orders the writers.
_LOCK = 0x46554C4C_02

#: Where a session keeps the rows that wait for its commit.
_WAITING = "audit rows"

#: What is hashed, beside the hash of the row before.
_TOLD = (
    "id",
    "at",
    "action",
    "outcome",
    "actor",
    "peer_ae",
    "peer_address",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "job_id",
    "model_digest",
    "details",
)

_ROWS = table_of(AuditRow)
_COLUMNS = (*_TOLD, "previous_hash", "hash")
_LAST = select(_ROWS.c.id, _ROWS.c.hash).order_by(_ROWS.c.id.desc()).limit(1)


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """A step to be told."""

    action: str
    outcome: Literal["success", "refused", "failed"]
    #: Who took it: a part of Fullfield such as ``listener``, or a person.
    actor: str
    peer_ae: str | None = None
    peer_address: str | None = None
    study_instance_uid: str | None = None
    series_instance_uid: str | None = None
    sop_instance_uid: str | None = None
    job_id: int | None = None
    model_digest: str | None = None
    #: Whatever else belongs to it, as JSON can hold it.
    details: Mapping[str, Any] = field(default_factory=dict)


def append(tx: Session, entry: AuditEntry) -> AuditRow:
    """Add a row, to be committed together with what it tells; it gets its number and hash at the commit.

    Raises TypeError or ValueError for details that JSON cannot hold.
    """
    row = AuditRow(
        at=current_time(tx),
        action=str(entry.action),
        outcome=entry.outcome,
        actor=entry.actor,
        peer_ae=entry.peer_ae,
        peer_address=entry.peer_address,
        study_instance_uid=entry.study_instance_uid,
        series_instance_uid=entry.series_instance_uid,
        sop_instance_uid=entry.sop_instance_uid,
        job_id=entry.job_id,
        model_digest=entry.model_digest,
        details=json.loads(_canonical(dict(entry.details))),
    )
    if _WAITING not in tx.info:
        tx.info[_WAITING] = []
        event.listen(tx, "before_commit", _chain)
    tx.info[_WAITING].append(row)
    return row


def trail(tx: Session, *, study: str | None = None, job: int | None = None, limit: int | None = None) -> list[AuditRow]:
    """Rows of a study, of a job, or all, oldest first; with a limit the newest so many of them."""
    _chain(tx)
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if study is not None:
        query = query.where(AuditRow.study_instance_uid == study)
    if job is not None:
        query = query.where(AuditRow.job_id == job)
    return list(reversed(tx.scalars(query).all()))


def verify(tx: Session) -> int:
    """Check every row against its hash and the row before; how many there are, or DamagedObject."""
    _chain(tx)
    expected_id, previous_hash = 1, BEGINNING
    for row in tx.scalars(select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=500)):
        if row.id != expected_id:
            raise DamagedObject(f"Row {expected_id} of the audit trail is missing.")
        if row.previous_hash != previous_hash or row.hash != _hash(row):
            raise DamagedObject(f"Row {row.id} of the audit trail was changed after it was written.")
        expected_id, previous_hash = row.id + 1, row.hash
        tx.expunge(row)
    return expected_id - 1


def _chain(tx: Session) -> None:
    """Write the rows that wait for the commit.

    The writers of the trail take turns from here to the end of the transaction, so this comes last: a
    writer that then still asked for a row which another has locked could wait for that one for ever.
    """
    if not tx.info.get(_WAITING) or tx.in_nested_transaction():
        return
    tx.flush()
    if tx.get_bind().dialect.name == "postgresql":
        tx.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last = tx.execute(_LAST).one_or_none()
    last_id, last_hash = last or (0, BEGINNING)
    rows: list[AuditRow] = tx.info[_WAITING]
    for row in rows:
        row.id, row.previous_hash = last_id + 1, last_hash
        row.hash = _hash(row)
        last_id, last_hash = row.id, row.hash
    tx.execute(_ROWS.insert(), [{name: getattr(row, name) for name in _COLUMNS} for row in rows])
    rows.clear()


def _hash(row: AuditRow) -> str:
    # Columns without a value are left out, so that a column added later changes no hash.
    told = {name: value for name in _TOLD if (value := getattr(row, name)) is not None}
    return hashlib.sha256(row.previous_hash.encode() + _canonical(told).encode()).hexdigest()


def _canonical(value: dict[str, Any]) -> str:
    """JSON with one spelling for one value; ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_spelled)


def _spelled(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    raise TypeError(f"The audit trail cannot hold a {type(value).__name__}.")
