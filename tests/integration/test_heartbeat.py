"""A worker whose work does not listen ends as a process: over its limits, and when the job is no longer its own."""

import subprocess
import sys

from storage.database import Database
from storage.queue import cancel, get_job
from storage.transitions import JobState
from tests.jobs import queued

PROGRAM = """if True:
    import sys
    import time
    from config.settings import WorkerSettings
    from dicom_node.workflow.heartbeat import Heartbeat
    from storage.database import Database
    from storage.queue import claim, put_back
    database, settings = Database(sys.argv[1]), WorkerSettings.model_validate_json(sys.argv[2])
    with database.transaction() as tx:
        _, lease = claim(tx, owner="one", lease_seconds=settings.lease_seconds)

    def break_off(tx, lease, reason):
        put_back(tx, lease, reason=reason, wait_seconds=0)

    with Heartbeat(database, lease, settings, break_off):
        print("at work", flush=True)
        taken = bytearray(int(sys.argv[3]) << 20)
        time.sleep(120)
"""


def at_work(database_url: str, settings: str, megabytes: int = 0) -> subprocess.Popen[str]:
    """A process that holds the next job, and does not look up from it for two minutes."""
    worker = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, database_url, settings, str(megabytes)], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout.readline() == "at work\n"
    return worker


def after_its_end(database: Database, worker: subprocess.Popen[str]) -> tuple[JobState, str]:
    """What has become of its job."""
    worker.communicate(timeout=60)
    assert worker.returncode == 1
    with database.reading() as tx:
        job = get_job(tx, 1)
        return job.state, job.reason


def test_work_that_takes_too_long_is_broken_off_and_its_job_put_back(database: Database, database_url: str) -> None:
    with database.transaction() as tx:
        queued(tx)
    state, reason = after_its_end(database, at_work(database_url, '{"job_minutes": 0.01}'))
    assert (state, reason.partition(", ")[0]) == (JobState.QUEUED, "took longer than 0.01 min")


def test_work_that_takes_too_much_memory_is_broken_off_and_its_job_put_back(
    database: Database, database_url: str
) -> None:
    with database.transaction() as tx:
        queued(tx, max_attempts=1)
    state, reason = after_its_end(database, at_work(database_url, '{"memory_mb": 512}', megabytes=600))
    assert (state, reason.partition(", ")[0]) == (JobState.FAILED, "took more memory than 512 MB")


def test_work_that_goes_on_when_its_job_was_cancelled_is_ended(database: Database, database_url: str) -> None:
    with database.transaction() as tx:
        queued(tx)
    worker = at_work(database_url, '{"lease_seconds": 1}')
    with database.transaction() as tx:
        cancel(tx, 1, "anna")
    assert after_its_end(database, worker) == (JobState.FAILED, "cancelled by anna")
