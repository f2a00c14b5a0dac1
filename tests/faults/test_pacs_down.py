"""The PACS does not answer for a while: results wait for it, and reach it once when it is back."""

from pathlib import Path

from storage.transitions import JobState
from tests.factory import write, xa
from tests.hospital import PACS, Hospital, shows
from tests.nodes import LONG, NodeProcess
from tests.peers import free_port, orthanc, storescu, wait_until

FIRST_TRIES = 3


def test_a_pacs_that_is_down_for_the_first_three_tries_gets_the_result_once(tmp_path: Path) -> None:
    port = free_port()
    node = NodeProcess(tmp_path / "node", {"pacs": port}, titles={"pacs": PACS})
    with node.running():
        cine = write(xa(frames=2), tmp_path / "cine.dcm")
        assert storescu(node.port, cine).accepted
        wait_until(lambda: len(_postponed(node)) >= FIRST_TRIES, what="three tries", seconds=LONG)
        (job,) = node.jobs()
        assert job.state == JobState.DELIVERING
        with orthanc(tmp_path / "pacs", ae_title=PACS, port=port) as pacs:
            here = Hospital(tmp_path, node, pacs)
            assert shows(here.result(cine), cine)
            (job,) = node.wait_until_settled(1)
            assert job.state == JobState.DELIVERED
            assert len(here.results(cine)) == len(here.segmentations(cine)) == 1
            assert all("cannot be reached" in reason for reason in _postponed(node))
            assert here.goes_through()


def _postponed(node: NodeProcess) -> list[str]:
    """Why each try that failed did so."""
    return [row.details["reason"] for row in node.audit() if row.action == "delivery_postponed"]
