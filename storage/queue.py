"""The job queue: jobs are claimed by lease, and a lease that is not renewed falls back to the queue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, Select, func, select
from sqlalchemy.orm import Session

from config.errors import FullfieldError, LeaseLost
from storage.database import CLOCKS, current_time
from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState
from storage.transitions import ALLOWED, ForbiddenTransition, JobState, check
from storage.turns import turn_of


@dataclass(frozen=True)
class Lease:
    """A worker's hold on a job."""

    job_id: int
    #: Higher than that of every lease before: the fence against a worker that has lost the job unawares.
    token: int
    owner: str


_ON_THE_WAY_OUT = (JobState.DELIVERING, JobState.DELIVERED, JobState.COMMITTED, JobState.FAILED)


class UnknownJob(FullfieldError):
    """There is no job with that number."""


def enqueue(
    tx: Session,
    *,
    objects: Sequence[StoredObject],
    route: str,
    profile: str,
    mode: str,
    priority: int,
    max_attempts: int,
    settings: dict[str, Any],
) -> Job:
    """Queue a job that takes in these originals of one series.

    settings: the route as it is now, as JSON can hold it. Raises ValueError for no objects, or for one
    that another job takes in.
    """
    if not objects or any(object.job_id is not None for object in objects):
        raise ValueError("A job takes in one object or more, none of which is another job's.")
    now, sender = current_time(tx), objects[0].calling_ae
    job = Job(
        route=route,
        sender=sender,
        profile=profile,
        mode=mode,
        series_instance_uid=objects[0].series_instance_uid,
        study_instance_uid=objects[0].study_instance_uid,
        state=JobState.QUEUED,
        priority=priority,
        turn=turn_of(tx, objects, route=route, sender=sender, priority=priority, now=now),
        attempts=0,
        max_attempts=max_attempts,
        not_before=now,
        lease_token=0,
        progress=0.0,
        settings=settings,
        created_at=now,
        updated_at=now,
    )
    tx.add(job)
    tx.flush()
    for object in objects:
        object.job_id = job.id
    tx.flush()
    return job


def claim(tx: Session, *, owner: str, lease_seconds: float) -> tuple[Job, Lease] | None:
    """Take a job whose worker has let its lease run out, else the next one that is due; None if there is none.

    Whose turn it is tells storage/turns.py. A job whose attempts are used up fails instead; `fail_exhausted` first, in
    the same transaction, tells which.
    """
    while True:
        found = _next(tx)
        if found is None:
            return None
        job, now = found
        if job.state == JobState.RUNNING:
            if job.attempts >= job.max_attempts:
                _fail_exhausted(tx, job)
                continue
            _enter(tx, job, JobState.QUEUED, now=now)
        _enter(tx, job, JobState.RUNNING, now=now)
        job.attempts += 1
        job.lease_token += 1
        job.lease_owner = owner
        job.lease_until = now + timedelta(seconds=lease_seconds)
        job.progress = 0.0
        tx.flush()
        return job, Lease(job.id, job.lease_token, owner)


