"""Jobs are retried, cancelled and listed, and go only as the table of transitions allows."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.orm import Session

from config.errors import FullfieldError
from storage.database import Database
from storage.outbox import acknowledge, claim_deliveries, outstanding, refuse
from storage.queue import (
    Lease,
    UnknownJob,
    cancel,
    claim,
    finish,
    get_job,
    heartbeat,
    list_jobs,
    move,
    put_back,
    retry,
)
from storage.schema import Delivery, Job
from storage.states import DeliveryState
from storage.transitions import ALLOWED, ForbiddenTransition, JobState
from tests.jobs import let_lease_run_out, queued, result, take

# Retrying and cancelling


def failed_in_delivery(tx: Session) -> tuple[Job, Delivery]:
    queued(tx)
    job, lease = take(tx)
    finish(tx, lease, JobState.RECONSTRUCTED)
    delivery = result(tx, job)
    move(tx, job.id, JobState.DELIVERING)
    ((_, _, hold),) = claim_deliveries(tx, "pacs", owner="one", lease_seconds=60)
    refuse(tx, hold, reason="no such SOP class", status=0x0122)
    move(tx, job.id, JobState.FAILED, "refused by pacs")
    return job, delivery


def test_a_job_that_failed_at_work_is_retried_from_the_start(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, max_attempts=1)
        _, lease = take(tx)
        finish(tx, lease, JobState.FAILED, reason="no weights")
        job = retry(tx, lease.job_id)
        assert (job.state, job.attempts, job.reason) == (JobState.QUEUED, 0, None)
        assert take(tx)[1].token == lease.token + 1


def test_a_job_that_failed_in_delivery_is_retried_from_there(database: Database) -> None:
    with database.transaction() as tx:
        job, delivery = failed_in_delivery(tx)
        retry(tx, job.id)
        assert job.state == JobState.DELIVERING
        assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)


def test_a_retry_with_nothing_left_to_deliver_is_delivered(database: Database) -> None:
    with database.transaction() as tx:
        job, delivery = failed_in_delivery(tx)
        acknowledge(tx, delivery.id, status=0)
        assert retry(tx, job.id).state == JobState.DELIVERED


def test_only_a_failed_job_can_be_retried(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        with pytest.raises(ForbiddenTransition, match="Only a failed job can be retried"):
            retry(tx, job.id)


def test_a_cancelled_job_says_by_whom_and_sends_nothing_more(database: Database) -> None:
    with database.transaction() as tx:
        job, delivery = failed_in_delivery(tx)
        retry(tx, job.id)
        cancel(tx, job.id, "anna")
        assert (job.state, job.reason) == (JobState.FAILED, "cancelled by anna")
        assert (delivery.state, delivery.reason) == (DeliveryState.ABANDONED, "cancelled by anna")
        assert outstanding(tx, job.id)[DeliveryState.WAITING] == 0
        assert claim(tx, owner="one", lease_seconds=60) is None


def test_a_job_that_is_done_cannot_be_cancelled(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        _, lease = take(tx)
        finish(tx, lease, JobState.DECLINED, reason="no aperture")
        with pytest.raises(ForbiddenTransition, match="Job 1 is declined: there is nothing to cancel"):
            cancel(tx, lease.job_id, "anna")


def test_a_job_is_not_moved_past_its_worker_or_into_work(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        with pytest.raises(ForbiddenTransition, match="Job 1 is queued and cannot be moved to running"):
            move(tx, job.id, JobState.RUNNING)
        take(tx)
        with pytest.raises(ForbiddenTransition, match="Job 1 is running and cannot be moved to failed"):
            move(tx, job.id, JobState.FAILED)


# Looking


def test_jobs_are_listed_newest_first_by_state_and_number(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(1, 5):
            queued(tx, number)
        take(tx)
        assert [job.id for job in list_jobs(tx)] == [4, 3, 2, 1]
        assert [job.id for job in list_jobs(tx, limit=2)] == [4, 3]
        assert [job.id for job in list_jobs(tx, state=JobState.RUNNING)] == [1]


@pytest.mark.parametrize(
    "ask", [get_job, retry, lambda tx, job: cancel(tx, job, "anna"), lambda tx, job: move(tx, job, "failed")]
)
def test_an_unknown_job_is_told_in_one_sentence(database: Database, ask) -> None:
    with database.transaction() as tx, pytest.raises(UnknownJob, match="There is no job 99"):
        ask(tx, 99)


# Every way through

moves = st.sampled_from(
    [
        "claim",
        "heartbeat",
        "put back",
        "let the lease run out",
        "deliver",
        "retry",
        "cancel",
        *(f"finish {state}" for state in JobState),
        *(f"move {state}" for state in JobState),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(moves, min_size=5, max_size=30))
def test_whatever_is_done_to_a_job_it_goes_as_the_table_allows(database: Database, done: list[str]) -> None:
    with watched_transitions() as seen, database.reading() as tx:
        job = queued(tx, max_attempts=2)
        lease = Lease(job.id, 0, "nobody")
        for action in done:
            before = job.state
            try:
                lease = apply(tx, action, job, lease)
            except FullfieldError:
                tx.refresh(job)
                assert job.state == before
            assert (job.lease_owner is not None) == (job.state == JobState.RUNNING)
            assert job.attempts <= job.max_attempts
    assert all(new in ALLOWED[old] for old, new in seen)


def apply(tx: Session, action: str, job: Job, lease: Lease) -> Lease:
    name, _, state = action.partition(" ")
    if action == "claim":
        taken = claim(tx, owner="one", lease_seconds=60)
        return taken[1] if taken else lease
    if action == "let the lease run out":
        if job.lease_until is not None:
            let_lease_run_out(tx, job)
    elif action == "heartbeat":
        heartbeat(tx, lease, lease_seconds=60, progress=0.5)
    elif action == "put back":
        put_back(tx, lease, reason="again", wait_seconds=0)
    elif action == "deliver":
        result(tx, job)
    elif action == "retry":
        retry(tx, job.id)
    elif action == "cancel":
        cancel(tx, job.id, "anna")
    elif name == "finish":
        finish(tx, lease, JobState(state))
    else:
        move(tx, job.id, JobState(state))
    return lease


@contextmanager
def watched_transitions() -> Iterator[list[tuple[JobState, JobState]]]:
    """Every change of a job's state, however it comes about."""
    seen: list[tuple[JobState, JobState]] = []

    def note(_: Job, new: JobState, old: object, __: object) -> None:
        if isinstance(old, JobState):
            seen.append((old, new))

    event.listen(Job.state, "set", note)
    try:
        yield seen
    finally:
        event.remove(Job.state, "set", note)
