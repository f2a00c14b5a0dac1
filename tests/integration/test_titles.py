"""Several AE titles on one port: each has its own callers and limits, and is who its peers have to do with."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from config.listener import AllowedPeer, FurtherTitle, ListenerSettings
from config.routes import Destination, RouteTable
from dicom_node.checks import Level, check_reports
from dicom_node.network import titles
from dicom_node.network.pace import Pace
from tests.integration.test_commitment import XA, Modality, waiting_for_the_peer
from tests.listening import Node, cine, listening
from tests.nodes import NodeProcess
from tests.peers import Told, echoscu, free_port, movescu, storescp, storescu, wait_until

LAB = FurtherTitle(
    ae_title="LAB",
    allow=(AllowedPeer(ae_title="PHANTOM"),),
    max_associations=1,
    max_pdu=16384,
    max_object_mb=1,
)
#: Lets everybody call; all else is as with the main title.
GUESTS = FurtherTitle(ae_title="GUESTS", allow=())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    allow = (AllowedPeer(ae_title="CARM"),)
    with listening(tmp_path, allow=allow, titles=(LAB, GUESTS, FurtherTitle(ae_title="SECOND"))) as node:
        yield node


@pytest.mark.parametrize(
    ("called", "calling", "reason"),
    [
        ("FULLFIELD", "CARM", None),
        ("FULLFIELD", "PHANTOM", "Its AE title is not in the list of allowed systems."),
        ("LAB", "PHANTOM", None),
        ("LAB", "CARM", "Its AE title is not in the list of allowed systems."),
        ("SECOND", "CARM", None),
        ("SECOND", "PHANTOM", "Its AE title is not in the list of allowed systems."),
        ("GUESTS", "ANYBODY", None),
    ],
)
def test_each_title_lets_in_its_own_callers(node, called, calling, reason):
    told = echoscu(node.port, called=called, calling=calling)
    assert told.accepted is (reason is None)
    if reason is not None:
        assert "Calling AE Title Not Recognized" in told.output
        row = node.refusal()
        assert (row.action, row.peer_ae, row.details["called_ae"]) == ("association_refused", calling, called)
        assert row.details["reason"] == reason


def test_what_comes_is_known_by_the_title_that_was_called(node, tmp_path):
    assert storescu(node.port, cine(tmp_path), calling="PHANTOM", called="LAB").accepted
    assert [stored.called_ae for stored in node.objects()] == ["LAB"]
    assert [row.details["called_ae"] for row in node.rows("object_received")] == ["LAB"]


def test_one_association_too_many_with_a_title_is_refused_and_the_others_are_free(node):
    contexts = [build_context(Verification)]
    open_one = AE("PHANTOM").associate("127.0.0.1", node.port, contexts, ae_title="LAB")
    told = echoscu(node.port, calling="PHANTOM", called="LAB")
    assert "Rejected Transient" in told.output
    assert "Local Limit Exceeded" in told.output
    assert node.refusal().details["reason"] == "1 associations are open already."
    assert echoscu(node.port, calling="CARM").accepted
    open_one.release()
    wait_until(lambda: echoscu(node.port, calling="PHANTOM", called="LAB").accepted)


@pytest.mark.parametrize(("called", "calling", "length"), [("FULLFIELD", "CARM", 131072), ("LAB", "PHANTOM", 16384)])
def test_each_title_offers_its_own_length_of_data_units(node, called, calling, length):
    told = echoscu(node.port, called=called, calling=calling)
    assert re.search(rf"Their Max PDU Receive Size: +{length}$", told.output, re.MULTILINE)


def test_an_object_too_large_for_a_title_is_out_of_resources_and_the_next_goes_through(node, tmp_path):
    large = cine(tmp_path, "large.dcm", frames=10, rows=256, columns=256)
    small = cine(tmp_path, "small.dcm", sop_instance_uid=generate_uid())
    # By default storescu stops at the first that fails.
    told = storescu(node.port, "--no-halt", large, small, calling="PHANTOM", called="LAB")
    assert told.statuses == [0xA700, 0x0000]
    row = node.refusal()
    assert (row.action, row.details["status"]) == ("object_refused", "0xA700")
    assert row.details["reason"] == "The object is larger than 1 MB, the largest that is taken here."
    assert row.sop_instance_uid == dcmread(large).SOPInstanceUID
    assert node.kept == [dcmread(small).SOPInstanceUID]
    assert list(node.store.incoming.iterdir()) == []
    assert storescu(node.port, large, calling="CARM").statuses == [0x0000]


def test_who_sends_too_fast_waits_for_the_answers_and_nobody_comes_in_to_wait_for_long(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(titles, "time", SimpleNamespace(sleep=waits.append))
    with listening(tmp_path, titles=(FurtherTitle(ae_title="SLOW", max_objects_per_second=2),)) as node:
        # The clock stands still, so that it does not matter how busy this machine is.
        node.listener._titles["SLOW"]._pace = Pace(2, now=lambda: 0.0)
        paths = [cine(tmp_path, f"{number}.dcm", sop_instance_uid=generate_uid()) for number in range(24)]
        assert storescu(node.port, *paths[:6], called="SLOW").statuses == [0x0000] * 6
        assert waits == [0.5, 1.0, 1.5]
        assert storescu(node.port, *paths[6:], called="SLOW").statuses == [0x0000] * 18
        assert len(node.objects()) == 24
        assert "Local Limit Exceeded" in echoscu(node.port, called="SLOW").output
        assert "max_objects_per_second" in node.refusal().details["reason"]
        assert echoscu(node.port).accepted


def test_a_report_on_storage_commitment_comes_from_the_title_that_was_asked(tmp_path):
    with listening(tmp_path, titles=(GUESTS, LAB)) as node:
        path = cine(tmp_path)
        assert storescu(node.port, path).accepted
        carm = Modality(node)
        with carm.association():
            carm.ask_and_leave([(XA, dcmread(path).SOPInstanceUID)], called="GUESTS")
            # Due, with no way to the peer but an association with another title.
            postponed = wait_until(lambda: waiting_for_the_peer(node))
        with carm.association():
            assert echoscu(node.port).accepted
        with carm.association(called="GUESTS"):
            assert carm.report().committed == [dcmread(path).SOPInstanceUID]
        assert [report.called for report in carm.reports] == ["GUESTS"]
        (told,) = wait_until(lambda: node.rows("commitment_reported"))
        assert told.details["over"] == "another association of the peer's"
        # A call of another title is none that the report has waited for.
        assert len(node.rows("commitment_postponed")) == len(postponed)


def test_a_new_association_for_a_report_is_of_the_title_that_was_asked_to_the_port_of_its_entry(tmp_path):
    port = free_port()
    lab = FurtherTitle(ae_title="LAB", allow=(AllowedPeer(ae_title="CARM", port=port),))
    with listening(tmp_path, titles=(lab,)) as node:
        carm = Modality(node, port=port)
        with carm.listening():
            carm.ask_and_leave([(XA, generate_uid())], called="LAB")
            assert carm.report().title == "LAB"


def test_objects_are_moved_by_the_title_that_was_asked(node, tmp_path):
    path = cine(tmp_path)
    assert storescu(node.port, path, calling="CARM").accepted
    with storescp(tmp_path / "pacs", "-xcr", f"touch {tmp_path}/called-by-#a", ae_title="PACS") as pacs:
        to = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
        node.table = RouteTable(destinations=(to,))
        study = dcmread(path).StudyInstanceUID
        asked = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": study}
        told: Told = movescu(node.port, "PACS", calling="ANYBODY", called="GUESTS", **asked)
        assert told.accepted
        wait_until(lambda: (tmp_path / "called-by-GUESTS").exists())


@pytest.mark.parametrize(
    ("calling_ae", "ae_title", "said"),
    [
        ("", "CARM", None),
        ("GUESTS", "PACS", None),
        ("", "PACS", "PACS may not call FULLFIELD: associations for its reports are refused."),
        ("NOBODY", "PACS", "It is called by NOBODY, which is no AE title of this node: "),
    ],
)
def test_doctor_tells_who_could_not_report_on_storage_commitment(calling_ae, ae_title, said):
    settings = ListenerSettings(allow=(AllowedPeer(ae_title="CARM"),), titles=(GUESTS,))
    pacs = Destination(
        name="pacs", ae_title=ae_title, host="127.0.0.1", port=104, calling_ae=calling_ae, commitment=True
    )
    findings = list(check_reports(pacs, settings))
    assert [finding.level for finding in findings] == ([] if said is None else [Level.WARN])
    assert all(said in finding.said for finding in findings)
    assert list(check_reports(pacs.model_copy(update={"commitment": False}), settings)) == []


def test_a_node_routes_by_the_title_that_was_called(tmp_path):
    node = NodeProcess(
        tmp_path / "node",
        {"pacs": free_port()},
        route={"match": {"called_ae": ["LAB"]}},
        listener={"titles": [{"ae_title": "LAB", "max_associations": 1}]},
        worker={"processes": 0},
    )
    uids = {called: generate_uid() for called in ("LAB", "FULLFIELD")}
    with node.running():
        for called, uid in uids.items():
            assert storescu(node.port, cine(tmp_path, f"{called}.dcm", sop_instance_uid=uid), called=called).accepted
        told = {row.action: row.sop_instance_uid for row in node.audit()}
    assert (told["route_matched"], told["no_route"]) == (uids["LAB"], uids["FULLFIELD"])


@pytest.mark.parametrize(
    ("preferred", "accepted"),
    [
        ((), JPEG2000Lossless),
        (("ImplicitVRLittleEndian",), ImplicitVRLittleEndian),
        (("RLELossless", "JPEGLosslessSV1", "ExplicitVRLittleEndian"), JPEGLosslessSV1),
        (("JPEGBaseline8Bit",), JPEGBaseline8Bit),
        (("RLELossless",), JPEG2000Lossless),
    ],
    ids=["its own order", "one", "the first that it proposes", "lossy", "none that it proposes"],
)
def test_what_is_preferred_for_a_peer_is_accepted_of_what_it_proposes(tmp_path, preferred, accepted):
    proposed = [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLosslessSV1, ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    allow = (AllowedPeer(ae_title="CARM", transfer_syntaxes=preferred), AllowedPeer(ae_title="OTHER"))
    with listening(tmp_path, allow=allow) as node:

        def negotiated(calling):
            contexts = [build_context(XRayAngiographicImageStorage, proposed)]
            association = AE(calling).associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
            (context,) = association.accepted_contexts
            association.release()
            return context.transfer_syntax

        assert negotiated("CARM") == [accepted]
        assert negotiated("OTHER") == [JPEG2000Lossless]


def test_dcmtk_sends_in_the_form_that_is_preferred_for_it(tmp_path):
    allow = (AllowedPeer(ae_title="CARM", transfer_syntaxes=("ImplicitVRLittleEndian",)),)
    with listening(tmp_path, allow=allow) as node:
        assert storescu(node.port, cine(tmp_path), "-xe", "+C", calling="CARM").accepted
        assert [stored.transfer_syntax_uid for stored in node.objects()] == [ImplicitVRLittleEndian]
