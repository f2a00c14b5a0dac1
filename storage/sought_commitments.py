"""Storage commitment that this node seeks: a row for each request, from before it is made (PS3.4 J.3)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.schema import Job, SoughtCommitment
from storage.states import SoughtState

#: Something is to become of a request in these states.
_OPEN = (SoughtState.WAITING, SoughtState.ASKED)


def add_sought(
    tx: Session,
    *,
    job_id: int,
    destination: str,
    transaction_uid: str,
    items: Sequence[Sequence[str]],
    since: datetime | None = None,
) -> SoughtCommitment | None:
    """Enter a request that is due now; None if one for these objects stands already, or was answered well.

    since: when commitment to the objects was sought first; None for now.
    """
    listed = [list(item) for item in items]
    known = (*_OPEN, SoughtState.COMMITTED)
    if any(
        row.state in known and row.items == listed for row in sought_of(tx, job_id) if row.destination == destination
    ):
        return None
    now = current_time(tx)
    row = SoughtCommitment(
        transaction_uid=transaction_uid,
        job_id=job_id,
        destination=destination,
        items=listed,
        failed={},
        state=SoughtState.WAITING,
        attempts=0,
        not_before=now,
        since=since or now,
    )
    tx.add(row)
    tx.flush()
    return row


def due_sought(tx: Session) -> list[str]:
    """Names of the destinations that are to be asked, or whose report is overdue."""
    query = select(SoughtCommitment.destination).distinct().where(*_due(current_time(tx)))
    return list(tx.scalars(query))


def claim_sought(
    tx: Session, destination: str, *, owner: str, lease_seconds: float, most: int
) -> list[SoughtCommitment]:
    """Take what is due of a destination: requests to be made, and requests whose report is overdue."""
    now = current_time(tx)
    query = (
        select(SoughtCommitment)
        .where(SoughtCommitment.destination == destination, *_due(now))
        .order_by(SoughtCommitment.not_before, SoughtCommitment.id)
        .limit(most)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    rows = list(tx.scalars(query))
    for row in rows:
        row.attempts += 1
        row.lease_owner, row.lease_until = owner, now + timedelta(seconds=lease_seconds)
    tx.flush()
    return rows


def sought_of(tx: Session, job_id: int) -> list[SoughtCommitment]:
    """All requests for what a job has sent, oldest first."""
    query = select(SoughtCommitment).where(SoughtCommitment.job_id == job_id).order_by(SoughtCommitment.id)
    return list(tx.scalars(query))


def locked_sought(tx: Session, transaction_uid: str) -> tuple[SoughtCommitment, Job] | None:
    """A request and its job, the job locked first, as everywhere; None for a UID that is not this node's."""
    query = select(SoughtCommitment.job_id).where(SoughtCommitment.transaction_uid == transaction_uid)
    job_id = tx.scalars(query).one_or_none()
    if job_id is None:
        return None
    job = tx.get_one(Job, job_id, with_for_update=True, populate_existing=True)
    whole = select(SoughtCommitment).where(SoughtCommitment.transaction_uid == transaction_uid)
    row = tx.scalars(whole.with_for_update().execution_options(populate_existing=True)).one()
    return row, job


def settle_sought(
    tx: Session,
    row: SoughtCommitment,
    state: SoughtState,
    *,
    reason: str | None = None,
    status: int | None = None,
    failed: Mapping[str, int] | None = None,
    wait_seconds: float = 0,
) -> None:
    """Note what became of a request, which is locked to this transaction.

    wait_seconds: until it is made again, or until its report is overdue.
    """
    now = current_time(tx)
    row.state, row.reason, row.last_status, row.failed = state, reason, status, dict(failed or {})
    row.not_before = now + timedelta(seconds=wait_seconds)
    row.ended_at = None if state in _OPEN else now
    row.lease_owner = row.lease_until = None
    tx.flush()


def incomplete_answers(tx: Session, job_id: int, destination: str) -> int:
    """How often a destination has answered that it lacks objects of a job."""
    query = (
        select(func.count())
        .select_from(SoughtCommitment)
        .where(
            SoughtCommitment.job_id == job_id,
            SoughtCommitment.destination == destination,
            SoughtCommitment.state == SoughtState.INCOMPLETE,
        )
    )
    return tx.scalars(query).one()


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    free = or_(SoughtCommitment.lease_until.is_(None), SoughtCommitment.lease_until < now)
    return SoughtCommitment.state.in_(_OPEN), SoughtCommitment.not_before <= now, free
