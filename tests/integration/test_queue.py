"""A job is done by one worker at a time, and goes on after a crash of the one that had it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from config.errors import LeaseLost
from storage.database import Database, current_time
from storage.objects import objects_of_job
from storage.queue import (
    Lease,
    cancel,
    claim,
    enqueue,
    fail_exhausted,
    finish,
    forsake,
    get_job,
    heartbeat,
    put_back,
)
from storage.transitions import ForbiddenTransition, JobState
from tests.clocks import with_clock
from tests.jobs import let_lease_run_out, queued, take

#: Seconds; a clock that is an hour off sees a lease run out that lasts for so long.
HALF_AN_HOUR = 1800

# Claiming


def test_a_queued_job_is_as_it_was_asked_for(database: Database) -> None:
    with database.transaction() as tx:
        job_id = queued(tx).id
    with database.reading() as tx:
        job = get_job(tx, job_id)
        assert (job.state, job.route, job.profile, job.mode) == ("queued", "thorax", "fullfield", "mean")
        assert (job.series_instance_uid, job.study_instance_uid) == ("1.2.1", "1.2")
        assert (job.attempts, job.lease_token, job.progress, job.reason) == (0, 0, 0.0, None)
        assert job.settings == {"mark": {"label": "generated"}}


def test_a_job_of_no_objects_or_of_another_jobs_is_a_mistake(database: Database) -> None:
    with database.transaction() as tx:
        told = {"route": "", "profile": "", "mode": "", "priority": 1, "max_attempts": 1, "settings": {}}
        with pytest.raises(ValueError):
            enqueue(tx, objects=[], **told)
        with pytest.raises(ValueError):
            enqueue(tx, objects=objects_of_job(tx, queued(tx).id), **told)


def test_the_highest_priority_goes_first_then_the_oldest(database: Database) -> None:
    with database.transaction() as tx:
        for number, priority in enumerate([10, 50, 90, 50], start=1):
            queued(tx, number, priority=priority, route=f"of {priority}")
    with database.transaction() as tx:
        assert [take(tx)[0].id for _ in range(4)] == [3, 2, 4, 1]
        assert claim(tx, owner="one", lease_seconds=60) is None


def test_who_sends_much_at_once_holds_up_nobody_else(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(1, 101):
            queued(tx, number, sender="FLOOD")
        assert [take(tx)[0].id for _ in range(3)] == [1, 2, 3]
        assert take(tx)[0].id == 4
        for number in (101, 102):
            queued(tx, number, sender="CARM")
        queued(tx, 103, route="other", sender="FLOOD")
        assert [take(tx)[0].id for _ in range(5)] == [101, 103, 102, 5, 6]


def test_a_long_cine_counts_for_as_many_short_ones(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, 1, sender="LONG", frames=1)
        queued(tx, 2, sender="LONG", frames=100)
        for number in range(3, 13):
            queued(tx, number, sender="SHORT", frames=1)
        order = [take(tx)[0].id for _ in range(12)]
        assert order[:2] == [1, 3]
        assert order[-1] == 2


def test_what_has_waited_long_enough_goes_before_what_is_more_urgent(database: Database) -> None:
    with database.transaction() as tx:
        old = queued(tx, 1, priority=0, route="slow")
        old.turn -= timedelta(minutes=101)  # As if it had been queued so long ago.
        queued(tx, 2, priority=100, route="urgent")
        assert [take(tx)[0].id for _ in range(2)] == [1, 2]


def test_what_a_worker_has_dropped_goes_before_what_waits(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, 1, priority=0)
        job, _ = take(tx)
        let_lease_run_out(tx, job)
        queued(tx, 2, priority=100, route="urgent")
        assert [take(tx)[0].id for _ in range(2)] == [1, 2]


def test_a_claimed_job_is_running_under_a_lease(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        before = current_time(tx)
        job, lease = take(tx, "worker-7")
        assert lease == Lease(job.id, 1, "worker-7")
        assert (job.state, job.attempts, job.lease_owner) == (JobState.RUNNING, 1, "worker-7")
        assert job.lease_until >= before + timedelta(seconds=60)


def test_threads_that_claim_at_once_take_each_job_once(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(40):
            queued(tx, number)

    def work(owner: str) -> list[int]:
        return list(claimed_by(database, owner))

    with ThreadPoolExecutor(6) as threads:
        taken = [job for jobs in threads.map(work, "abcdef") for job in jobs]
    assert sorted(taken) == list(range(1, 41))


def claimed_by(database: Database, owner: str) -> Iterator[int]:
    while True:
        with database.transaction() as tx:
            fail_exhausted(tx)
            taken = claim(tx, owner=owner, lease_seconds=60)
            if taken is None:
                return
            heartbeat(tx, taken[1], lease_seconds=60, progress=0.0)
        yield taken[0].id


def test_processes_that_claim_at_once_take_each_job_once(database: Database, database_url: str) -> None:
    with database.transaction() as tx:
        for number in range(40):
            queued(tx, number)
    taken = claimed_by_processes(database_url, [os.environ] * 3)
    assert sorted(job for jobs in taken for job in jobs) == list(range(1, 41))


def claimed_by_processes(url: str, environments: Sequence[Mapping[str, str]]) -> list[list[int]]:
    """What workers take that begin at once, a process each, until there is nothing to take."""
    program = """if True:
        import sys
        from storage.database import Database
        from tests.integration.test_queue import claimed_by
        print("ready", flush=True)
        sys.stdin.readline()
        print(*claimed_by(Database(sys.argv[1]), sys.argv[2]))
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, f"worker-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number, environment in enumerate(environments)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [[int(job) for job in worker.communicate(timeout=60)[0].split()] for worker in workers]


