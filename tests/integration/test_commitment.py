"""Storage commitment: who is told that an object is kept may delete it, and everybody is told in the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from operator import gt
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance
from sqlalchemy import Engine, event, select, update

from config.listener import AllowedPeer
from storage.commitments import CommitmentRequest, add_commitment
from storage.database import current_time
from storage.schema import AuditRow, Commitment
from storage.states import CommitmentState
from tests.captured_log import captured_log
from tests.listening import QUICK, Node, cine, goes_through, listening
from tests.peers import free_port, orthanc, storescu, wait_until

XA = XRayAngiographicImageStorage


class Modality:
    """A storage commitment SCU: asks, and collects what is reported to it.

    statuses: what it answers to the reports, one after the other, the last again and again; None: not at all.
    """

    def __init__(self, node: Node, *, title: str = "CARM", port: int = 0, statuses: tuple[int | None, ...] = (0,)):
        self.node = node
        self.ae = AE(title)
        self.port = port
        self.reports: list[SimpleNamespace] = []
        self._statuses = list(statuses)
        self.end = False
        self.serving: list[threading.Thread] = []
        self.ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)

    def _reported(self, event):
        self.serving.append(threading.current_thread())
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        self.reports.append(
            SimpleNamespace(
                type=event.request.EventTypeID,
                transaction=str(event.event_information.TransactionUID),
                committed=[
                    str(item.ReferencedSOPInstanceUID)
                    for item in event.event_information.get("ReferencedSOPSequence", [])
                ],
                failed={
                    str(item.ReferencedSOPInstanceUID): item.FailureReason
                    for item in event.event_information.get("FailedSOPSequence", [])
                },
                acceptor=event.assoc.is_acceptor,
                title=event.assoc.requestor.ae_title,
                called=event.assoc.acceptor.ae_title,
            )
        )
        while status is None and not self.end:
            time.sleep(0.01)
        return status or 0, None

    @contextmanager
    def association(self, *more, called: str = "FULLFIELD"):
        """An association that it opens."""
        association = self.ae.associate(
            "127.0.0.1",
            self.node.port,
            [build_context(StorageCommitmentPushModel), *more],
            ae_title=called,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._reported)],
        )
        assert association.is_established
        try:
            yield association
        finally:
            self.end = True
            # pynetdicom waits for ever when it is to release while it still serves a report.
            for thread in self.serving:
                thread.join()
            association.release()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """It takes reports at its port."""
        server = self.ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, self._reported)]
        )
        try:
            yield
        finally:
            self.end = True
            server.shutdown()

    def ask_and_leave(self, *asked, called: str = "FULLFIELD", **how) -> None:
        """Ask over an association that it releases at once."""
        with self.association(called=called) as association:
            assert ask(association, *asked, **how) == 0

    def report(self):
        """Wait for a report."""
        return wait_until(lambda: self.reports, what="the report")[-1]


def information(items, transaction: str | None = None) -> Dataset:
    """What an N-ACTION request says; items: SOP class, SOP instance."""
    asked = Dataset()
    asked.TransactionUID = transaction or generate_uid()
    asked.ReferencedSOPSequence = []
    for sop_class, instance in items:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, instance
        asked.ReferencedSOPSequence.append(item)
    return asked


def ask(
    association,
    asked: Dataset | list,
    transaction: str | None = None,
    *,
    action: int = 1,
    sop_class: str = StorageCommitmentPushModel,
    instance: str = StorageCommitmentPushModelInstance,
) -> int | None:
    """Ask for commitment; the status that is answered."""
    if isinstance(asked, list):
        asked = information(asked, transaction)
    answer, _ = association.send_n_action(asked, action, sop_class, instance, meta_uid=StorageCommitmentPushModel)
    return answer.get("Status")


def requests(node: Node) -> list[Commitment]:
    with node.database.reading() as tx:
        return list(tx.scalars(select(Commitment).order_by(Commitment.id)))


def settled(node: Node) -> Commitment:
    """The one request, when nothing more becomes of it."""
    (request,) = wait_until(
        lambda: [request for request in requests(node) if request.state != CommitmentState.WAITING],
        what="the end of the request",
    )
    return request


def sent(node: Node, folder: Path, name: str = "cine.dcm", **attributes) -> str:
    """Have an object acknowledged; its SOP Instance UID."""
    path = cine(folder, name, **attributes)
    assert node.send(path) == [0]
    return str(dcmread(path).SOPInstanceUID)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with listening(tmp_path) as node:
        yield node


# The report


def test_what_was_acknowledged_is_committed_over_the_same_association(node, tmp_path):
    instance, transaction = sent(node, tmp_path), generate_uid()
    carm = Modality(node)
    with carm.association() as association:
        assert ask(association, [(XA, instance)], transaction) == 0
        report = carm.report()
        assert (report.type, report.transaction) == (1, transaction)
        assert (report.committed, report.failed, report.acceptor) == ([instance], {}, False)
        request = settled(node)
        assert (request.state, request.attempts, request.failed) == (CommitmentState.REPORTED, 1, {})
    (asked,), (told,) = node.rows("commitment_requested"), node.rows("commitment_reported")
    assert (asked.peer_ae, asked.details["objects"]) == ("CARM", 1)
    assert (told.peer_ae, told.details["committed"], told.details["failed"]) == ("CARM", 1, 0)
    assert told.details["over"] == "the same association"
    assert told.details["transaction_uid"] == transaction
    assert told.study_instance_uid == node.objects()[0].study_instance_uid


def test_what_is_not_as_it_was_acknowledged_is_told_with_its_reason(node, tmp_path):
    good, damaged, missing, aside = (
        sent(node, tmp_path, f"{number}.dcm", sop_instance_uid=generate_uid()) for number in range(4)
    )
    paths = {stored.sop_instance_uid: node.store.path(stored.digest) for stored in node.objects()}
    with paths[damaged].open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"damaged")
    paths[missing].unlink()
    assert node.send(cine(tmp_path, "aside.dcm", sop_instance_uid=aside, seed=9)) == [0]
    node.store.path(node.objects()[-1].digest).unlink()
    unknown = generate_uid()
    carm = Modality(node)
    with carm.association() as association:
        items = [(XA, good), (XA, damaged), (XA, missing), (XA, aside), (XA, unknown)]
        assert ask(association, items) == 0
        report = carm.report()
        assert report.type == 2
        assert report.committed == [good]
        assert report.failed == {damaged: 0x0110, missing: 0x0110, aside: 0x0110, unknown: 0x0112}
        assert settled(node).failed == report.failed
    (told,) = node.rows("commitment_reported")
    assert (told.details["committed"], told.details["failed"]) == (1, 4)
    assert f"{unknown} (0x0112)" in told.details["not_committed"]


def test_an_object_of_another_class_is_a_conflict(node, tmp_path):
    instance = sent(node, tmp_path)
    carm = Modality(node)
    with carm.association() as association:
        assert ask(association, [(SecondaryCaptureImageStorage, instance)]) == 0
        report = carm.report()
    assert (report.type, report.committed, report.failed) == (2, [], {instance: 0x0119})


def test_both_contents_under_one_uid_are_committed_while_both_are_whole(node, tmp_path):
    instance = sent(node, tmp_path)
    assert node.send(cine(tmp_path, "aside.dcm", sop_instance_uid=instance, seed=9)) == [0]
    carm = Modality(node)
    with carm.association() as association:
        assert ask(association, [(XA, instance)]) == 0
        assert carm.report().committed == [instance]


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is said to databases by this process."""
    said: list[str] = []

    def hear(*told: object) -> None:
        said.append(str(told[2]))

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


