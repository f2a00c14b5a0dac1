"""When a series is complete and what is queued then, on SQLite and on PostgreSQL."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select

from config.routes import Destination, Match, QueuedRoute, Route, RouteTable, Rule
from dicom_node.workflow.series import (
    LONGEST_SILENCE,
    association_ended,
    complete_due,
    object_kept,
    procedure_step_ended,
)
from storage.audit_trail import trail
from storage.objects import ReceivedObject, keep_object, objects_of_job
from storage.procedure_steps import StepReport, add_procedure_step
from storage.queue import list_jobs
from storage.schema import Series, StoredObject
from storage.states import ProcedureStepStatus, SeriesState
from tests.factory import xa

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
SERIES, OTHER, STUDY = generate_uid(), generate_uid(), generate_uid()


def after(seconds):
    return START + timedelta(seconds=seconds)


def table(*routes):
    return RouteTable(
        routes=routes,
        destinations=(Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
    )


def route(name="angio", **keys):
    return Route(name=name, destinations=("pacs",), **keys)


class Ward:
    """A database into which objects come, under a table of routes."""

    def __init__(self, database, *routes):
        self.database = database
        self.table = table(*routes)

    def receives(self, *, at=0.0, frames=8, series=SERIES, uid=None, digest=None, **attributes):
        """Keep one object as the listener does; its SOP Instance UID."""
        uid = uid or generate_uid()
        header = xa(frames=1, sop_instance_uid=uid, series_instance_uid=series, **attributes)
        with self.database.transaction() as tx:
            kept = keep_object(tx, self.arriving(uid, series, frames, digest or uid.ljust(64)[:64], after(at)))
            object_kept(tx, kept.object, header, table=self.table, max_attempts=3)
        return uid

    def association_ends(self, *series):
        with self.database.transaction() as tx:
            association_ended(tx, list(series or [SERIES]), table=self.table, max_attempts=3)

    def step_ends(self, *uids, series=SERIES):
        """A procedure step ends that has announced these objects of a series."""
        report = StepReport(
            sop_instance_uid=generate_uid(),
            study_instance_uid=STUDY,
            status=ProcedureStepStatus.IN_PROGRESS,
            attributes={},
            calling_ae="CARM1",
            called_ae="FULLFIELD",
            peer_address="127.0.0.1",
        )
        with self.database.transaction() as tx:
            step = add_procedure_step(tx, report)
            procedure_step_ended(tx, step, {series: uids}, table=self.table, max_attempts=3)

    def time_passes(self, seconds):
        with self.database.transaction() as tx:
            complete_due(tx, after(seconds), table=self.table, max_attempts=3)

    @property
    def jobs(self):
        """The objects of every job, by SOP Instance UID, oldest job first."""
        with self.database.reading() as tx:
            return [[o.sop_instance_uid for o in objects_of_job(tx, job.id)] for job in reversed(list_jobs(tx))]

    @property
    def job(self):
        with self.database.reading() as tx:
            (job,) = list_jobs(tx)
            return job

    def state(self, series=SERIES):
        with self.database.reading() as tx:
            return tx.get(Series, series).state

    @property
    def steps(self):
        with self.database.reading() as tx:
            return [row.action for row in trail(tx)]

    def told(self, action):
        with self.database.reading() as tx:
            return [row for row in trail(tx) if row.action == action]

    @staticmethod
    def arriving(uid, series, frames, digest, received_at):
        return ReceivedObject(
            sop_instance_uid=uid,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.12.1",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            study_instance_uid=STUDY,
            series_instance_uid=series,
            modality="XA",
            frames=frames,
            digest=digest,
            size=1000,
            calling_ae="CARM1",
            called_ae="FULLFIELD",
            peer_address="127.0.0.1",
            received_at=received_at,
        )


@pytest.fixture
def ward(database):
    return lambda *routes: Ward(database, *routes)


def test_each_multi_frame_object_is_queued_at_once(ward):
    here = ward(route())
    first, second = here.receives(), here.receives(at=1)
    assert here.jobs == [[first], [second]]
    assert here.state() == SeriesState.COMPLETE


def test_single_frames_of_a_series_wait_until_it_was_quiet(ward):
    here = ward(route(quiet_seconds=10))
    first, second = here.receives(frames=1), here.receives(frames=1, at=8)
    here.time_passes(17.9)
    assert here.jobs == []
    assert here.state() == SeriesState.OPEN
    here.time_passes(18)
    assert here.jobs == [[first, second]]
    assert here.state() == SeriesState.COMPLETE


def test_a_multi_frame_object_leaves_the_single_frames_of_its_series_waiting(ward):
    here = ward(route(quiet_seconds=10))
    single, cine = here.receives(frames=1), here.receives(at=5)
    assert here.jobs == [[cine]]
    assert here.state() == SeriesState.OPEN
    here.time_passes(10)
    assert here.jobs == [[cine], [single]]


def test_under_quiet_a_multi_frame_object_waits_too(ward):
    here = ward(route(complete="quiet", quiet_seconds=30))
    first, second = here.receives(), here.receives(at=29)
    here.association_ends()
    here.time_passes(58)
    assert here.jobs == []
    here.time_passes(59)
    assert here.jobs == [[first, second]]


def test_under_association_a_series_is_complete_when_the_association_ends(ward):
    here = ward(route(complete="association"))
    first, second = here.receives(), here.receives(frames=1, at=60)
    here.time_passes(120)
    assert here.jobs == []
    here.association_ends()
    assert here.jobs == [[first, second]]
    assert here.state() == SeriesState.COMPLETE


def test_an_association_that_ends_completes_each_of_its_series(ward):
    here = ward(route(complete="association"))
    other = generate_uid()
    first, second = here.receives(), here.receives(series=other)
    here.association_ends(SERIES, other, generate_uid())
    assert sorted(here.jobs) == sorted([[first], [second]])


def test_an_association_whose_node_died_counts_as_ended_after_a_long_silence(ward):
    here = ward(route(complete="association"))
    lost = here.receives()
    here.time_passes(LONGEST_SILENCE.total_seconds() - 1)
    assert here.jobs == []
    here.time_passes(LONGEST_SILENCE.total_seconds())
    assert here.jobs == [[lost]]


@pytest.mark.parametrize("complete", ["quiet", "association"])
def test_late_arrivals_are_a_job_of_their_own(ward, complete):
    here = ward(route(complete=complete))

    def completes(at):
        here.association_ends()
        here.time_passes(at)

    first = here.receives()
    completes(20)
    late, later = here.receives(at=60), here.receives(at=61)
    assert here.state() == SeriesState.OPEN
    completes(80)
    assert here.jobs == [[first], [late, later]]


def test_what_is_complete_is_not_queued_again(ward):
    here = ward(route(complete="quiet"))
    here.receives()
    for _ in range(3):
        here.time_passes(100)
        here.association_ends()
    assert len(here.jobs) == 1


def test_a_job_holds_the_route_as_it_was(ward):
    angio = route(profile="carm", mode="sample", priority=80, mark={"border": "dashed"})
    here = ward(angio)
    here.receives()
    job = here.job
    assert (job.route, job.profile, job.mode, job.priority, job.max_attempts) == (
        "angio",
        "carm",
        "sample",
        80,
        3,
    )
    assert (job.series_instance_uid, job.study_instance_uid) == (SERIES, STUDY)
    assert QueuedRoute.model_validate(job.settings) == QueuedRoute(**dict(angio), objects={"pacs": "multiframe_sc"})


def test_the_end_of_a_procedure_step_ends_the_waiting(ward):
    here = ward(route(complete="quiet"))
    first, second = here.receives(frames=1), here.receives(frames=1, at=1)
    here.step_ends(first, second)
    assert here.jobs == [[first, second]]
    assert here.state() == SeriesState.COMPLETE
    late = here.receives(frames=1, at=2)
    assert here.state() == SeriesState.OPEN
    here.time_passes(100)
    assert here.jobs == [[first, second], [late]]


def test_a_series_waits_for_the_last_that_its_procedure_step_announced_but_not_for_ever(ward):
    here = ward(route(complete="quiet", quiet_seconds=10))
    first = here.receives(frames=1)
    lost = generate_uid()
    here.step_ends(first, lost)
    assert here.jobs == []
    here.time_passes(11)
    assert here.jobs == [[first]]
    here.receives(frames=1, uid=lost, at=12)
    assert here.jobs == [[first], [lost]]


def test_objects_that_no_route_takes_count_as_arrived(ward):
    here = ward(route(complete="quiet", match=Match(attributes=(Rule(keyword="KVP", minimum=60),))))
    taken, other, unseen = generate_uid(), generate_uid(), generate_uid()
    here.step_ends(taken, other)
    here.step_ends(unseen, series=OTHER)
    here.receives(KVP="70", uid=taken)
    assert here.jobs == []
    here.receives(KVP="50", uid=other, at=1)
    assert here.jobs == [[taken]]
    here.receives(KVP="50", uid=unseen, series=OTHER)
    assert here.state(OTHER) == SeriesState.UNROUTED


def test_a_multi_frame_object_may_be_the_last_that_was_announced(ward):
    here = ward(route(quiet_seconds=600))
    single, cine = here.receives(frames=1), generate_uid()
    here.step_ends(single, cine)
    here.receives(uid=cine, at=1)
    assert here.jobs == [[cine], [single]]
    assert here.state() == SeriesState.COMPLETE


def test_a_step_that_ends_while_its_objects_arrive_closes_its_series_once_all_are_here(ward):
    here = ward(route(complete="quiet", quiet_seconds=600))
    for _ in range(5):
        series, uids = generate_uid(), [generate_uid() for _ in range(3)]
        together = [
            threading.Thread(target=here.receives, kwargs={"series": series, "uid": uid, "frames": 1}) for uid in uids
        ]
        together.append(threading.Thread(target=here.step_ends, args=uids, kwargs={"series": series}))
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        assert sorted(here.jobs[-1]) == sorted(uids)
    assert len(here.jobs) == 5


def test_an_object_without_a_route_is_kept_and_goes_no_further(ward):
    here = ward(route(match=Match(calling_ae=("ANGIO",))))
    uid = here.receives()
    here.association_ends()
    here.time_passes(10_000)
    assert here.jobs == []
    assert here.state() == SeriesState.UNROUTED
    (row,) = here.told("no_route")
    assert row.sop_instance_uid == uid
    assert row.details == {
        "reason": "no route matches",
        "routes": {"angio": "calling AE title 'CARM1' fits none of ANGIO"},
    }


def test_a_generated_picture_that_comes_back_is_not_queued(ward):
    here = ward(route())
    here.receives(SyntheticData="YES")
    assert here.jobs == []
    assert here.steps == ["generated_recognised"]


def test_an_object_that_no_route_took_is_not_swept_along_with_its_series(ward):
    here = ward(route(complete="quiet", match=Match(attributes=(Rule(keyword="KVP", minimum=60),))))
    taken = here.receives(KVP="70")
    here.receives(KVP="50", at=1)
    here.time_passes(60)
    assert here.jobs == [[taken]]
    assert here.state() == SeriesState.COMPLETE


def test_two_routes_in_one_series_give_a_job_each(ward):
    low, high = (Match(attributes=(Rule(keyword="KVP", **limit),)) for limit in ({"maximum": 60}, {"minimum": 61}))
    here = ward(route("low", complete="association", match=low), route("high", complete="quiet", match=high))
    first, second = here.receives(KVP="50"), here.receives(KVP="70", at=1)
    here.association_ends()
    assert here.jobs == [[first]]
    assert here.state() == SeriesState.OPEN
    here.time_passes(11)
    assert here.jobs == [[first], [second]]
    assert here.state() == SeriesState.COMPLETE


def test_a_series_whose_route_vanished_is_unrouted_and_that_is_told(ward):
    here = ward(route("old", complete="quiet"))
    here.receives()
    here.table = table(route("new"))
    here.time_passes(60)
    assert here.jobs == []
    assert here.state() == SeriesState.UNROUTED
    (row,) = here.told("no_route")
    assert row.details == {"reason": "route 'old' is no longer in the routes file", "objects": 1}
    assert row.outcome == "failed"
    here.time_passes(120)
    assert len(here.told("no_route")) == 1


def test_a_route_that_vanished_is_noticed_when_the_association_ends_too(ward):
    here = ward(route("old", complete="association"))
    here.receives()
    here.table = table()
    here.association_ends()
    assert here.state() == SeriesState.UNROUTED
    assert len(here.told("no_route")) == 1


def test_a_route_that_came_back_takes_what_waited_for_it(ward):
    here = ward(route("old", complete="quiet"))
    before = here.receives()
    kept, here.table = here.table, table()
    here.time_passes(60)
    here.table = kept
    now = here.receives(at=100)
    here.time_passes(200)
    assert here.jobs == [[before, now]]


def test_a_route_changed_meanwhile_counts_as_it_is_when_the_job_is_queued(ward):
    here = ward(route(complete="quiet", priority=10))
    here.receives()
    here.table = table(route(complete="quiet", priority=90))
    here.time_passes(60)
    assert here.job.priority == 90


def test_a_repeated_object_queues_nothing(ward):
    here = ward(route())
    uid = here.receives()
    here.receives(uid=uid)
    assert here.jobs == [[uid]]


def test_an_object_kept_aside_queues_nothing(ward):
    here = ward(route(complete="quiet"))
    uid = here.receives()
    here.receives(uid=uid, digest="f" * 64, at=1)
    here.time_passes(60)
    assert here.jobs == [[uid]]
    with here.database.reading() as tx:
        assert sorted(o.kind for o in tx.scalars(select(StoredObject))) == ["aside", "original"]


def test_every_step_is_told(ward):
    here = ward(route(complete="quiet"))
    uid = here.receives()
    here.time_passes(60)
    assert here.steps == ["route_matched", "series_completed", "job_queued"]
    matched, completed, queued = (here.told(action)[0] for action in here.steps)
    assert (matched.sop_instance_uid, matched.peer_ae, matched.details) == (uid, "CARM1", {"route": "angio"})
    assert completed.details == {"reason": "its quiet time is over", "route": "angio", "objects": 1}
    assert queued.job_id == here.job.id
    assert {row.study_instance_uid for row in (matched, completed, queued)} == {STUDY}


def test_a_step_that_fails_leaves_nothing_behind(ward):
    here = ward(route())
    with pytest.raises(RuntimeError), here.database.transaction() as tx:
        kept = keep_object(tx, here.arriving("1.2.3", SERIES, 8, "a" * 64, START))
        object_kept(tx, kept.object, xa(), table=here.table, max_attempts=3)
        raise RuntimeError
    assert here.jobs == []
    assert here.steps == []


def test_objects_that_come_while_their_series_is_closed_are_not_forgotten(ward):
    here = ward(route(complete="quiet", quiet_seconds=0.001))
    sent = []

    def send():
        for number in range(20):
            sent.append(here.receives(at=number))

    def close():
        while sender.is_alive():
            here.time_passes(100)

    sender, closer = threading.Thread(target=send), threading.Thread(target=close)
    sender.start()
    closer.start()
    sender.join()
    closer.join()
    here.time_passes(100)
    assert sorted(uid for job in here.jobs for uid in job) == sorted(sent)