def test_a_job_that_another_transaction_holds_is_passed_over_on_postgresql(postgresql_url: str) -> None:
    database = Database(postgresql_url, lock_timeout_seconds=1)
    database.migrate()
    with database.transaction() as tx:
        queued(tx, 1)
        queued(tx, 2)
    with database.transaction() as one, database.transaction() as other:
        assert take(one)[0].id == 1
        assert take(other)[0].id == 2
    database.close()


# Leases


def test_a_lease_that_runs_out_gives_the_job_to_the_next_worker(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        job, first = take(tx, "one")
        heartbeat(tx, first, lease_seconds=60, progress=0.5)
        assert claim(tx, owner="two", lease_seconds=60) is None
        let_lease_run_out(tx, job)
    with database.transaction() as tx:
        job, second = take(tx, "two")
        assert second == Lease(first.job_id, first.token + 1, "two")
        assert (job.attempts, job.progress, job.state) == (2, 0.0, JobState.RUNNING)


def test_a_lease_runs_out_by_itself(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        assert claim(tx, owner="one", lease_seconds=0.001) is not None
    time.sleep(0.05)
    with database.transaction() as tx:
        assert take(tx, "two")[0].attempts == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("hours", [1, -1])
def test_a_worker_whose_clock_is_an_hour_off_takes_what_is_free_and_no_more(
    database: Database, database_url: str, tmp_path: Path, hours: int
) -> None:
    with database.transaction() as tx:
        for number in range(1, 5):
            queued(tx, number, max_attempts=1 if number == 1 else 3)
        held = claim(tx, owner="one", lease_seconds=HALF_AN_HOUR)
        (dropped, _), (_, returned) = take(tx, "two"), take(tx, "three")
        let_lease_run_out(tx, dropped)
        put_back(tx, returned, reason="no memory", wait_seconds=HALF_AN_HOUR)
    assert claimed_by_processes(database_url, [with_clock(tmp_path, hours)]) == [[2, 4]]
    with database.transaction() as tx:
        assert held is not None
        heartbeat(tx, held[1], lease_seconds=HALF_AN_HOUR, progress=0.5)
        assert max(get_job(tx, job).lease_until for job in (2, 4)) <= current_time(tx) + timedelta(seconds=60)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_whose_clocks_are_hours_apart_take_each_job_once(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with database.transaction() as tx:
        for number in range(40):
            queued(tx, number)
        for _ in range(10):
            assert claim(tx, owner="one", lease_seconds=HALF_AN_HOUR) is not None
        for dropped in [take(tx, "two")[0] for _ in range(10)]:
            let_lease_run_out(tx, dropped)
    taken = claimed_by_processes(database_url, [with_clock(tmp_path, hours) for hours in (-1, 1)])
    assert sorted(job for jobs in taken for job in jobs) == list(range(11, 41))


def test_a_worker_that_has_lost_its_job_can_do_nothing_to_it(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        job, lost = take(tx, "one")
        let_lease_run_out(tx, job)
        _, held = take(tx, "one")  # The same worker, restarted: its name is the same, its token is not.
    for action in every_action_of_a_worker(lost):
        with pytest.raises(LeaseLost, match=f"Job {job.id} is no longer one's"), database.transaction() as tx:
            action(tx)
    with database.transaction() as tx:
        heartbeat(tx, held, lease_seconds=60, progress=0.1)


def test_a_worker_whose_job_was_cancelled_or_put_back_has_lost_it(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, 1)
        _, cancelled = take(tx)
        cancel(tx, cancelled.job_id, "anna")
        queued(tx, 2)
        _, returned = take(tx)
        put_back(tx, returned, reason="no memory", wait_seconds=60)
    for lease in (cancelled, returned, Lease(99, 1, "one")):
        for action in every_action_of_a_worker(lease):
            with pytest.raises(LeaseLost), database.transaction() as tx:
                action(tx)


def every_action_of_a_worker(lease: Lease) -> list:
    return [
        lambda tx: heartbeat(tx, lease, lease_seconds=60, progress=0.9),
        lambda tx: finish(tx, lease, JobState.RECONSTRUCTED),
        lambda tx: finish(tx, lease, JobState.FAILED, reason="late"),
        lambda tx: put_back(tx, lease, reason="late", wait_seconds=0),
    ]


def test_a_heartbeat_keeps_the_job_even_if_it_comes_late(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        job, lease = take(tx)
        let_lease_run_out(tx, job)
        heartbeat(tx, lease, lease_seconds=60, progress=0.25)
        assert job.progress == 0.25
        assert claim(tx, owner="two", lease_seconds=60) is None


def test_a_job_that_kills_its_workers_fails_and_the_next_one_goes_through(database: Database) -> None:
    with database.transaction() as tx:
        deadly = queued(tx, 1, priority=90, max_attempts=2)
        harmless = queued(tx, 2)
    for _ in range(2):
        with database.transaction() as tx:
            job, _lease = take(tx)
            assert job.id == deadly.id
            let_lease_run_out(tx, job)
    with database.transaction() as tx:
        assert take(tx)[0].id == harmless.id
        failed = get_job(tx, deadly.id)
        assert (failed.state, failed.attempts) == (JobState.FAILED, 2)
        assert failed.reason == "the worker died or hung; attempt 2 was the last allowed"


def test_a_job_whose_last_worker_is_known_to_have_died_says_how(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, 1, max_attempts=2)
        queued(tx, 2, max_attempts=2)
    for how in ("was killed", None):
        with database.transaction() as tx:
            (dead, _), (other, _) = take(tx, "one"), take(tx, "two")
            forsake(tx, "one", how)
            assert (dead.reason, other.reason) == (how, None)
            forsake(tx, "one", "could not be started")
            forsake(tx, "two")
    with database.transaction() as tx:
        assert [job.reason for job in fail_exhausted(tx)] == [
            "could not be started; attempt 2 was the last allowed",
            "the worker died or hung; attempt 2 was the last allowed",
        ]


def test_those_who_claim_can_tell_which_jobs_have_used_up_their_attempts(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, 1, max_attempts=1)
        queued(tx, 2, max_attempts=2)
        for job in [take(tx)[0], take(tx)[0]]:
            let_lease_run_out(tx, job)
        assert [job.id for job in fail_exhausted(tx)] == [1]
        assert fail_exhausted(tx) == []
        assert take(tx)[0].id == 2


# Ends


def test_a_finished_job_says_how_and_frees_its_lease(database: Database) -> None:
    ends = {JobState.RECONSTRUCTED: None, JobState.DECLINED: "no aperture", JobState.FAILED: "no weights"}
    for number, (state, reason) in enumerate(ends.items(), start=1):
        with database.transaction() as tx:
            queued(tx, number)
            _, lease = take(tx)
            job = finish(tx, lease, state, reason=reason, model_digest="d" * 64)
            assert (job.state, job.reason, job.model_digest) == (state, reason, "d" * 64)
            assert (job.lease_owner, job.lease_until) == (None, None)
            assert job.progress == (1.0 if state == JobState.RECONSTRUCTED else 0.0)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.DELIVERED])
def test_a_worker_cannot_end_a_job_otherwise(database: Database, state: JobState) -> None:
    with database.transaction() as tx:
        queued(tx)
        _, lease = take(tx)
        with pytest.raises(ForbiddenTransition, match=f"cannot end a job as {state}"):
            finish(tx, lease, state)


def test_a_job_put_back_waits_before_it_is_tried_again(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx)
        _, lease = take(tx)
        job = put_back(tx, lease, reason="out of memory", wait_seconds=3600)
        assert (job.state, job.reason, job.attempts) == (JobState.QUEUED, "out of memory", 1)
        assert claim(tx, owner="two", lease_seconds=60) is None
        job.not_before = current_time(tx)
        assert take(tx)[0].attempts == 2


def test_a_job_put_back_too_often_fails_with_the_last_reason(database: Database) -> None:
    with database.transaction() as tx:
        queued(tx, max_attempts=2)
        for reason in ("first", "second"):
            _, lease = take(tx)
            job = put_back(tx, lease, reason=reason, wait_seconds=0)
        assert (job.state, job.reason) == (JobState.FAILED, "second")
