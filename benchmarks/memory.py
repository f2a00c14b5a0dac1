"""The memory of a node while it receives a cine of 2 GB, beside that for one of 8 MB: it is to be the same."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks._cine import write_cine
from benchmarks._place import folder_on_disk, forget_peak, peak_memory
from tests.nodes import NodeProcess

#: Frames of 512x512 pixels in two bytes that the node receives.
_SMALL, _LARGE = 16, 4096


def main() -> None:
    """Print the peaks of node and sender."""
    with folder_on_disk() as folder:
        node = NodeProcess(folder / "node", {"pacs": 1}, worker={"processes": 0})
        with node.running():
            small, sender_small = _receiving(node, write_cine(folder / "cine.dcm", frames=_SMALL, side=512))
            large, sender_large = _receiving(node, write_cine(folder / "cine.dcm", frames=_LARGE, side=512))
        print(
            f"node: {large} MB at the most with {_LARGE >> 1} MB received, {small} MB with {_SMALL >> 1} MB; "
            f"fullfield send: {sender_large} MB and {sender_small} MB"
        )


def _receiving(node: NodeProcess, cine: Path) -> tuple[int, int]:
    """The peaks of the node and of the sender while the node receives the cine."""
    forget_peak(node.pid)
    sender = _peak_of("send", str(cine), "--to", f"127.0.0.1:{node.port}:FULLFIELD")
    return peak_memory(node.pid), sender


def _peak_of(*arguments: str) -> int:
    """Run a command of Fullfield's; the most memory that it had resident."""
    peak = 0
    command = [sys.executable, "-m", "dicom_node", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Not from getrusage, whose peak of a child begins with its parent's.
            peak = max(peak, peak_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"fullfield {arguments[0]} ended with code {process.returncode}.")
    return peak


if __name__ == "__main__":
    main()
