"""A job with destinations of every profile: each of them gets its own objects, and only these."""

import threading
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.uid import (
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    XRayAngiographicImageStorage,
)

from config.objects import ObjectProfile
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings, WorkerSettings
from dicom_node.workflow.delivery import Courier
from dicom_node.workflow.worker import Worker
from storage.database import Database
from storage.files import ObjectStore
from storage.transitions import JobState
from tests.factory import xa
from tests.peers import Peer, storescp
from tests.stored_jobs import queue_job, wait_for

QUICK = DeliverySettings(timeout_seconds=30, poll_seconds=0.02)
PROFILES: dict[str, ObjectProfile] = {"new": "multiframe_sc", "old": "single_frames", "strict": "like_source"}
CLASSES = {
    "new": [MultiFrameGrayscaleWordSecondaryCaptureImageStorage],
    "old": [SecondaryCaptureImageStorage] * 3,
    "strict": [XRayAngiographicImageStorage],
}


def destination(name: str, peer: Peer) -> Destination:
    return Destination(name=name, ae_title=peer.ae_title, host=peer.host, port=peer.port, objects=PROFILES[name])


def test_each_destination_gets_the_pictures_of_its_profile_and_a_segmentation_of_them(
    sqlite_url, reconstructor, tmp_path: Path
):
    database, store = Database(sqlite_url), ObjectStore(tmp_path / "store")
    database.migrate()
    source = xa(frames=3)
    source.private_block(0x0019, "VENDOR", create=True).add_new(1, "LO", "private")
    job = queue_job(
        database, store, source, destinations=tuple(PROFILES), pictures=PROFILES, private_creators=("VENDOR",)
    )
    Worker(database, store, WorkerSettings(), name="one", load=lambda _: reconstructor).run(
        threading.Event(), once=True
    )
    with storescp(tmp_path / "new") as new, storescp(tmp_path / "old") as old, storescp(tmp_path / "strict") as strict:
        peers = {"new": new, "old": old, "strict": strict}
        table = RouteTable(destinations=tuple(destination(name, peer) for name, peer in peers.items()))
        courier = Courier(database, store, QUICK, table=lambda: table, calling_ae="FULLFIELD", name="courier")
        courier.start()
        try:
            wait_for(database, job, JobState.DELIVERED)
        finally:
            courier.stop()
        arrived = {name: [dcmread(path) for path in peer.files()] for name, peer in peers.items()}
    database.close()
    shown = []
    for name, objects in arrived.items():
        pictures = sorted((each for each in objects if each.Modality == "XA"), key=lambda each: each.InstanceNumber)
        assert [each.SOPClassUID for each in pictures] == CLASSES[name]
        assert {each.private_block(0x0019, "VENDOR")[1].value for each in pictures} == {"private"}
        [mask] = [each for each in objects if each.SOPClassUID == SegmentationStorage]
        frames = mask.PerFrameFunctionalGroupsSequence
        sources = [groups.DerivationImageSequence[0].SourceImageSequence[0] for groups in frames]
        named = {each.ReferencedSOPInstanceUID for each in sources}
        assert named == {each.SOPInstanceUID for each in pictures}
        shown.append(np.concatenate([each.pixel_array.reshape(-1, 64, 64) for each in pictures]))
    assert np.array_equal(shown[0], shown[1])
    assert np.array_equal(shown[0], shown[2])
    inside = np.s_[:, 16:48, 16:48]
    assert np.array_equal(shown[0][inside], source.pixel_array[inside])