def fail_exhausted(tx: Session) -> list[Job]:
    """Fail the jobs whose last worker has let its lease run out and whose attempts are used up."""
    query = (
        select(Job)
        .where(
            Job.state == JobState.RUNNING,
            Job.lease_until < current_time(tx),
            Job.attempts >= Job.max_attempts,
        )
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    jobs = list(tx.scalars(query))
    for job in jobs:
        _fail_exhausted(tx, job)
    return jobs


def forsake(tx: Session, owner: str, reason: str | None = None) -> None:
    """End the leases of a worker that is dead, so that its job is taken up at once.

    reason: how it died, which is said of the job when this was its last attempt.
    """
    held = select(Job).where(Job.state == JobState.RUNNING, Job.lease_owner == owner)
    for job in tx.scalars(held.with_for_update(skip_locked=True)):
        job.lease_until = current_time(tx) - timedelta(seconds=1)
        job.reason = job.reason or reason


def overdue(tx: Session, owners: Sequence[str]) -> list[Job]:
    """Jobs of these workers whose lease has run out, and which nobody has taken over."""
    query = select(Job).where(
        Job.state == JobState.RUNNING, Job.lease_until < current_time(tx), Job.lease_owner.in_(owners)
    )
    return list(tx.scalars(query))


def heartbeat(tx: Session, lease: Lease, *, lease_seconds: float, progress: float) -> None:
    """Renew a lease and note the progress (0 to 1); LeaseLost if the job is no longer this worker's."""
    job = _held(tx, lease)
    now = current_time(tx)
    job.lease_until = now + timedelta(seconds=lease_seconds)
    job.progress = progress
    job.updated_at = now
    tx.flush()


def finish(
    tx: Session, lease: Lease, state: JobState, *, reason: str | None = None, model_digest: str | None = None
) -> Job:
    """End the work on a job: reconstructed, declined or failed. LeaseLost if it is not this worker's now."""
    if state not in (JobState.RECONSTRUCTED, JobState.DECLINED, JobState.FAILED):
        raise ForbiddenTransition(f"A worker cannot end a job as {state}.")
    job = _held(tx, lease)
    _enter(tx, job, state, reason)
    job.model_digest = model_digest
    if state == JobState.RECONSTRUCTED:
        job.progress = 1.0
    tx.flush()
    return job


def put_back(tx: Session, lease: Lease, *, reason: str, wait_seconds: float) -> Job:
    """Queue a job again after a wait, or fail it if its attempts are used up. LeaseLost as in `finish`."""
    job = _held(tx, lease)
    if job.attempts >= job.max_attempts:
        _enter(tx, job, JobState.FAILED, reason)
    else:
        _enter(tx, job, JobState.QUEUED, reason)
        job.not_before = job.updated_at + timedelta(seconds=wait_seconds)
    tx.flush()
    return job


def move(tx: Session, job_id: int, state: JobState, reason: str | None = None) -> Job:
    """Move a job on its way out: delivering, delivered, committed or failed.

    ForbiddenTransition for other states, which a job enters under a lease or by `retry`; for a job that a
    worker holds; and where the table of transitions does not allow it.
    """
    job = _locked(tx, job_id)
    if state not in _ON_THE_WAY_OUT or job.state == JobState.RUNNING:
        raise ForbiddenTransition(f"Job {job_id} is {job.state} and cannot be moved to {state}.")
    _enter(tx, job, state, reason)
    tx.flush()
    return job


def note(tx: Session, job_id: int, reason: str) -> Job:
    """Say of a job what there is to say beside its state; it stays in that state."""
    job = _locked(tx, job_id)
    job.reason = reason
    tx.flush()
    return job


def retry(tx: Session, job_id: int) -> Job:
    """Let a failed job go on from where it stopped: with its deliveries if there are any, else anew."""
    job = _locked(tx, job_id)
    if job.state != JobState.FAILED:
        raise ForbiddenTransition(f"Only a failed job can be retried, and job {job_id} is {job.state}.")
    deliveries = list(tx.scalars(select(Delivery).where(Delivery.job_id == job_id).with_for_update()))
    if not deliveries:
        _enter(tx, job, JobState.QUEUED)
        job.attempts = 0
        job.progress = 0.0
        job.not_before = job.updated_at
    else:
        _enter(tx, job, JobState.DELIVERING)
        undelivered = [d for d in deliveries if d.state != DeliveryState.ACKNOWLEDGED]
        for delivery in undelivered:
            delivery.state = DeliveryState.WAITING
            delivery.attempts = 0
            delivery.not_before = job.updated_at
            delivery.lease_owner = delivery.lease_until = None
        if not undelivered:
            _enter(tx, job, JobState.DELIVERED)
    tx.flush()
    return job


def failed_towards(tx: Session, destination: str) -> list[int]:
    """Numbers of the failed jobs that a destination has not acknowledged all of, oldest first."""
    undelivered = select(Delivery.job_id).where(
        Delivery.destination == destination, Delivery.state != DeliveryState.ACKNOWLEDGED
    )
    return list(
        tx.scalars(select(Job.id).where(Job.state == JobState.FAILED, Job.id.in_(undelivered)).order_by(Job.id))
    )


def cancel(tx: Session, job_id: int, by: str) -> Job:
    """Fail a job that is not done yet, and abandon what it has not delivered."""
    job = _locked(tx, job_id)
    reason = f"cancelled by {by}"
    if job.state == JobState.FAILED or JobState.FAILED not in ALLOWED[job.state]:
        raise ForbiddenTransition(f"Job {job_id} is {job.state}: there is nothing to cancel.")
    _enter(tx, job, JobState.FAILED, reason)
    waiting = select(Delivery).where(Delivery.job_id == job_id, Delivery.state == DeliveryState.WAITING)
    for delivery in tx.scalars(waiting.with_for_update()):
        delivery.state = DeliveryState.ABANDONED
        delivery.reason = reason
        delivery.lease_owner = delivery.lease_until = None
    tx.flush()
    return job


def list_jobs(tx: Session, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
    """The newest jobs, newest first, of one state or of all."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Job.state == state)
    return list(tx.scalars(query))


def get_job(tx: Session, job_id: int) -> Job:
    """The job with this number, or UnknownJob."""
    job = tx.get(Job, job_id)
    if job is None:
        raise UnknownJob(f"There is no job {job_id}.")
    return job


def _next(tx: Session) -> tuple[Job, datetime] | None:
    """The job to take, one that no other worker is about to take; and the time."""
    found = tx.execute(_NEXT[tx.get_bind().dialect.name]).one_or_none()
    return None if found is None else (found[0], found[1])


def _next_by(now: ColumnElement[datetime]) -> Select[Job, datetime]:
    """That in one query, for each waits for the server once."""
    abandoned = _first(Job.state == JobState.RUNNING, Job.lease_until < now)
    due = _first(Job.state == JobState.QUEUED, Job.not_before <= now)
    query = select(Job, now).where(Job.id == func.coalesce(abandoned, due)).with_for_update(of=Job)
    return query.execution_options(populate_existing=True)


def _first(*conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    """The number of the job whose turn is the earliest of these."""
    query = select(Job.id).where(*conditions).order_by(Job.turn, Job.id).limit(1)
    return query.with_for_update(skip_locked=True).scalar_subquery()


#: By the kind of database; to put a query together takes as long as to have it answered.
_NEXT = {name: _next_by(now) for name, now in CLOCKS.items()}


def _enter(tx: Session, job: Job, state: JobState, reason: str | None = None, now: datetime | None = None) -> None:
    """The only place where a job's state changes. now: the time, where it has just been asked for."""
    check(job.state, state)
    job.state = state
    job.reason = reason
    job.updated_at = now or current_time(tx)
    job.lease_owner = job.lease_until = None


def _fail_exhausted(tx: Session, job: Job) -> None:
    reason = job.reason or "the worker died or hung"
    _enter(tx, job, JobState.FAILED, f"{reason}; attempt {job.attempts} was the last allowed")
    tx.flush()


def _locked(tx: Session, job_id: int) -> Job:
    job = tx.get(Job, job_id, with_for_update=True, populate_existing=True)
    if job is None:
        raise UnknownJob(f"There is no job {job_id}.")
    return job


def _held(tx: Session, lease: Lease) -> Job:
    job = tx.get(Job, lease.job_id, with_for_update=True, populate_existing=True)
    if job is None or job.state != JobState.RUNNING or (job.lease_token, job.lease_owner) != (lease.token, lease.owner):
        raise LeaseLost(f"Job {lease.job_id} is no longer {lease.owner}'s.")
    return job
