"""Figures of what waits and what has been done, each by a short query that an index answers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.schema import (
    AuditRow,
    Commitment,
    CommitmentState,
    Delivery,
    DeliveryState,
    Job,
    ObjectKind,
    SoughtCommitment,
    SoughtState,
    StoredObject,
)
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


def frames_of(tx: Session, job_id: int) -> int:
    """The frames of all originals of a job."""
    frames = select(func.sum(StoredObject.frames))
    return tx.scalar(frames.where(StoredObject.job_id == job_id, StoredObject.kind == ObjectKind.ORIGINAL)) or 0


def last_step(tx: Session) -> int:
    """The number of the newest row of the audit trail; 0 while there is none."""
    return tx.scalar(select(func.max(AuditRow.id))) or 0


def steps_after(tx: Session, number: int, limit: int) -> Sequence[AuditRow]:
    """Rows of the audit trail that come after one, oldest first."""
    return tx.scalars(select(AuditRow).where(AuditRow.id > number).order_by(AuditRow.id).limit(limit)).all()


def step_before(tx: Session, row: AuditRow, actions: Collection[str]) -> AuditRow | None:
    """The newest row of the same job, of those before, that tells of one of these actions."""
    earlier = select(AuditRow).where(
        AuditRow.job_id == row.job_id, AuditRow.id < row.id, AuditRow.action.in_(sorted(actions))
    )
    return tx.scalars(earlier.order_by(AuditRow.id.desc()).limit(1)).one_or_none()
