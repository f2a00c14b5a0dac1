"""Figures of what waits and what has been done, each by a short query that an index answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from storage.schema import AuditRow, Commitment, Delivery, Job, SoughtCommitment, StoredObject
from storage.states import CommitmentState, DeliveryState, ObjectKind, SoughtState
from storage.transitions import JobState

#: States in which a job waits for something, or for somebody.
UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.RECONSTRUCTED, JobState.DELIVERING, JobState.FAILED)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Things of one kind that wait."""

    #: What they have in common, such as route and state, or a destination.
    of: tuple[str, ...]
    count: int
    #: Since when the oldest of them waits.
    since: datetime


def unfinished_jobs(tx: Session) -> list[Waiting]:
    """By route and state."""
    rows = tx.execute(
        select(Job.route, Job.state, func.count(), func.min(Job.created_at))
        .where(Job.state.in_(UNFINISHED))
        .group_by(Job.route, Job.state)
    )
    return [Waiting(of=(route, state.value), count=count, since=since) for route, state, count, since in rows]


def waiting_deliveries(tx: Session) -> list[Waiting]:
    """By destination."""
    rows = tx.execute(
        select(Delivery.destination, func.count(), func.min(Delivery.created_at))
        .where(Delivery.state == DeliveryState.WAITING)
        .group_by(Delivery.destination)
    )
    return [Waiting(of=(destination,), count=count, since=since) for destination, count, since in rows]


def sought_commitments(tx: Session) -> list[Waiting]:
    """Requests for storage commitment that are not answered, by destination."""
    rows = tx.execute(
        select(SoughtCommitment.destination, func.count(), func.min(SoughtCommitment.since))
        .where(SoughtCommitment.state.in_((SoughtState.WAITING, SoughtState.ASKED)))
        .group_by(SoughtCommitment.destination)
    )
    return [Waiting(of=(destination,), count=count, since=since) for destination, count, since in rows]


def owed_reports(tx: Session) -> int:
    """Reports on storage commitment that peers have not got yet."""
    return tx.scalar(select(func.count()).where(Commitment.state == CommitmentState.WAITING)) or 0


def least_recently_verified(tx: Session) -> datetime | None:
    """When the object was compared with its digest for which that is the longest ago; None without objects."""
    return tx.scalar(select(StoredObject.verified_at).order_by(StoredObject.verified_at).limit(1))


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one row of the audit trail tells, without whom it is about."""

    id: int
    at: datetime
    action: str
    outcome: str
    job_id: int | None
    details: dict[str, Any]


def last_step(tx: Session) -> int:
    """The number of the newest row of the audit trail; 0 while there is none."""
    return tx.scalar(select(func.max(AuditRow.id))) or 0


def steps_after(tx: Session, number: int, limit: int) -> list[Step]:
    """What is told after a row, oldest first."""
    rows = select(*_STEP).where(AuditRow.id > number).order_by(AuditRow.id).limit(limit)
    return [Step(**row) for row in tx.execute(rows).mappings()]


def steps_of(tx: Session, job_id: int, *, before: int) -> list[Step]:
    """What is told of a job before a row, oldest first."""
    rows = select(*_STEP).where(AuditRow.job_id == job_id, AuditRow.id < before).order_by(AuditRow.id)
    return [Step(**row) for row in tx.execute(rows).mappings()]


def route_and_frames(tx: Session, job_id: int) -> tuple[str, int]:
    """The route of a job, and the frames of all its originals; nothing and 0 for one that is no longer there."""
    of_originals = and_(StoredObject.job_id == Job.id, StoredObject.kind == ObjectKind.ORIGINAL)
    found = tx.execute(
        select(Job.route, func.coalesce(func.sum(StoredObject.frames), 0))
        .outerjoin(StoredObject, of_originals)
        .where(Job.id == job_id)
        .group_by(Job.route)
    ).one_or_none()
    return (found[0], int(found[1])) if found is not None else ("", 0)


_STEP = (AuditRow.id, AuditRow.at, AuditRow.action, AuditRow.outcome, AuditRow.job_id, AuditRow.details)
