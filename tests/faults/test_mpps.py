"""A node that is killed between the reports of a procedure step, or before the last of its objects, forgets nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import free_port, storescu
from tests.procedure_steps import begun, ended, reporting


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    route = {"complete": "quiet", "quiet_seconds": 600}
    node = NodeProcess(tmp_path / "node", {"pacs": free_port()}, route=route, worker={"processes": 0})
    with node.running():
        yield node


def test_a_node_killed_after_each_acknowledgement_goes_on_where_it_was(node: NodeProcess, tmp_path: Path) -> None:
    study, series, uid, frames = generate_uid(), generate_uid(), generate_uid(), [generate_uid(), generate_uid()]
    first, last = (
        write(xa(frames=1, study_instance_uid=study, series_instance_uid=series, sop_instance_uid=frame), path)
        for frame, path in zip(frames, (tmp_path / "1.dcm", tmp_path / "2.dcm"), strict=True)
    )
    assert _acknowledged_and_killed(node, uid, begun(study)) == 0
    node.start()
    assert storescu(node.port, first).accepted
    assert _acknowledged_and_killed(node, uid, ended({series: frames})) == 0
    node.start()
    assert node.jobs() == []
    assert storescu(node.port, last).accepted
    (job,) = node.jobs()
    assert job.series_instance_uid == series
    (completed,) = [row for row in node.audit() if row.action == "series_completed"]
    assert completed.details["objects"] == 2


def test_a_job_that_the_end_of_a_step_queued_outlives_the_node(node: NodeProcess, tmp_path: Path) -> None:
    study, series, uid, frame = generate_uid(), generate_uid(), generate_uid(), generate_uid()
    object = xa(frames=1, study_instance_uid=study, series_instance_uid=series, sop_instance_uid=frame)
    with reporting(node.port, uid) as step:
        assert step.create(begun(study)).Status == 0
    assert storescu(node.port, write(object, tmp_path / "1.dcm")).accepted
    assert _acknowledged_and_killed(node, uid, ended({series: [frame]})) == 0
    node.start()
    assert len(node.jobs()) == 1
    with reporting(node.port, uid) as step:
        assert step.set(ended({series: [frame]})).ErrorID == 0xA710
    assert len(node.jobs()) == 1


def _acknowledged_and_killed(node: NodeProcess, uid: str, report: Dataset) -> int:
    """Kill the node as soon as it has answered a report; the status."""
    with reporting(node.port, uid) as step:
        answer = step.create(report) if "Modality" in report else step.set(report)
        node.kill()
    return int(answer.Status)
