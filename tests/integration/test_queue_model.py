"""Whatever workers, people and time do to a queue, it does what a model of twenty lines says; on both databases."""

from dataclasses import dataclass
from datetime import datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from config.errors import LeaseLost
from storage.database import Database
from storage.queue import Lease, cancel, claim, fail_exhausted, finish, get_job, heartbeat, move, put_back, retry
from storage.transitions import ForbiddenTransition, JobState
from tests.jobs import let_lease_run_out, queued

_ENDS = (JobState.RECONSTRUCTED, JobState.DECLINED, JobState.FAILED)


@dataclass
class ModelJob:
    """What is to be known of a job."""

    number: int
    turn: datetime
    max_attempts: int
    state: JobState = JobState.QUEUED
    attempts: int = 0
    #: The one lease that counts, while the job runs.
    lease: Lease | None = None
    run_out: bool = False


class QueueMachine(RuleBasedStateMachine):
    """Several workers at one queue; each rule asks the queue, and the model what should come of it."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._reading = database.reading()
        self._tx = self._reading.__enter__()  # All of it is undone in the end.
        self._model: dict[int, ModelJob] = {}

    def teardown(self) -> None:
        self._reading.__exit__(None, None, None)

    @rule(
        target=jobs,
        priority=st.integers(0, 100),
        sender=st.sampled_from("AB"),
        route=st.sampled_from("xy"),
        frames=st.integers(1, 500),
        max_attempts=st.integers(1, 3),
    )
    def queue(self, priority: int, sender: str, route: str, frames: int, max_attempts: int) -> int:
        number = len(self._model) + 1
        job = queued(
            self._tx,
            number,
            priority=priority,
            sender=sender,
            route=route,
            frames=frames,
            max_attempts=max_attempts,
        )
        self._model[job.id] = ModelJob(job.id, job.turn, max_attempts)
        return job.id

    @rule(target=leases, worker=st.sampled_from(["one", "two"]))
    def take(self, worker: str) -> Lease:
        forsaken = sorted((job for job in self._model.values() if job.run_out), key=_order)
        for job in [job for job in forsaken if job.attempts == job.max_attempts]:
            self._end(job, JobState.FAILED)
        waiting = [job for job in self._model.values() if job.state == JobState.QUEUED]
        expected = next(iter([job for job in forsaken if job.run_out] + sorted(waiting, key=_order)), None)
        fail_exhausted(self._tx)
        taken = claim(self._tx, owner=worker, lease_seconds=60)
        if expected is None:
            assert taken is None
            return Lease(0, 0, worker)
        assert taken is not None
        job, lease = taken
        assert (job.id, lease.owner) == (expected.number, worker)
        expected.state, expected.lease, expected.run_out = JobState.RUNNING, lease, False
        expected.attempts += 1
        return lease

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        if self._holds(lease, lambda: heartbeat(self._tx, lease, lease_seconds=60, progress=0.5)):
            self._model[lease.job_id].run_out = False

    @rule(lease=leases, state=st.sampled_from(_ENDS))
    def end(self, lease: Lease, state: JobState) -> None:
        if self._holds(lease, lambda: finish(self._tx, lease, state)):
            self._end(self._model[lease.job_id], state)

    @rule(lease=leases)
    def give_back(self, lease: Lease) -> None:
        if self._holds(lease, lambda: put_back(self._tx, lease, reason="again", wait_seconds=0)):
            job = self._model[lease.job_id]
            self._end(job, JobState.FAILED if job.attempts == job.max_attempts else JobState.QUEUED)

    @rule(number=jobs)
    def run_out(self, number: int) -> None:
        if self._model[number].state == JobState.RUNNING:
            let_lease_run_out(self._tx, get_job(self._tx, number))
            self._model[number].run_out = True

    @rule(number=jobs)
    def cancel(self, number: int) -> None:
        over = {JobState.DELIVERED, JobState.COMMITTED, JobState.DECLINED, JobState.FAILED}
        if self._allowed(self._model[number].state not in over, lambda: cancel(self._tx, number, "anna")):
            self._end(self._model[number], JobState.FAILED)

    @rule(number=jobs)
    def retry(self, number: int) -> None:
        if self._allowed(self._model[number].state == JobState.FAILED, lambda: retry(self._tx, number)):
            self._end(self._model[number], JobState.QUEUED)
            self._model[number].attempts = 0

    @rule(number=jobs)
    def send(self, number: int) -> None:
        """The next step on the way out."""
        follows = {
            JobState.RECONSTRUCTED: JobState.DELIVERING,
            JobState.DELIVERING: JobState.DELIVERED,
            JobState.DELIVERED: JobState.COMMITTED,
        }
        job = self._model[number]
        after = follows.get(job.state)
        if self._allowed(after is not None, lambda: move(self._tx, number, after or JobState.COMMITTED)):
            self._end(job, after or JobState.COMMITTED)

    @invariant()
    def the_queue_is_as_the_model(self) -> None:
        for number, known in self._model.items():
            job = get_job(self._tx, number)
            assert (job.state, job.attempts) == (known.state, known.attempts)
            assert (job.lease_owner or None) == (known.lease.owner if known.lease else None)

    def _holds(self, lease: Lease, act) -> bool:
        """Act under a lease: only the one that counts may, even when it has run out and nobody has taken over."""
        job = self._model.get(lease.job_id)
        try:
            act()
        except LeaseLost:
            assert job is None or job.lease != lease
            return False
        assert job is not None
        assert job.lease == lease
        return True

    def _allowed(self, allowed: bool, act) -> bool:
        try:
            act()
        except ForbiddenTransition:
            assert not allowed
            return False
        assert allowed
        return True

    def _end(self, job: ModelJob, state: JobState) -> None:
        job.state, job.lease, job.run_out = state, None, False


def _order(job: ModelJob) -> tuple[datetime, int]:
    return job.turn, job.number


def test_the_queue_does_what_the_model_says(database: Database) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(database), settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )
