"""How long a modality waits until a new object of 260 kB is acknowledged; the same for Orthanc beside it.

dcmtk's storescu sends the same objects to both in turns, and both write to one disk. Before the answer a node
syncs the file, its folders and the database; Orthanc syncs the file. A node's median is to be under 40 ms.
"""

import os
import subprocess
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from pydicom.uid import generate_uid

from benchmarks._place import folder_on_disk
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import orthanc

_ROUNDS, _OBJECTS = 10, 20
_TARGET = 40


def main() -> None:
    """Print both medians, and one as a share of the other."""
    # Else each of dcmtk's and so of Orthanc's answers waits 40 ms for TCP, and hides what the disk takes.
    os.environ["TCP_NODELAY"] = "1"
    node_ms: list[float] = []
    orthanc_ms: list[float] = []
    with folder_on_disk() as folder:
        rounds = [[_object(folder, r * _OBJECTS + i) for i in range(_OBJECTS)] for r in range(_ROUNDS + 1)]
        node = NodeProcess(folder / "node", {"pacs": 1}, worker={"processes": 0})
        with node.running(), orthanc(folder / "orthanc") as peer:
            for number, paths in enumerate(rounds):
                taken = _milliseconds(node.port, "FULLFIELD", paths)
                taken_by_peer = _milliseconds(peer.port, peer.ae_title, paths)
                if number:  # The first round warms up.
                    node_ms += taken
                    orthanc_ms += taken_by_peer
    print(f"acknowledged in {_in_words(node_ms)}; target {_TARGET} ms")
    ratio = median(node_ms) / median(orthanc_ms)
    print(f"Orthanc in {_in_words(orthanc_ms)}; ours takes {ratio:.1f} times that")


def _object(folder: Path, number: int) -> Path:
    """A single frame of 512x512 pixels of one byte, which nobody has seen before."""
    pixels = np.random.default_rng(number).integers(0, 256, (1, 512, 512), np.uint8)
    return write(xa(stored=pixels, bits_stored=8, series_instance_uid=generate_uid()), folder / f"{number}.dcm")


def _milliseconds(port: int, ae_title: str, paths: list[Path]) -> list[float]:
    """For each object the time from its request to its answer, over one association."""
    command = ["storescu", "-v", "-aec", ae_title, "127.0.0.1", str(port), *map(str, paths)]
    taken: list[float] = []
    begun = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("I: Sending Store Request"):
                begun = time.perf_counter()
            elif line.startswith("I: Received Store Response (Success)"):
                taken.append(1000 * (time.perf_counter() - begun))
    if len(taken) != len(paths):
        raise RuntimeError(f"{ae_title} acknowledged {len(taken)} of {len(paths)} objects.")
    return taken


def _in_words(milliseconds: list[float]) -> str:
    worst = quantiles(milliseconds, n=20)[-1]
    return f"{median(milliseconds):.1f} ms (median of {len(milliseconds)}; 95 % within {worst:.1f} ms)"


if __name__ == "__main__":
    main()
