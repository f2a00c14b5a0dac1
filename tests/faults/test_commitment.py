"""A node that dies between the acknowledgement of a request for storage commitment and its report still reports."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from tests.hospital import Hospital, hospital
from tests.nodes import LONG
from tests.peers import free_port, wait_until

PORT = free_port()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Hospital]:
    allow = {"allow": [{"ae_title": "CARM1", "addresses": ["127.0.0.1"], "port": PORT}]}
    with hospital(tmp_path, listener=allow, worker={"processes": 0}) as here:
        yield here


def test_a_node_killed_after_it_took_a_request_reports_when_it_runs_again(here: Hospital) -> None:
    cine, transaction = here.cine(), generate_uid()
    assert here.push(cine).accepted
    _ask_and_kill(here, str(dcmread(cine).SOPInstanceUID), transaction)
    assert here.node.told("commitment_reported") == 0
    reports: list[Dataset] = []

    def take(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        return 0, None

    ae = AE("CARM1")
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    server = ae.start_server(("127.0.0.1", PORT), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)])
    here.node.start()
    wait_until(lambda: here.node.told("commitment_reported"), what="the report", seconds=LONG)
    server.shutdown()
    (report,) = reports
    (item,) = report.ReferencedSOPSequence
    assert (report.TransactionUID, item.ReferencedSOPInstanceUID) == (transaction, dcmread(cine).SOPInstanceUID)
    assert "FailedSOPSequence" not in report


def _ask_and_kill(here: Hospital, instance: str, transaction: str) -> None:
    """Kill the node as soon as it has acknowledged the request."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = XRayAngiographicImageStorage, instance
    asked = Dataset()
    asked.TransactionUID, asked.ReferencedSOPSequence = transaction, [item]
    contexts = [build_context(StorageCommitmentPushModel)]
    association = AE("CARM1").associate("127.0.0.1", here.node.port, contexts, ae_title="FULLFIELD")
    assert association.is_established
    answer, _ = association.send_n_action(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    here.node.kill()
    assert answer.Status == 0
    association.join()
