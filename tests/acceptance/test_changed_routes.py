"""Routes that change while a job waits: it is done by its route as it was, and what comes later by the new one."""

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


@pytest.mark.parametrize("change", [reload, restart])
def test_a_job_that_waits_is_done_by_its_route_as_it_was(
    here: Hospital, change: Callable[[Hospital, dict[str, Any]], None]
) -> None:
    change(here, BEFORE)
    earlier = push(here)
    change(here, AFTER)
    later = push(here)
    waiting = here.node.jobs()[-2:]
    assert [job.state for job in waiting] == [JobState.QUEUED] * 2
    command = [sys.executable, "-m", "dicom_node", "worker", "--once", "--settings", here.node.settings]
    subprocess.run(command, check=True, timeout=LONG, capture_output=True)
    done = here.node.wait_until_settled(len(here.node.jobs()))[-2:]
    assert [(job.route, job.state) for job in done] == [("before", JobState.DELIVERED), ("after", JobState.DELIVERED)]
    made = [[row.details["route"] for row in told(here, "reconstructed") if row.job_id == job.id] for job in done]
    assert made == [["before"], ["after"] * RESULTS]
    assert all(shows(here.result(cine), cine) for cine in (earlier, later))
    assert [len(here.segmentations(cine)) for cine in (earlier, later)] == [0, 1]
