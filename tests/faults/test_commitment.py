"""A node that dies owes its reports on storage commitment still, and still seeks what it has asked for."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage, generate_uid
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from config.settings import load_settings
from storage.files import ObjectStore
from storage.transitions import JobState
from tests.hospital import Hospital, hospital
from tests.nodes import LONG, NodeProcess
from tests.peers import free_port, wait_until
from tests.stored_jobs import reconstructed

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


def test_a_node_killed_while_it_asks_for_commitment_asks_again_and_the_job_is_committed(tmp_path: Path) -> None:
    here = NodeProcess(tmp_path / "node", {"pacs": (port := free_port())}, worker={"processes": 0})
    here.routes.write_text(f"{here.routes.read_text().rstrip()}\ncommitment = true\n")
    database, store = here.database(), ObjectStore(load_settings(here.settings).storage.root)
    database.migrate()
    job = reconstructed(database, store, "pacs")
    asked: list[str] = []

    def take(event: evt.Event) -> tuple[int, None]:
        asked.append(str(event.action_information.TransactionUID))
        if len(asked) == 1:
            here.kill()
        else:
            threading.Thread(target=_report, args=(here.port, event.action_information), daemon=True).start()
        return 0, None

    ae = AE("PACS")
    ae.supported_contexts = list(AllStoragePresentationContexts)
    ae.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_N_ACTION, take)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    here.start()
    wait_until(lambda: asked, what="the request", seconds=LONG)
    here.wait()
    here.start()
    wait_until(lambda: here.job(job).state == JobState.COMMITTED, what="the job to be committed", seconds=LONG)
    told = [row for row in here.audit() if row.action == "commitment_asked"]
    here.stop()
    server.shutdown()
    database.close()
    assert len(asked) == 2
    assert len(set(asked)) == 1
    assert [row.details["attempt"] for row in told] in ([2], [])


def _report(port: int, asked: Dataset) -> None:
    """Report over an association to the node that all is committed."""
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
    contexts = [build_context(StorageCommitmentPushModel)]
    association = AE("PACS").associate("127.0.0.1", port, contexts, ae_title="FULLFIELD", ext_neg=roles)
    association.send_n_event_report(asked, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