def test_thousands_of_objects_are_one_report(node, tmp_path):
    instance = sent(node, tmp_path)
    others = [(XA, generate_uid()) for _ in range(5000)]
    carm = Modality(node)
    with carm.association() as association, statements() as said:
        assert ask(association, [(XA, instance), *others]) == 0
        report = carm.report()
    # They are looked up many at a time.
    assert 0 < sum("FROM objects" in statement for statement in said) < 100
    assert report.committed == [instance]
    assert set(report.failed) == {uid for _, uid in others}
    (told,) = wait_until(lambda: node.rows("commitment_reported"))
    assert len(told.details["not_committed"]) == 16


def test_objects_go_on_coming_over_the_association_while_the_report_waits_for_its_answer(node, tmp_path):
    instance = sent(node, tmp_path)
    carm = Modality(node, statuses=(None,))
    others = [dcmread(cine(tmp_path, f"{n}.dcm", sop_instance_uid=generate_uid())) for n in range(5)]
    with carm.association(build_context(XA, ExplicitVRLittleEndian)) as association:
        assert ask(association, [(XA, instance)]) == 0
        carm.report()
        assert [association.send_c_store(other).Status for other in others] == [0] * 5
        carm.end = True
        assert settled(node).state == CommitmentState.REPORTED
    assert len(node.objects()) == 6


