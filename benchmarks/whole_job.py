"""Seconds a 512x512 frame for the whole job in `mean` mode: from received to acknowledged by an archive.

storescu sends a cine, the node's worker reconstructs it on two cores, and Orthanc takes the result. Times are
those of the audit trail. The bundled sample and a cine of more of its frames; at most 1 s a frame is wanted.
"""

import os
import time
from copy import deepcopy
from pathlib import Path
from statistics import median

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from benchmarks._place import folder_on_disk
from dicom_node.audit import Action
from dicom_node.commands.demo import SAMPLE
from storage.schema import Job
from storage.transitions import JobState
from tests.nodes import LONG, SETTLED, NodeProcess
from tests.peers import orthanc, storescu

_RUNS = 3
_LONG = 64
_TARGET = 1.0


def main() -> None:
    """Print seconds a frame for both cines."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    sample = dcmread(SAMPLE)
    with folder_on_disk() as folder, orthanc(folder / "orthanc") as archive:
        node = NodeProcess(folder / "node", {"archive": archive.port}, titles={"archive": archive.ae_title})
        with node.running():
            first = _seconds(node, sample, folder)
            short = [_seconds(node, sample, folder) for _ in range(_RUNS)]
            long = _seconds(node, _longer(sample), folder)
    frames = int(sample.NumberOfFrames)
    print(
        f"{frames} frames: {median(short) / frames:.2f} s a frame (median of {_RUNS} jobs; target {_TARGET:g} s), "
        f"{first / frames:.2f} s with the loading of the networks"
    )
    print(f"{_LONG} frames: {long / _LONG:.2f} s a frame (one job)")


def _longer(sample: Dataset) -> Dataset:
    """The sample over and over, uncompressed."""
    cine = deepcopy(sample)
    cine.decompress(generate_instance_uid=False)
    frames = int(sample.NumberOfFrames)
    frame_bytes = len(cine.PixelData) // frames
    cine.PixelData = (cine.PixelData * (_LONG // frames + 1))[: _LONG * frame_bytes]
    cine.NumberOfFrames = _LONG
    return cine


def _seconds(node: NodeProcess, cine: Dataset, folder: Path) -> float:
    """Send the cine under UIDs of its own, and wait for the end of its job."""
    cine.SOPInstanceUID = cine.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    cine.SeriesInstanceUID = generate_uid()
    path = folder / "cine.dcm"
    cine.save_as(path, enforce_file_format=True)
    sent_before = len(node.jobs())
    # It has to propose JPEG 2000 for the sample, which is compressed.
    if not storescu(node.port, "-xv", path).accepted:
        raise RuntimeError("The node did not acknowledge the cine.")
    job = _settled(node, sent_before)
    if job.state != JobState.DELIVERED:
        raise RuntimeError(f"The job ended {job.state}: {job.reason}")
    rows = node.audit()
    (received,) = [
        row for row in rows if row.action == Action.OBJECT_RECEIVED and row.sop_instance_uid == cine.SOPInstanceUID
    ]
    (delivered,) = [row for row in rows if row.action == Action.JOB_DELIVERED and row.job_id == job.id]
    return (delivered.at - received.at).total_seconds()


def _settled(node: NodeProcess, number: int) -> Job:
    """The job with this index, once nothing more becomes of it; looked for rarely, for looking takes time too."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        job = next(iter(node.jobs()[number:]), None)
        if job is not None and job.state in SETTLED:
            return job
        time.sleep(0.3)
    raise TimeoutError(f"The job was not done after {LONG:g} s.")


if __name__ == "__main__":
    main()
