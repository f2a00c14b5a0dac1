"""A result that comes back to the node is acknowledged and kept, and never taken for an input."""

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from config.mark import Mark
from config.routes import Destination, Route, RouteTable
from dicom_node.workflow.reconstruction import objects_of
from dicom_node.workflow.series import object_kept
from storage.objects import ReceivedObject, keep_object
from storage.queue import list_jobs
from storage.states import ObjectKind
from tests.factory import reconstruction, write, xa
from tests.listening import Node
from tests.peers import orthanc, storescu
from tests.stored_jobs import received
from tests.web import Web, part_10, serving

TABLE = RouteTable(
    routes=(Route(name="all", destinations=("pacs",)),),
    destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
)


@pytest.fixture
def web(tmp_path, monkeypatch) -> Iterator[Web]:
    """A node with a route that takes all it may."""
    monkeypatch.setattr(
        Node, "_on_kept", lambda _, tx, stored, header: object_kept(tx, stored, header, table=TABLE, max_attempts=3)
    )
    with serving(tmp_path / "node") as web:
        yield web


@pytest.fixture(scope="module")
def results() -> list[Dataset]:
    source = xa(frames=2)
    return objects_of(source, reconstruction(source), route="all", mark=Mark()).all()


def make(node: Node, results: list[Dataset]) -> list[ReceivedObject]:
    """Have the node know the results as its own."""
    made = [received(node.store, result, ObjectKind.RESULT) for result in results]
    with node.database.transaction() as tx:
        for one in made:
            keep_object(tx, one)
    return made


def jobs(node: Node) -> int:
    with node.database.reading() as tx:
        return len(list_jobs(tx))


def recognised(node: Node) -> dict[str, str]:
    """Why each object was, by its UID."""
    return {row.sop_instance_uid: row.details["reason"] for row in node.rows("generated_recognised")}


def test_a_cine_is_taken(web, tmp_path):
    assert storescu(web.node.port, write(xa(), tmp_path / "cine.dcm")).accepted
    assert jobs(web.node) == 1


def test_what_another_node_has_made_is_kept_and_takes_no_route(web, results, tmp_path):
    files = [write(result, tmp_path / f"{number}.dcm") for number, result in enumerate(results)]
    assert storescu(web.node.port, *files).accepted
    assert {row.sop_instance_uid for row in web.node.objects()} == {result.SOPInstanceUID for result in results}
    assert recognised(web.node).keys() == {result.SOPInstanceUID for result in results}
    assert jobs(web.node) == 0


def test_it_is_recognised_by_http_too(web, results):
    assert web.post([part_10(result) for result in results]).status_code == 200
    assert recognised(web.node).keys() == {result.SOPInstanceUID for result in results}
    assert jobs(web.node) == 0


def test_an_archive_sends_back_what_it_was_sent(web, results, tmp_path):
    node = web.node
    make(node, results)
    with orthanc(
        tmp_path / "orthanc", ae_title="PACS", DicomModalities={"node": ["FULLFIELD", "127.0.0.1", node.port]}
    ) as pacs:
        assert storescu(pacs.port, *(node.store.path(row.digest) for row in node.objects()), called="PACS").accepted
        for _ in range(2):
            sent = pacs.ask("/modalities/node/store", {"Resources": pacs.get("/instances"), "Synchronous": True})
            assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (len(results), 0)
    assert set(recognised(node).values()) == {"its UID is that of a result of this node"}
    assert recognised(node).keys() == {result.SOPInstanceUID for result in results}
    assert {row.peer_ae for row in node.rows("generated_recognised")} == {"PACS"}
    # Each once as it was made and, for the archive has written them anew, once beside that.
    assert sorted(row.kind for row in node.objects()) == ["aside"] * len(results) + ["result"] * len(results)
    assert jobs(node) == 0


def test_a_result_without_its_history_and_under_another_uid_is_known_by_its_series(web, results, tmp_path):
    make(web.node, results)
    stripped = xa(series_instance_uid=results[0].SeriesInstanceUID, sop_instance_uid=generate_uid())
    assert storescu(web.node.port, write(stripped, tmp_path / "stripped.dcm")).accepted
    assert recognised(web.node) == {stripped.SOPInstanceUID: "this node has made its series"}
    assert jobs(web.node) == 0