# The way to the peer


def test_a_peer_that_has_left_gets_its_report_over_a_new_association_to_its_port(tmp_path):
    port = free_port()
    allow = (AllowedPeer(ae_title="CARM", addresses=("127.0.0.0/8",), port=port),)
    with listening(tmp_path, allow=allow) as node:
        instance = sent(node, tmp_path)
        carm = Modality(node, port=port)
        with carm.listening():
            carm.ask_and_leave([(XA, instance)])
            report = carm.report()
            assert (report.committed, report.acceptor, report.title) == ([instance], True, "FULLFIELD")
            assert settled(node).state == CommitmentState.REPORTED
    (told,) = node.rows("commitment_reported")
    assert told.details["over"] == "a new association"


def test_a_peer_that_is_away_is_tried_again(tmp_path):
    port = free_port()
    with listening(tmp_path, allow=(AllowedPeer(ae_title="CARM", port=port),)) as node:
        instance = sent(node, tmp_path)
        carm = Modality(node, port=port)
        carm.ask_and_leave([(XA, instance)])
        wait_until(lambda: len(node.rows("commitment_postponed")) >= 2)
        with carm.listening():
            assert carm.report().committed == [instance]
            assert settled(node).attempts >= 3
    assert "cannot be reached" in node.rows("commitment_postponed")[0].details["reason"]


def test_a_peer_without_a_port_gets_its_report_when_it_calls_again(node, tmp_path):
    instance = sent(node, tmp_path)
    carm = Modality(node)
    carm.ask_and_leave([(XA, instance)])
    # It may be tried once more while the association is ending, before it waits.
    postponed = wait_until(lambda: waiting_for_the_peer(node))
    assert carm.reports == []
    with Modality(node, title="OTHER").association(), carm.association():
        assert carm.report().committed == [instance]
        assert settled(node).state == CommitmentState.REPORTED
    assert len(node.rows("commitment_postponed")) == len(postponed)
    (told,) = node.rows("commitment_reported")
    assert told.details["over"] == "another association of the peer's"


def test_a_peer_that_hangs_up_at_once_does_not_fill_the_audit_trail_with_what_waits_for_it(node):
    waiting, calls = 10, 6
    carm = Modality(node, statuses=(None,))

    def put_off():
        return [row for row in node.rows("commitment_postponed") if "until it calls again" in row.details["reason"]]

    for _ in range(waiting):
        expected(node, [(XA, generate_uid())])
    wait_until(lambda: len(put_off()) == waiting)
    for _ in range(calls):
        before = attempts(node)
        with carm.association() as association:
            association.abort()
        # All that waits is looked at once more.
        wait_until(lambda before=before: all(map(gt, attempts(node), before)))

    # Each once, and once more when it was under way as the peer hung up.
    assert len(put_off()) < 2 * waiting + calls


