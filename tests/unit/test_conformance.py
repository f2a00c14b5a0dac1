"""The conformance statement tells of all that a node negotiates, answers and makes."""

import re
from functools import cache

import pytest
from pydicom.uid import UID

from config.routes import Destination, Route
from dicom_node.commands.conformance import ANSWERS
from dicom_node.commands.conformance_tables import offered
from dicom_node.commands.reference import PAGES
from dicom_node.lossless import LOSSLESS
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.dicomweb.application import ROOT
from dicom_node.network.statuses import Status
from dicom_node.sop_classes import BESIDE, PICTURES, RECEIVED

page = cache(PAGES["../conformance.md"])
lines = cache(lambda: page().splitlines())


def test_every_sop_class_that_a_peer_can_negotiate_stands_in_the_statement():
    negotiated = {UID(context.abstract_syntax) for context in offered().contexts}
    assert negotiated > set(RECEIVED)
    assert [uid for uid in negotiated if f"| {uid.name} | {uid} |" not in page()] == []


def test_every_transfer_syntax_stands_in_the_statement():
    assert [uid for uid in (*TRANSFER_SYNTAXES, *LOSSLESS) if f"| {uid.name} | {uid} |" not in page()] == []


@pytest.mark.parametrize("status", Status, ids=lambda status: status.name)
def test_every_status_of_the_node_stands_in_the_statement_with_its_service(status):
    assert any(status in answers for answers in ANSWERS.values())
    assert any(line.startswith(f"| 0x{status:04X} |") for line in lines())


def test_every_object_that_the_node_makes_stands_in_the_statement():
    made = page().partition("### 8.1")[2].partition("### 8.2")[0]
    assert [uid for uid in (*PICTURES, *BESIDE) if f"| {uid} |" not in made] == []


#: Keys that say which objects take a route and when, what the model does, and where a destination is and who is let in
#: there; with all others a peer negotiates or gets something else.
OF_NO_CONCERN_TO_A_PEER = {
    Destination: {"name", "host", "port", "user", "token"},
    Route: {"name", "match", "complete", "quiet_seconds", "profile", "mode", "priority", "destinations"},
}


@pytest.mark.parametrize("table", OF_NO_CONCERN_TO_A_PEER, ids=lambda table: table.__name__)
def test_every_key_of_the_routes_file_that_a_peer_notices_stands_in_the_statement(table):
    noticed = set(table.model_fields) - OF_NO_CONCERN_TO_A_PEER[table]
    assert [key for key in sorted(noticed) if not re.search(rf"`{key}[` ]", page())] == []


def test_every_request_of_dicomweb_stands_in_the_statement():
    served = [path for _, path in offered().requests if path.startswith(ROOT)]
    assert f"{ROOT}/studies" in served
    assert [path for path in served if f"`{path}`" not in page()] == []


def test_what_is_not_offered_is_not_claimed():
    assert "Modality Worklist" not in page()
    assert "MPEG" not in page().partition("### 8.5")[0]
