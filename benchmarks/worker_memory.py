"""The memory of a worker that reconstructs a cine, with everything that goes beside the picture, by its frames.

Resident memory at its highest, and of that what the process alone holds: pages of files, such as those of the cine's
temporary arrays, can be had back at any time.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._cine import write_cine
from benchmarks._place import folder_on_disk, memory_now, peak_memory
from storage.transitions import JobState
from tests.nodes import NodeProcess


def main() -> None:
    """Print the peaks for a cine of each number of frames."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 40], help="of each cine (default: 8 40)")
    parser.add_argument("--side", type=int, default=1024, help="rows and columns (default: 1024)")
    parser.add_argument("--moving", action="store_true", help="blades that move, and that no attribute tells of")
    chosen = parser.parse_args()
    with folder_on_disk() as folder:
        for frames in chosen.frames:
            cine = write_cine(folder / "cine.dcm", frames=frames, side=chosen.side, moving=chosen.moving)
            peak, own, seconds = _reconstructing(folder / str(frames), cine)
            pixels = 2 * frames * chosen.side**2 >> 20
            print(
                f"{frames} frames, {pixels} MB of pixels: {peak} MB resident at the most, {own} MB but for files; "
                f"{seconds:.0f} s"
            )


def _reconstructing(folder: Path, cine: Path) -> tuple[int, int, float]:
    """The peaks of a worker that reconstructs the cine, and its seconds from start to end."""
    node = NodeProcess(folder, {"pacs": 1}, route={"uncertainty": True}, worker={"processes": 0, "lease_seconds": 60})
    with node.running():
        run = [sys.executable, "-m", "dicom_node", "send", str(cine), "--to", f"127.0.0.1:{node.port}:FULLFIELD"]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    began = time.monotonic()
    peak = own = 0
    command = [sys.executable, "-m", "dicom_node", "worker", "--once", "--settings", str(node.settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Not from getrusage, whose peak of a child begins with its parent's.
            peak = max(peak, peak_memory(process.pid))
            own = max(own, memory_now(process.pid, "RssAnon"))
            time.sleep(0.02)
    (job,) = node.jobs()
    if process.returncode or job.state != JobState.RECONSTRUCTED:
        raise RuntimeError(f"The worker ended with {process.returncode}, the job is {job.state}: {job.reason}")
    return peak, own, time.monotonic() - began


if __name__ == "__main__":
    main()