def test_what_nobody_fetches_is_undeliverable_in_the_end_and_can_be_asked_for_again(node, tmp_path):
    instance, transaction = sent(node, tmp_path), generate_uid()
    carm = Modality(node)
    carm.ask_and_leave([(XA, instance)], transaction)
    wait_until(lambda: node.rows("commitment_postponed"))
    _let_a_day_pass(node)
    assert settled(node).state == CommitmentState.ABANDONED
    (row,) = node.rows("commitment_abandoned")
    assert (row.outcome, row.peer_ae) == ("failed", "CARM")
    with carm.association() as association:
        assert ask(association, [(XA, instance)], transaction) == 0
        assert carm.report().committed == [instance]
    assert node.rows("commitment_requested")[-1].details["repeated"]


def test_requests_of_a_node_that_died_are_reported_by_the_next(tmp_path):
    node = Node(tmp_path)
    instance = generate_uid()
    expected(node, [(XA, instance)], owner="node")
    node.database.close()
    with listening(tmp_path) as node:
        carm = Modality(node)
        with carm.association():
            assert carm.report().failed == {instance: 0x0112}


# Peers that do not take the report


def test_a_report_that_the_peer_refuses_ends_there(node, tmp_path):
    carm = Modality(node, statuses=(0x0115,))
    with carm.association() as association:
        assert ask(association, [(XA, sent(node, tmp_path))]) == 0
        request = settled(node)
    assert (request.state, request.last_status) == (CommitmentState.REFUSED, 0x0115)
    (row,) = node.rows("commitment_report_refused")
    assert (row.outcome, row.details["status"]) == ("failed", "0x0115")
    assert len(carm.reports) == 1


def test_a_report_that_the_peer_cannot_process_now_is_tried_again(node, tmp_path):
    carm = Modality(node, statuses=(0x0110, 0x0213, 0x0000))
    with carm.association() as association:
        assert ask(association, [(XA, sent(node, tmp_path))]) == 0
        assert settled(node).state == CommitmentState.REPORTED
    assert [row.details["status"] for row in node.rows("commitment_postponed")] == ["0x0110", "0x0213"]
    assert len(carm.reports) == 3


@pytest.mark.parametrize("acceptor", [False, True], ids=["same association", "new association"])
def test_a_peer_that_never_answers_the_report_is_tried_again(tmp_path, acceptor):
    port = free_port()
    patience = QUICK.model_copy(update={"timeout_seconds": 1.0})
    allow = (AllowedPeer(ae_title="CARM", port=port if acceptor else None),)
    with listening(tmp_path, patience=patience, allow=(*allow, AllowedPeer(ae_title="STORESCU"))) as node:
        assert storescu(node.port, cine(tmp_path)).accepted
        instance = node.objects()[0].sop_instance_uid
        mute = Modality(node, port=port, statuses=(None,))
        if acceptor:
            with mute.listening():
                mute.ask_and_leave([(XA, instance)])
                mute.end = False
                wait_until(lambda: node.rows("commitment_postponed"))
        else:
            with mute.association() as association:
                assert ask(association, [(XA, instance)]) == 0
                wait_until(lambda: node.rows("commitment_postponed"))
        assert "answer in" in node.rows("commitment_postponed")[0].details["reason"]
        carm = Modality(node, port=port)
        with carm.listening(), carm.association():
            assert carm.report().committed == [instance]


def test_a_peer_whose_port_takes_no_reports_is_told_in_log_and_audit(tmp_path):
    port = free_port()
    with listening(tmp_path, allow=(AllowedPeer(ae_title="CARM", port=port),)) as node:
        stranger = AE("CARM")
        stranger.add_supported_context(CTImageStorage)
        server = stranger.start_server(("127.0.0.1", port), block=False)
        with captured_log() as log:
            Modality(node).ask_and_leave([(XA, generate_uid())])
            row = wait_until(lambda: node.rows("commitment_postponed"))[0]
        server.shutdown()
    assert "accepts none of the presentation contexts" in row.details["reason"]
    assert "is postponed" in log.getvalue()


