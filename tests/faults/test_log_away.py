"""A log that cannot be written, on a full disk, costs nothing but its lines: the node receives, works and delivers."""

import subprocess
import sys
from pathlib import Path

from storage.transitions import JobState
from tests.factory import write, xa
from tests.nodes import LONG, NodeProcess
from tests.peers import echoscu, orthanc, storescu, wait_until


class Unheard(NodeProcess):
    """A node whose output goes to a disk that is full."""

    def start(self) -> None:
        """Start it, and wait until it answers, for it cannot say that it is ready."""
        self.launch()
        wait_until(lambda: self._alive() and echoscu(self.port).accepted, what="the node", seconds=LONG)

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        command = [sys.executable, "-m", "dicom_node", "node", "--settings", str(self.settings)]
        with Path("/dev/full").open("wb") as full:
            self._process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=full, stderr=full
            )


def test_a_node_whose_log_cannot_be_written_goes_on(tmp_path: Path) -> None:
    with orthanc(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = Unheard(tmp_path / "node", {"pacs": pacs.port})
        node.start()
        assert storescu(node.port, write(xa(frames=1), tmp_path / "cine.dcm")).statuses == [0]
        (job,) = node.wait_until_settled(1)
        assert job.state == JobState.DELIVERED
        assert node.stop() == 0
