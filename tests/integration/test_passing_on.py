"""Dose reports and presentation states: kept, and passed on to a route's destinations as they came."""

import threading

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    UltrasoundMultiFrameImageStorage,
)

from config.routes import Destination, Route, RouteTable
from config.settings import WorkerSettings
from dicom_node.network.sender import send
from dicom_node.sop_classes import PASSED_ON
from dicom_node.workflow.routing import choose
from dicom_node.workflow.worker import Worker
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import StoredObject
from storage.transitions import JobState
from tests.factory import xa
from tests.peers import storescp
from tests.stored_jobs import deliveries, job_of, queue_job, steps

PACS = Destination(name="pacs", ae_title="STORESCP", host="127.0.0.1", port=104)
TABLE = RouteTable(routes=(Route(name="all", destinations=("pacs",)),), destinations=(PACS,))


@pytest.mark.parametrize("sop_class", PASSED_ON, ids=lambda uid: uid.keyword)
def test_what_goes_with_pictures_reaches_the_destination_as_it_came(sop_class, sqlite_url, reconstructor, tmp_path):
    database, store = Database(sqlite_url), ObjectStore(tmp_path / "store")
    database.migrate()
    report = xa(sop_class=sop_class, frames=0, missing=["PixelData"])
    assert choose(TABLE, report, "CARM", "FULLFIELD").route is not None
    job = queue_job(database, store, report)

    Worker(database, store, WorkerSettings(), name="one", load=lambda _: reconstructor).run(
        threading.Event(), once=True
    )

    assert job_of(database, job).state == JobState.RECONSTRUCTED
    assert job_of(database, job).model_digest is None
    assert "passed_on" in steps(database, job)
    (delivery,) = deliveries(database, job)
    with database.reading() as tx:
        path = store.path(tx.get_one(StoredObject, delivery.object_id).digest)
    with storescp(tmp_path / "pacs") as pacs:
        assert [sent.status for sent in send(pacs, "FULLFIELD", [path], 30)] == [0x0000]
        (arrived,) = pacs.files()
        assert dcmread(arrived) == dcmread(path) == report
    database.close()


@pytest.mark.parametrize(
    "sop_class",
    [ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, UltrasoundMultiFrameImageStorage],
    ids=lambda uid: uid.keyword,
)
def test_other_pictures_of_the_room_are_taken_by_no_route(sop_class):
    decision = choose(TABLE, xa(sop_class=sop_class), "CARM", "FULLFIELD")
    assert decision.route is None
    assert decision.reasons["all"] == f"an object of the SOP class {sop_class.name} is not reconstructed"