# Bad requests


def _without(keyword: str, item: bool = False) -> Dataset:
    asked = information([(XA, "1.2.3"), (XA, "1.2.4")])
    del (asked.ReferencedSOPSequence[1] if item else asked)[keyword]
    return asked


@pytest.mark.parametrize(
    ("asked", "how", "status"),
    [
        ([(XA, "1.2.3")], {"action": 2}, 0x0123),
        ([(XA, "1.2.3")], {"instance": "1.2.3.4"}, 0x0112),
        (_without("TransactionUID"), {}, 0x0115),
        (_without("ReferencedSOPSequence"), {}, 0x0115),
        ([], {}, 0x0115),
        (_without("ReferencedSOPInstanceUID", item=True), {}, 0x0115),
        (_without("ReferencedSOPClassUID", item=True), {}, 0x0115),
        (None, {}, 0x0115),
    ],
    ids=[
        "unknown action",
        "unknown instance",
        "no transaction",
        "no sequence",
        "empty sequence",
        "item without instance",
        "item without class",
        "no information",
    ],
)
def test_a_bad_request_is_answered_with_its_status_and_told(node, tmp_path, asked, how, status):
    with Modality(node).association() as association:
        assert ask(association, asked, **how) == status
        assert association.is_established
    row = node.refusal()
    assert (row.action, row.peer_ae, row.details["status"]) == ("commitment_refused", "CARM", f"0x{status:04X}")
    assert requests(node) == []
    assert goes_through(node, tmp_path)


def test_too_many_objects_are_asked_for_in_parts(node, tmp_path):
    with Modality(node).association() as association:
        assert ask(association, [(XA, f"1.2.{number}") for number in range(20_001)]) == 0x0213
    assert "ask in parts" in node.refusal().details["reason"]
    assert goes_through(node, tmp_path)


def test_a_request_too_large_for_the_memory_is_refused_whole(node, tmp_path):
    asked = information([(XA, "1.2.3")])
    asked.TextValue = "x" * (5 << 20)
    with Modality(node).association() as association:
        assert ask(association, asked) == 0x0213
    assert requests(node) == []
    assert goes_through(node, tmp_path)


def test_the_same_request_again_gets_a_report_again(node, tmp_path):
    instance, transaction = sent(node, tmp_path), generate_uid()
    carm = Modality(node)
    with carm.association() as association:
        for number in range(1, 3):
            assert ask(association, [(XA, instance)], transaction) == 0
            wait_until(lambda number=number: len(carm.reports) == number)
            wait_until(lambda number=number: len(node.rows("commitment_reported")) == number)
    assert len(requests(node)) == 1


def test_a_transaction_uid_that_was_used_for_other_objects_is_refused(node, tmp_path):
    instance, transaction = sent(node, tmp_path), generate_uid()
    carm = Modality(node)
    with carm.association() as association:
        assert ask(association, [(XA, instance)], transaction) == 0
        assert ask(association, [(XA, "1.2.3")], transaction) == 0x0115
        assert carm.report().committed == [instance]
    assert "used before" in node.refusal().details["reason"]
    with Modality(node, title="OTHER").association() as association:
        assert ask(association, [(XA, "1.2.3")], transaction) == 0


def test_a_peer_that_is_not_allowed_cannot_ask(tmp_path):
    with listening(tmp_path, allow=(AllowedPeer(ae_title="CARM"),)) as node:
        contexts = [build_context(StorageCommitmentPushModel)]
        association = AE("STRANGER").associate("127.0.0.1", node.port, contexts, ae_title="FULLFIELD")
        assert association.is_rejected
        assert node.refusal().action == "association_refused"


