"""Node and worker end in the middle of a job, killed or told to: the job is done all the same, and once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from storage.schema import Job
from storage.transitions import JobState
from tests.commands import Command
from tests.hospital import RESULTS, Hospital, hospital, shows
from tests.nodes import LONG, is_alive, kill
from tests.peers import wait_until

#: Frames of a cine that keeps the worker busy for as long as a test needs to strike.
FRAMES = 4
#: How often a job is tried.
ATTEMPTS = 2


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with hospital(tmp_path_factory.mktemp("hospital"), worker={"max_attempts": ATTEMPTS}) as here:
        yield here


def _in_the_middle_of_a_job(here: Hospital) -> tuple[Path, Job]:
    """Push a cine, and wait until the worker is at it."""
    cine, jobs = here.cine(frames=FRAMES), len(here.node.jobs())
    assert here.push(cine).accepted
    wait_until(
        lambda: len(found := here.node.jobs()) > jobs and found[-1].state == JobState.RUNNING,
        what="the worker to begin",
        seconds=LONG,
    )
    return cine, here.node.jobs()[-1]


def _is_at(here: Hospital, job: Job, attempt: int) -> bool:
    """Whether a worker is at the job, for the so many-th time."""
    now = here.node.job(job.id)
    return (now.state, now.attempts) == (JobState.RUNNING, attempt)


def _is_done_once(here: Hospital, cine: Path, job: Job) -> bool:
    """Whether the job comes to its end, with one result in the PACS."""
    return shows(here.result(cine), cine) and _settled(here, job).state == JobState.DELIVERED


def _settled(here: Hospital, job: Job) -> Job:
    here.node.wait_until_settled(job.id)
    return here.node.job(job.id)


def _deaths(here: Hospital) -> list[str]:
    """What was told of workers that ended unasked."""
    return [row.details["reason"] for row in here.node.audit() if row.action == "worker_died"]


def _actions(here: Hospital, job: Job) -> list[str]:
    return [row.action for row in here.node.audit() if row.job_id == job.id]


def test_a_worker_killed_in_the_middle_of_a_job_is_replaced_and_the_job_done(here: Hospital) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    (worker,) = here.node.workers()
    kill(worker)
    assert _is_done_once(here, cine, job)
    assert _settled(here, job).attempts == 2
    assert worker not in here.node.workers()
    assert _deaths(here) == [f"worker process {worker} was killed by SIGKILL"]
    assert _actions(here, job) == [
        "job_queued",
        "job_started",
        "job_started",
        *["reconstructed"] * RESULTS,
        *["delivered"] * RESULTS,
        "job_delivered",
    ]
    assert here.goes_through()


def test_a_node_killed_in_the_middle_of_a_job_goes_on_after_a_start_and_leaves_no_worker_behind(
    here: Hospital,
) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    (orphan,) = here.node.workers()
    here.node.kill()
    here.node.start()
    assert _is_done_once(here, cine, job)
    wait_until(lambda: not is_alive(orphan), what="the orphaned worker to end", seconds=LONG)
    assert here.goes_through()


def test_a_machine_that_loses_power_in_the_middle_of_a_job_goes_on_after_a_start(here: Hospital) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    (worker,) = here.node.workers()
    here.node.kill()
    kill(worker)
    assert here.node.job(job.id).state == JobState.RUNNING
    here.node.start()
    assert _is_done_once(here, cine, job)
    assert _settled(here, job).attempts == 2
    assert here.goes_through()


def test_a_worker_that_hangs_is_replaced_and_its_job_done(here: Hospital) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    (worker,) = here.node.workers()
    kill(worker, signal.SIGSTOP)
    assert _is_done_once(here, cine, job)
    assert _settled(here, job).attempts == 2
    assert not is_alive(worker)
    assert _deaths(here)[-1] == (
        f"worker process {worker} was killed by SIGKILL, for its job had no sign of life for too long"
    )


def test_a_job_that_kills_its_worker_each_time_fails_in_words_and_can_be_retried(
    here: Hospital, fullfield: Command
) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    for attempt in range(1, ATTEMPTS + 1):
        wait_until(lambda n=attempt: _is_at(here, job, n), what=f"attempt {attempt}", seconds=LONG)
        (worker,) = here.node.workers()
        kill(worker)
    failed = _settled(here, job)
    assert (failed.state, failed.reason) == (
        JobState.FAILED,
        f"worker process {worker} was killed by SIGKILL; attempt {ATTEMPTS} was the last allowed",
    )
    assert here.goes_through()
    status, out, _ = fullfield("jobs", "retry", job.id, "--settings", here.node.settings)
    assert (status, out) == (0, f"Job {job.id} is queued.\n")
    assert shows(here.result(cine), cine)


def test_a_node_told_to_end_waits_for_no_idle_peer_and_gives_its_job_back(here: Hospital) -> None:
    cine, job = _in_the_middle_of_a_job(here)
    (worker,) = here.node.workers()
    idle = AE("IDLE").associate("127.0.0.1", here.node.port, [build_context(Verification)], ae_title="FULLFIELD")
    assert idle.is_established
    assert here.node.stop() == 0
    assert not is_alive(worker)
    wait_until(lambda: idle.is_aborted, what="the idle peer to hear of it")
    left = here.node.job(job.id)
    assert (left.state, left.attempts, left.reason) == (JobState.QUEUED, 0, "the worker was stopped")
    assert here.node.audit()[-1].action == "node_stopped"
    assert "Traceback" not in here.node.log.read_text()
    here.node.start()
    assert _is_done_once(here, cine, job)


def test_ctrl_c_ends_node_and_worker_and_is_nobodys_death(here: Hospital) -> None:
    (worker,) = here.node.workers()
    deaths = _deaths(here)
    # At a terminal it goes to every process, to the worker as soon as to the node.
    kill(worker, signal.SIGINT)
    here.node.tell(signal.SIGINT)
    assert here.node.wait() == 0
    assert not is_alive(worker)
    assert _deaths(here) == deaths
    here.node.start()
