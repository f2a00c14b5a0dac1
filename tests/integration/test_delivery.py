"""Delivery against real peers: once to each destination, whatever happens on the way."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from config.errors import PeerRefused, PeerUnavailable, StorageUnavailable
from config.mark import Mark
from dicom_node.audit import Action
from dicom_node.objects.identity import Origin
from dicom_node.objects.presentation_state import presentation_states
from dicom_node.objects.secondary_capture import secondary_captures
from dicom_node.objects.segmentation import Segmentation
from dicom_node.workflow import delivery
from storage import files
from storage.database import Database, current_time
from storage.files import ObjectStore
from storage.leases import let_go
from storage.objects import keep_object, objects_of_job
from storage.outbox import add_delivery, claim_deliveries
from storage.queue import cancel, claim, finish, retry
from storage.schema import Delivery, StoredObject
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState
from tests.captured_log import captured_log
from tests.couriers import QUICK, answering, delivering
from tests.factory import reconstruction, xa
from tests.peers import free_port, storescp, wait_until
from tests.stored_jobs import deliveries, job_of, queue_job, received, steps, story, wait_for


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "store")


def test_a_result_reaches_its_destination_and_the_job_is_delivered(database, store, tmp_path):
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        job = reconstructed(database, store, ["pacs"])
        wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 1
    assert steps(database, job)[-2:] == [Action.DELIVERED, Action.JOB_DELIVERED]


def test_a_job_is_delivered_when_every_destination_has_every_object(database, store, tmp_path):
    with storescp(tmp_path / "one") as one, storescp(tmp_path / "two") as two:
        jobs = [reconstructed(database, store, ["one", "two"], objects=3) for _ in range(4)]
        with delivering(database, store, one=one.port, two=two.port):
            for job in jobs:
                wait_for(database, job, JobState.DELIVERED)
        assert len(one.files()) == len(two.files()) == 12


def test_one_association_carries_several_objects(database, store, tmp_path, monkeypatch):
    associations = []
    send = delivery.send
    monkeypatch.setattr(delivery, "send", lambda *told: associations.append(told[2]) or send(*told))
    job = reconstructed(database, store, ["pacs"], objects=5)
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_for(database, job, JobState.DELIVERED)
    assert [len(paths) for paths in associations] == [5]


def test_a_pacs_that_is_down_for_the_first_tries_gets_the_result_once(database, store, tmp_path):
    port = free_port()
    job = reconstructed(database, store, ["pacs"])
    with delivering(database, store, pacs=port):
        wait_until(lambda: deliveries(database, job)[0].attempts >= 3, what="three tries")
        with storescp(tmp_path / "pacs", port=port) as pacs:
            wait_for(database, job, JobState.DELIVERED)
            assert len(pacs.files()) == 1
    taken = steps(database, job)
    assert taken.count(Action.DELIVERY_POSTPONED) >= 3
    assert taken.count(Action.DELIVERED) == 1


def test_a_delivery_whose_commit_was_not_heard_of_is_told_once(database, store, tmp_path, monkeypatch):
    """The database keeps the commit, but the connection breaks before it can say so."""
    lost = []

    def connection_breaks(point: str) -> None:
        if point == "database.committed" and not lost and deliveries(database, job)[0].acknowledged_at is not None:
            lost.append(point)
            raise StorageUnavailable("the connection broke")

    job = reconstructed(database, store, ["pacs"])
    monkeypatch.setattr("storage.database.faultpoint", connection_breaks)
    with captured_log() as told, storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_until(lambda: "waiting for the database" in told.getvalue(), what="another try")
        wait_for(database, job, JobState.DELIVERED)
        following = reconstructed(database, store, ["pacs"])
        wait_for(database, following, JobState.DELIVERED)
    assert steps(database, job).count(Action.DELIVERED) == steps(database, job).count(Action.JOB_DELIVERED) == 1


def test_a_destination_that_is_away_is_tried_once_for_all_that_waits_for_it(database, store, tmp_path):
    rests_long = QUICK.model_copy(update={"first_wait_seconds": 3600, "longest_wait_seconds": 3600})
    jobs = [reconstructed(database, store, ["pacs"]) for _ in range(3)]
    with storescp(tmp_path / "other") as other, delivering(database, store, rests_long, pacs=1, other=other.port):
        wait_until(lambda: Action.DELIVERY_POSTPONED in steps(database, jobs[-1]), what="a postponed delivery")
        later = [reconstructed(database, store, ["pacs"]) for _ in range(3)]
        wait_for(database, reconstructed(database, store, ["other"]), JobState.DELIVERED)
        assert [deliveries(database, job)[0].attempts for job in jobs + later] == [1, 1, 1, 0, 0, 0]


def test_what_waited_for_a_destination_goes_in_the_order_in_which_it_was_made(database, store):
    jobs = [reconstructed(database, store, ["pacs"], objects=2) for _ in range(4)]
    with database.reading() as tx:
        made = [object.sop_instance_uid for job in jobs for object in objects_of_job(tx, job, "result")]
    statuses = iter([0x0000, 0xA700, *[0x0000] * 8])
    with answering(lambda: next(statuses)) as (port, sent), delivering(database, store, pacs=port):
        for job in jobs:
            wait_for(database, job, JobState.DELIVERED)
    assert sent == [*made[:2], *made[1:]]


def test_a_silent_destination_holds_up_no_other(database, store, tmp_path):
    with silent_peer() as port, storescp(tmp_path / "pacs") as pacs:
        first = reconstructed(database, store, ["silent"])
        second = reconstructed(database, store, ["pacs"])
        with delivering(database, store, silent=port, pacs=pacs.port):
            wait_for(database, second, JobState.DELIVERED)
            assert job_of(database, first).state == JobState.DELIVERING


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_an_object_stored_with_a_warning_is_delivered_once_and_the_warning_is_told(database, store, status):
    with answering(lambda: status) as (port, sent), delivering(database, store, pacs=port):
        job = reconstructed(database, store, ["pacs"])
        wait_for(database, job, JobState.DELIVERED)
    assert len(sent) == 1
    (told,) = [row for row in story(database, job) if row.action == Action.DELIVERED]
    assert told.details["status"] == f"0x{status:04X}"


@pytest.mark.parametrize("option", [["--abort-during"], ["--abort-after"], ["--sleep-during", "600"]])
def test_a_destination_that_aborts_or_never_answers_is_asked_again_and_gets_the_object_in_the_end(
    database, store, tmp_path, option
):
    impatient = QUICK.model_copy(update={"timeout_seconds": 1})
    port = free_port()
    job = reconstructed(database, store, ["pacs"])
    with delivering(database, store, impatient, pacs=port):
        with storescp(tmp_path / "bad", *option, port=port):
            wait_until(lambda: Action.DELIVERY_POSTPONED in steps(database, job), what="a postponed delivery")
        with storescp(tmp_path / "good", port=port) as pacs:
            wait_for(database, job, JobState.DELIVERED)
            assert len(pacs.files()) == 1


def test_a_refused_object_fails_the_job_after_the_others_have_been_delivered(database, store):
    statuses = iter([0x0000, 0x0124, 0x0000])
    with answering(lambda: next(statuses)) as (port, received):
        job = reconstructed(database, store, ["pacs"], objects=3)
        with delivering(database, store, pacs=port):
            wait_for(database, job, JobState.FAILED)
    assert len(received) == 3
    assert [d.state for d in deliveries(database, job)] == [
        DeliveryState.ACKNOWLEDGED,
        DeliveryState.REFUSED,
        DeliveryState.ACKNOWLEDGED,
    ]
    assert job_of(database, job).reason == (
        "1 of 3 deliveries failed (pacs: PEER refused the object with status 0x0124.)"
    )


def test_a_destination_that_takes_no_segmentation_gets_the_picture_alone(database, store, tmp_path):
    with storescp(tmp_path / "pacs", "-xf", str(pictures_only(tmp_path)), "Pictures") as pacs:
        job = reconstructed(database, store, ["pacs"], segmentation=True)
        with delivering(database, store, pacs=pacs.port):
            wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 1
    assert [d.state for d in deliveries(database, job)] == [DeliveryState.ACKNOWLEDGED, DeliveryState.REFUSED]
    assert job_of(database, job).reason.startswith("1 of 2 deliveries failed (pacs: PEER at 127.0.0.1:")
    assert "does not take Segmentation Storage" in job_of(database, job).reason
    assert steps(database, job)[-3:] == [Action.DELIVERED, Action.DELIVERY_REFUSED, Action.JOB_DELIVERED]
    assert "Segmentation" in story(database, job)[-1].details["without"]


def test_a_refused_picture_fails_the_job_whether_or_not_its_segmentation_was_taken(database, store):
    statuses = iter([0x0124, 0x0000])
    with answering(lambda: next(statuses)) as (port, _):
        job = reconstructed(database, store, ["pacs"], segmentation=True)
        with delivering(database, store, pacs=port):
            wait_for(database, job, JobState.FAILED)
    assert job_of(database, job).reason.startswith("1 of 2 deliveries failed")


def test_a_picture_without_a_mark_of_its_own_is_held_back_where_its_presentation_state_is_refused(
    database, store, tmp_path
):
    with storescp(tmp_path / "pacs", "-xf", str(pictures_only(tmp_path)), "Pictures") as pacs:
        job = unmarked(database, store, ["pacs"])
        with delivering(database, store, pacs=pacs.port):
            wait_for(database, job, JobState.FAILED)
        assert pacs.files() == []
    assert [d.state for d in deliveries(database, job)] == [DeliveryState.REFUSED] * 2
    assert "held back, for the presentation state" in job_of(database, job).reason
    assert steps(database, job)[-3:] == [Action.DELIVERY_REFUSED, Action.DELIVERY_REFUSED, Action.JOB_FAILED]


def test_a_segmentation_that_could_not_be_sent_for_too_long_can_be_sent_again(database, store):
    hasty = QUICK.model_copy(update={"give_up_after_hours": 1e-9})
    statuses = iter([0x0000, 0xA700])
    with answering(lambda: next(statuses)) as (port, _):
        job = reconstructed(database, store, ["pacs"], segmentation=True)
        with delivering(database, store, settings=hasty, pacs=port):
            wait_for(database, job, JobState.FAILED)
    assert [d.state for d in deliveries(database, job)] == [DeliveryState.ACKNOWLEDGED, DeliveryState.ABANDONED]


def test_a_destination_out_of_resources_is_asked_again(database, store):
    statuses = iter([0xA700, 0xA701, 0x0000])
    with answering(lambda: next(statuses)) as (port, received):
        job = reconstructed(database, store, ["pacs"])
        with delivering(database, store, pacs=port):
            wait_for(database, job, JobState.DELIVERED)
    assert len(received) == 3


def test_a_destination_that_left_the_routes_file_fails_the_job_until_it_is_back(database, store, tmp_path):
    job = reconstructed(database, store, ["pacs"])
    with storescp(tmp_path / "pacs") as pacs:
        with delivering(database, store):
            wait_for(database, job, JobState.FAILED)
        assert "destination 'pacs' is no longer in the routes file" in job_of(database, job).reason
        with database.transaction() as tx:
            retry(tx, job)
        with delivering(database, store, pacs=pacs.port):
            wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 1


def test_a_delivery_is_given_up_in_the_end_and_can_be_retried(database, store, tmp_path):
    hasty = QUICK.model_copy(update={"give_up_after_hours": 1e-9})
    port = free_port()
    job = reconstructed(database, store, ["pacs"])
    with delivering(database, store, settings=hasty, pacs=port):
        wait_for(database, job, JobState.FAILED)
    assert deliveries(database, job)[0].state == DeliveryState.ABANDONED
    assert "given up after" in job_of(database, job).reason
    with database.transaction() as tx:
        retry(tx, job)
    with storescp(tmp_path / "pacs", port=port) as pacs, delivering(database, store, pacs=port):
        wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 1


def test_a_damaged_result_is_not_sent(database, store, tmp_path):
    job = reconstructed(database, store, ["pacs"])
    with database.reading() as tx:
        result = tx.get_one(StoredObject, deliveries(database, job)[0].object_id)
    store.path(result.digest).write_bytes(b"something else")
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_for(database, job, JobState.FAILED)
        assert pacs.files() == []
    assert "is damaged" in job_of(database, job).reason


def test_a_result_that_the_disk_cannot_read_for_a_while_holds_up_no_other(database, store, tmp_path, monkeypatch):
    job, other = reconstructed(database, store, ["pacs"]), reconstructed(database, store, ["pacs"])
    with database.reading() as tx:
        result = tx.get_one(StoredObject, deliveries(database, job)[0].object_id)
    digest_of, bad = files._digest, [result.digest]

    def bad_sector(path: Path) -> str:
        if path.name in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return digest_of(path)

    monkeypatch.setattr(files, "_digest", bad_sector)
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_for(database, other, JobState.DELIVERED)
        wait_until(lambda: deliveries(database, job)[0].attempts >= 2, what="another try")
        assert "cannot be used" in deliveries(database, job)[0].reason
        assert len(pacs.files()) == 1
        bad.clear()
        wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 2


def test_what_a_dead_namesake_had_under_way_is_delivered_at_once(database, store, tmp_path):
    job = reconstructed(database, store, ["pacs"])
    with database.transaction() as tx:
        claim_deliveries(tx, "pacs", owner="node", lease_seconds=3600)
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_for(database, job, JobState.DELIVERED)
        assert len(pacs.files()) == 1


@pytest.mark.parametrize("what", ["unreachable", "refused", "sent"])
def test_a_courier_that_has_lost_its_hold_drops_its_work_and_another_does_it(
    database, store, tmp_path, monkeypatch, what
):
    """The hold is lost while the first association is open, to a node of another name."""
    job = reconstructed(database, store, ["pacs"], objects=3)
    send, calls = delivery.send, []

    def slow(*told):
        calls.append(told)
        if len(calls) > 1:
            yield from send(*told)
            return
        another_takes(database, 2)
        if what == "unreachable":
            raise PeerUnavailable("no answer")
        if what == "refused":
            raise PeerRefused("not wanted")
        yield from send(*told)

    monkeypatch.setattr(delivery, "send", slow)
    monkeypatch.setattr(delivery, "_LEASE_SECONDS", 0.0 if what == "sent" else 600.0)
    with captured_log() as log, storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_until(lambda: "no longer this sender's" in log.getvalue(), what="the log")
        theirs = deliveries(database, job)[:2]
        if what == "sent":
            assert [each.state for each in theirs] == [DeliveryState.ACKNOWLEDGED, DeliveryState.WAITING]
            theirs = theirs[1:]
        assert {each.lease_owner.split("#")[0] for each in theirs} == {"another"}
        assert {each.reason for each in theirs} == {None}
        with database.transaction() as tx:
            let_go(tx, Delivery, "another")
        wait_for(database, job, JobState.DELIVERED)
    assert "Traceback" not in log.getvalue()
    assert steps(database, job).count(Action.DELIVERED) == 3
    assert Action.DELIVERY_REFUSED not in steps(database, job)


def test_what_another_took_while_copies_were_made_is_not_sent(database, store, tmp_path, monkeypatch):
    job = reconstructed(database, store, ["pacs"], objects=3)
    files, send, made, sent = delivery.LosslessCopies.files, delivery.send, [], []

    def slow(*told):
        made.append(files(*told))
        if len(made) == 1:
            another_takes(database, 2)
        return made[-1]

    monkeypatch.setattr(delivery.LosslessCopies, "files", slow)
    monkeypatch.setattr(delivery, "send", lambda *told: sent.append(told[2]) or send(*told))
    monkeypatch.setattr(delivery, "_LEASE_SECONDS", 0.0)
    with captured_log() as log, storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_until(lambda: "no longer this sender's" in log.getvalue(), what="the log")
        assert sent == []
        monkeypatch.setattr(delivery, "_LEASE_SECONDS", 600.0)
        with database.transaction() as tx:
            let_go(tx, Delivery, "another")
        wait_for(database, job, JobState.DELIVERED)
    assert sum(map(len, sent)) == 3
    assert steps(database, job).count(Action.DELIVERED) == 3


def test_a_cancelled_job_is_not_delivered(database, store, tmp_path):
    cancelled = reconstructed(database, store, ["pacs"])
    other = reconstructed(database, store, ["pacs"])
    with database.transaction() as tx:
        cancel(tx, cancelled, by="a person")
    with storescp(tmp_path / "pacs") as pacs, delivering(database, store, pacs=pacs.port):
        wait_for(database, other, JobState.DELIVERED)
        assert len(pacs.files()) == 1
    assert job_of(database, cancelled).state == JobState.FAILED


# What the tests are written in.


def another_takes(database: Database, most: int) -> None:
    """All leases run out, and a node of another name takes so many deliveries."""
    with database.transaction() as tx:
        for each in tx.scalars(select(Delivery)):
            each.lease_until = current_time(tx) - timedelta(seconds=1)
        claim_deliveries(tx, "pacs", owner="another", lease_seconds=3600, most=most)


def reconstructed(
    database: Database, store: ObjectStore, destinations: list[str], objects: int = 1, *, segmentation: bool = False
) -> int:
    """A job that is reconstructed, with so many results in the outbox; its number."""
    number = queue_job(database, store, small(), destinations=tuple(destinations))
    with database.transaction() as tx:
        job, lease = claim(tx, owner="worker", lease_seconds=60)
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        results = [small() for _ in range(objects)]
        if segmentation:
            results += [segmentation_of(results[0])]
        for dataset in results:
            result = keep_object(tx, received(store, dataset, ObjectKind.RESULT, number)).object
            for destination in destinations:
                add_delivery(tx, job=job, object=result, destination=destination)
    return number


def unmarked(database: Database, store: ObjectStore, destinations: list[str]) -> int:
    """A reconstructed job whose picture bears no mark, after the presentation state that marks it; its number."""
    number = queue_job(database, store, small(), destinations=tuple(destinations))
    picture = small()
    made = reconstruction(picture)
    mark = Mark(burned_in=False)
    pictures = secondary_captures(picture, made, route="all", mark=mark)
    origin = Origin.of(made.provenance, route="all", mark=mark)
    state, *_ = presentation_states(picture, pictures, made, origin=origin)
    with database.transaction() as tx:
        job, lease = claim(tx, owner="worker", lease_seconds=60)
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        job.settings = job.settings | {"mark": mark.model_dump()}
        for dataset in (state, picture):
            result = keep_object(tx, received(store, dataset, ObjectKind.RESULT, number)).object
            for destination in destinations:
                add_delivery(tx, job=job, object=result, destination=destination)
    return number


def small() -> Dataset:
    return xa(frames=1, rows=16, columns=16)


def segmentation_of(picture: Dataset) -> Segmentation:
    made = reconstruction(picture)
    pictures = secondary_captures(picture, made, route="all", mark=Mark())
    return Segmentation(picture, pictures, made, origin=Origin.of(made.provenance, route="all", mark=Mark()))


def pictures_only(folder: Path) -> Path:
    """A configuration of dcmtk's storescp that takes nothing but angiography."""
    path = folder / "storescp.cfg"
    path.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LocalEndianExplicit\n"
        "[[PresentationContexts]]\n[Pictures]\nPresentationContext1 = XRayAngiographicImageStorage\\Plain\n"
        "[[Profiles]]\n[Pictures]\nPresentationContexts = Pictures\n"
    )
    return path


@contextmanager
def silent_peer() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