def test_the_log_of_a_commitment_holds_no_uid(node, tmp_path):
    instance, transaction = sent(node, tmp_path), generate_uid()
    with captured_log() as log:
        carm = Modality(node)
        with carm.association() as association:
            assert ask(association, [(XA, instance), (XA, "1.2.3.4.5.6.7")], transaction) == 0
            settled(node)
    assert "storage commitment reported" in log.getvalue()
    for secret in (instance, transaction, "1.2.3.4.5.6.7"):
        assert secret not in log.getvalue()


# A real peer


def test_orthanc_asks_for_commitment_and_gets_its_report(tmp_path):
    port = free_port()
    allow = (AllowedPeer(ae_title="ORTHANC", addresses=("127.0.0.1",), port=port),)
    with listening(tmp_path, allow=allow) as node:
        modalities = {"fullfield": ["FULLFIELD", "127.0.0.1", node.port]}
        with orthanc(tmp_path / "orthanc", port=port, DicomModalities=modalities) as peer:
            path = cine(tmp_path)
            instance, unknown = str(dcmread(path).SOPInstanceUID), generate_uid()
            assert storescu(port, path, called="ORTHANC").accepted
            (stored,) = peer.get("/instances")
            peer.ask("/modalities/fullfield/store", {"Resources": [stored]})
            assert [kept.sop_instance_uid for kept in node.objects()] == [instance]
            first = peer.ask("/modalities/fullfield/storage-commitment", {"Resources": [stored]})
            told = _told_by(peer, first["ID"])
            assert (told["Status"], told["Failures"]) == ("Success", [])
            assert [item["SOPInstanceUID"] for item in told["Success"]] == [instance]
            asked = {"DicomInstances": [[XA, instance], [XA, unknown]]}
            told = _told_by(peer, peer.ask("/modalities/fullfield/storage-commitment", asked)["ID"])
            assert told["Status"] == "Failure"
            assert [(item["SOPInstanceUID"], item["FailureReason"]) for item in told["Failures"]] == [(unknown, 0x0112)]
        assert [request.state for request in requests(node)] == [CommitmentState.REPORTED] * 2


def _told_by(peer, transaction: str) -> dict:
    def told():
        answer = peer.get(f"/storage-commitment/{transaction}")
        return answer if answer["Status"] != "Pending" else None

    return wait_until(told, what="the report at Orthanc")


def _let_a_day_pass(node: Node) -> None:
    """As if a request had been made, and its report had been due, long ago."""
    with node.database.transaction() as tx:
        long_ago = current_time(tx).replace(year=2020)
        tx.execute(update(Commitment).values(requested_at=long_ago, not_before=long_ago))


def expected(node: Node, items: list[tuple[str, str]], owner: str | None = None) -> None:
    """A report that the peer CARM expects, which asked for it over an association that is gone.

    owner: the node that had taken it up; None: the one that runs may.
    """
    request = CommitmentRequest(
        transaction_uid=generate_uid(),
        items=items,
        calling_ae="CARM",
        called_ae="FULLFIELD",
        peer_address="127.0.0.1",
        association_id="gone",
    )
    lease_seconds = 0 if owner is None else 600
    with node.database.transaction() as tx:
        add_commitment(tx, request, owner=owner or "nobody", lease_seconds=lease_seconds, wait_seconds=0)


def attempts(node: Node) -> list[int]:
    """How often each report has been tried, in the order in which they were asked for."""
    with node.database.reading() as tx:
        return list(tx.scalars(select(Commitment.attempts).order_by(Commitment.id)))


def waiting_for_the_peer(node: Node) -> list[AuditRow]:
    """The reports put off so far, once the last of them waits for its peer."""
    postponed = node.rows("commitment_postponed")
    return postponed if postponed and "the report waits until it calls again" in postponed[-1].details["reason"] else []
