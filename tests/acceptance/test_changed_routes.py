"""Routes that change while a job waits or runs: it is done by its route as it was, what comes later by the new one."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.schema import AuditRow
from storage.transitions import JobState
from tests.hospital import PACS, RESULTS, Hospital, hospital, shows
from tests.nodes import LONG
from tests.peers import wait_until

#: The picture goes alone, by a route that the changed file has no more.
BEFORE = {"name": "before", "segmentation": False, "presentation_state": False, "report": False}
AFTER = {"name": "after"}

#: A worker that, with its first job begun, waits for a line before it goes on.
WORKER = """if True:
    import sys
    from dicom_node.commands.main import main
    from inference.reconstruct import Reconstructor

    load = Reconstructor.load

    def wait_and_load(*arguments, **options):
        sys.stdin.readline()
        return load(*arguments, **options)

    Reconstructor.load = wait_and_load
    main()
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """A hospital in which jobs wait until a worker is called."""
    with hospital(tmp_path_factory.mktemp("hospital"), worker={"processes": 0}, route=BEFORE) as here:
        yield here


def write_routes(here: Hospital, route: dict[str, Any]) -> None:
    here.node.write_routes({"pacs": here.pacs.port}, {"pacs": PACS}, **route)


def told(here: Hospital, action: str) -> list[AuditRow]:
    return [row for row in here.node.audit() if row.action == action]


def reload(here: Hospital, route: dict[str, Any]) -> None:
    """Put a changed file in force in a running node."""
    before = len(told(here, "routes_loaded"))
    write_routes(here, route)
    here.node.tell(signal.SIGHUP)
    wait_until(lambda: len(told(here, "routes_loaded")) > before, what="the routes to be loaded")


def restart(here: Hospital, route: dict[str, Any]) -> None:
    """Start the node anew with a changed file."""
    here.node.stop()
    write_routes(here, route)
    here.node.start()


def push(here: Hospital) -> Path:
    """Have a cine's job queued."""
    cine, jobs = here.cine(), len(here.node.jobs())
    assert here.push(cine).accepted
    wait_until(lambda: len(here.node.jobs()) > jobs, what="the job")
    return cine


def call_a_worker(here: Hospital) -> subprocess.Popen[bytes]:
    """A worker that ends when nothing more is due."""
    command = [sys.executable, "-c", WORKER, "worker", "--once", "--settings", here.node.settings]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def call_a_worker_that_begins(here: Hospital) -> subprocess.Popen[bytes]:
    worker = call_a_worker(here)
    wait_until(lambda: here.node.jobs()[-1].state == JobState.RUNNING, what="the job to be begun", seconds=LONG)
    return worker


@pytest.mark.parametrize(
    ("state", "change"), [(JobState.QUEUED, reload), (JobState.QUEUED, restart), (JobState.RUNNING, reload)]
)
def test_a_job_that_waits_or_runs_is_done_by_its_route_as_it_was(
    here: Hospital, state: JobState, change: Callable[[Hospital, dict[str, Any]], None]
) -> None:
    change(here, BEFORE)
    earlier = push(here)
    begun = call_a_worker_that_begins(here) if state == JobState.RUNNING else None
    change(here, AFTER)
    later = push(here)
    assert [job.state for job in here.node.jobs()[-2:]] == [state, JobState.QUEUED]
    worker = begun or call_a_worker(here)
    said, _ = worker.communicate(b"go on\n", timeout=LONG)
    assert worker.returncode == 0, said
    done = here.node.wait_until_settled(len(here.node.jobs()))[-2:]
    assert [(job.route, job.state) for job in done] == [("before", JobState.DELIVERED), ("after", JobState.DELIVERED)]
    assert [job.attempts for job in done] == [1, 1]
    made = [[row.details["route"] for row in told(here, "reconstructed") if row.job_id == job.id] for job in done]
    assert made == [["before"], ["after"] * RESULTS]
    assert all(shows(here.result(cine), cine) for cine in (earlier, later))
    assert [len(here.segmentations(cine)) for cine in (earlier, later)] == [0, 1]
