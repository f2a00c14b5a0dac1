"""A job that takes too much, or that somebody cancels, is broken off; the next one is done all the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.schema import Job
from storage.transitions import JobState
from tests.commands import Command
from tests.hospital import Hospital, hospital
from tests.nodes import LONG
from tests.peers import wait_until

#: How often a job is tried.
ATTEMPTS = 2
#: A worker takes half a minute to start and to do a small job when the machine is very busy.
MINUTES = 0.5
#: A worker takes 460 MB for small jobs, and 1450 MB for frames of 4096 x 4096.
MEMORY_MB = 1024


@pytest.fixture
def short_of_time(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, worker={"max_attempts": ATTEMPTS, "job_minutes": MINUTES}) as here:
        yield here


@pytest.fixture
def short_of_memory(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, worker={"max_attempts": ATTEMPTS, "memory_mb": MEMORY_MB}) as here:
        yield here


@pytest.fixture
def unlimited(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, worker={"max_attempts": ATTEMPTS}) as here:
        yield here


def _pushed(here: Hospital, **cine: int) -> Job:
    """The job of a cine that is pushed now."""
    assert here.push(here.cine(**cine)).accepted
    return wait_until(here.node.jobs, what="the job", seconds=LONG)[-1]


def _is_running(here: Hospital, job: Job) -> bool:
    now = here.node.job(job.id)
    return now.state == JobState.RUNNING and now.progress > 0


def _parks(here: Hospital, job: Job, reason: str) -> bool:
    """Whether each attempt at the job is broken off with its worker, and the last one leaves it failed, and why."""
    here.node.wait_until_settled(job.id)
    ended = here.node.job(job.id)
    assert (ended.state, ended.attempts, ended.reason) == (JobState.FAILED, ATTEMPTS, reason)
    told = here.node.audit()
    put_back = [row.details["reason"] for row in told if row.action == "job_put_back"]
    return put_back == [reason] * (ATTEMPTS - 1) and [row.action for row in told if row.job_id == job.id][-1] == (
        "job_failed"
    )


@pytest.mark.long
def test_a_job_that_takes_too_long_parks_with_the_reason_and_the_next_is_done(short_of_time: Hospital) -> None:
    job = _pushed(short_of_time, frames=2000)
    reason = f"took longer than {MINUTES:g} min, a limit that the administrator sets as worker.job_minutes"
    assert _parks(short_of_time, job, reason)
    assert short_of_time.goes_through()
    # On a busy machine the next job may take too long as well, before it is done.
    wait_until(lambda: short_of_time.node.told("worker_died") >= ATTEMPTS, what="the workers' ends told", seconds=LONG)


@pytest.mark.long
def test_a_job_that_takes_too_much_memory_parks_with_the_reason_and_the_next_is_done(
    short_of_memory: Hospital,
) -> None:
    # Not the number of frames takes memory, but their size.
    job = _pushed(short_of_memory, frames=4, rows=4096, columns=4096)
    reason = f"took more memory than {MEMORY_MB} MB, a limit that the administrator sets as worker.memory_mb"
    assert _parks(short_of_memory, job, reason)
    assert short_of_memory.goes_through()


def test_a_job_that_is_cancelled_at_work_is_dropped_by_its_worker_which_does_the_next(
    unlimited: Hospital, fullfield: Command
) -> None:
    here = unlimited
    job = _pushed(here, frames=200)
    wait_until(lambda: _is_running(here, job), what="the worker to begin", seconds=LONG)
    (worker,) = here.node.workers()
    status, out, _ = fullfield("jobs", "cancel", job.id, "--settings", here.node.settings)
    assert (status, out) == (0, f"Job {job.id} is cancelled.\n")
    assert here.goes_through()
    cancelled = here.node.job(job.id)
    assert (cancelled.state, cancelled.attempts) == (JobState.FAILED, 1)
    assert cancelled.reason.startswith("cancelled by ")
    assert here.node.workers() == [worker]
    assert "work dropped" in here.node.log.read_text()
