"""The memory of a worker does not grow with the frames of a cine."""

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks._place import peak_memory
from config.settings import WorkerSettings
from dicom_node.workflow.worker import Worker
from inference.on_disk import keep_arrays_in
from inference.reconstruct import Reconstructor
from storage.database import Database
from storage.files import ObjectStore
from storage.transitions import JobState
from tests.factory import xa
from tests.stored_jobs import job_of, queue_received, received

SIDE = 512
FEW, MANY = 8, 104


def reconstructing(folder: Path) -> int:
    """The most MB that are resident in this process while it reconstructs a cine, with all that goes beside it."""
    torch.set_num_threads(1)
    database, store = Database(f"sqlite:///{folder / 'node.db'}"), ObjectStore(folder / "store")
    keep_arrays_in(store.incoming)
    load = partial(Reconstructor.load, device="cpu")
    Worker(database, store, WorkerSettings(), name="one", load=load).run(threading.Event(), once=True)
    database.close()
    return peak_memory("self")


@pytest.mark.long
def test_a_long_cine_takes_no_more_memory_than_a_short_one(tmp_path):
    peaks = {}
    for frames in (FEW, MANY):
        folder = tmp_path / str(frames)
        database, store = Database(f"sqlite:///{folder / 'node.db'}"), ObjectStore(folder / "store")
        database.migrate()
        cine = received(store, xa(frames=frames, rows=SIDE, columns=SIDE))
        job = queue_received(database, cine, uncertainty=True)
        # A process that has done nothing before, whose memory nothing else has passed through.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            peaks[frames] = process.submit(reconstructing, folder).result()
        assert job_of(database, job).state == JobState.RECONSTRUCTED
        assert list(store.incoming.iterdir()) == []
        database.close()

    pixels = (MANY - FEW) * SIDE * SIDE * 2 >> 20
    assert peaks[MANY] - peaks[FEW] < pixels / 2, peaks
