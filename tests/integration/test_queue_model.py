"""Whatever workers, senders, people and time do to jobs, they become what a small model says; on both databases."""

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from config.errors import LeaseLost
from config.routes import Destination
from dicom_node.workflow.commitment import end_if_committed, seek_commitment, take_report
from dicom_node.workflow.settlement import (
    Consignment,
    due_destinations,
    set_out,
    settle_acknowledged,
    settle_postponed,
    settle_refused,
    still_held,
    take,
)
from storage.database import Database, current_time
from storage.leases import let_go
from storage.queue import (
    Lease,
    cancel,
    claim,
    fail_exhausted,
    finish,
    forsake,
    get_job,
    heartbeat,
    overdue,
    put_back,
    retry,
)
from storage.schema import Delivery
from storage.sought_commitments import sought_of
from storage.states import DeliveryState, SoughtState
from storage.transitions import ForbiddenTransition, JobState
from tests.job_model import ModelDelivery, ModelJob, turn_and_number
from tests.jobs import let_lease_run_out, queued, result

_NAMES = st.sampled_from(["one", "two"])
_ENDS = (JobState.RECONSTRUCTED, JobState.DECLINED, JobState.FAILED)
_PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, commitment=True)
#: So often it is sent what it says it lacks.
_MOST_SENDINGS = 3


class QueueMachine(RuleBasedStateMachine):
    """Several workers and senders at one database; each rule asks it, and the model what should come of it."""

    jobs = Bundle("jobs")
    leases = Bundle("leases")
    sendings = Bundle("sendings")

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._reading = database.reading()
        self._tx = self._reading.__enter__()  # All of it is undone in the end.
        self._model: dict[int, ModelJob] = {}
        # The way to a delivery is long: few examples would come to one by themselves.
        for study in ("1.2", "1.2", "1.3"):
            self.queue(50, "A", "x", 16, study, 3)
            self.end(self.take("one"), JobState.RECONSTRUCTED)
        for max_attempts in (1, 2):
            self.queue(50, "B", "x", 16, "1.3", max_attempts)

    def teardown(self) -> None:
        self._reading.__exit__(None, None, None)

    @initialize(target=jobs)
    def have_jobs(self):
        return multiple(*self._model)

    @initialize(target=leases)
    def begin(self):
        return self.take("one")

    @initialize(target=sendings)
    def set_out(self):
        return self.carry("one", 1)

    @rule(
        target=jobs,
        priority=st.integers(0, 100),
        sender=st.sampled_from("AB"),
        route=st.sampled_from("xy"),
        frames=st.integers(1, 500),
        study=st.sampled_from(["1.2", "1.3"]),
        max_attempts=st.integers(1, 3),
    )
    def queue(self, priority: int, sender: str, route: str, frames: int, study: str, max_attempts: int) -> int:
        number = len(self._model) + 1
        job = queued(
            self._tx,
            number,
            priority=priority,
            sender=sender,
            route=route,
            frames=frames,
            study=study,
            max_attempts=max_attempts,
        )
        self._model[job.id] = ModelJob(job.id, job.turn, priority, study, max_attempts)
        return job.id

    @rule(target=leases, worker=_NAMES)
    def take(self, worker: str) -> Lease:
        forsaken = sorted((job for job in self._model.values() if job.run_out), key=turn_and_number)
        for job in [job for job in forsaken if job.attempts == job.max_attempts]:
            self._end(job, JobState.FAILED)
        waiting = [job for job in self._model.values() if job.state == JobState.QUEUED]
        expected = next(iter([job for job in forsaken if job.run_out] + sorted(waiting, key=turn_and_number)), None)
        fail_exhausted(self._tx)
        taken = claim(self._tx, owner=worker, lease_seconds=60)
        if expected is None:
            assert taken is None
            return Lease(0, 0, worker)
        assert taken is not None
        job, lease = taken
        assert (job.id, lease.owner) == (expected.number, worker)
        expected.state, expected.lease, expected.run_out = JobState.RUNNING, lease, False
        expected.attempts += 1
        return lease

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        if self._holds(lease, lambda: heartbeat(self._tx, lease, lease_seconds=60, progress=0.5)):
            self._model[lease.job_id].run_out = False

    @rule(lease=leases, state=st.sampled_from(_ENDS))
    def end(self, lease: Lease, state: JobState) -> None:
        if self._holds(lease, lambda: finish(self._tx, lease, state)):
            job = self._model[lease.job_id]
            self._end(job, state)
            if state == JobState.RECONSTRUCTED:
                job.delivery = ModelDelivery(result(self._tx, get_job(self._tx, job.number)).id)

    @rule(lease=leases)
    def give_back(self, lease: Lease) -> None:
        if self._holds(lease, lambda: put_back(self._tx, lease, reason="again", wait_seconds=0)):
            job = self._model[lease.job_id]
            self._end(job, JobState.FAILED if job.attempts == job.max_attempts else JobState.QUEUED)

    @rule(name=_NAMES)
    def die(self, name: str) -> None:
        """A worker and a sender, and both are known to be dead."""
        forsake(self._tx, name)
        let_go(self._tx, Delivery, name)
        for job in self._model.values():
            if job.lease is not None and job.lease.owner == name:
                job.run_out = True
            if job.delivery and job.delivery.is_held_by(name):
                job.delivery.sending, job.delivery.run_out = None, False

    @rule(name=_NAMES)
    def wait(self, name: str) -> None:
        """Until what a worker and a sender hold has run out, who hang, and all that was postponed is due."""
        past = current_time(self._tx) - timedelta(seconds=1)
        for job in self._model.values():
            if job.lease is not None and job.lease.owner == name:
                let_lease_run_out(self._tx, get_job(self._tx, job.number))
                job.run_out = True
            known = job.delivery
            if known and known.state == DeliveryState.WAITING:
                delivery = self._tx.get_one(Delivery, known.number, populate_existing=True)
                delivery.not_before, known.rests = past, False
                if known.is_held_by(name):
                    delivery.lease_until, known.run_out = past, True

    @rule(number=jobs, goes_on=st.booleans())
    def decide(self, number: int, goes_on: bool) -> None:
        """As a person does: that a job goes on, or does not."""
        if goes_on:
            self._retry(self._model[number])
        else:
            self._cancel(self._model[number])

    @rule(target=sendings, sender=_NAMES, most=st.integers(1, 2))
    def carry(self, sender: str, most: int):
        on_their_way = [job for job in self._model.values() if job.delivery]
        held_up = {job.study for job in on_their_way if job.delivery.is_held_up}
        due = [job for job in on_their_way if job.delivery.state == DeliveryState.WAITING and job.study not in held_up]
        expected = sorted(due, key=lambda job: (-job.priority, job.delivery.number))[:most]
        taken = take(self._tx, _PACS.name, owner=sender, lease_seconds=600, most=most, most_bytes=1 << 20)
        assert [sending.hold.delivery_id for sending in taken] == [job.delivery.number for job in expected]
        assert set_out(self._tx, taken) == {job.number for job in expected}
        for job, sending in zip(expected, taken, strict=True):
            self._end(job, JobState.DELIVERING)
            job.delivery.sending, job.delivery.run_out = sending, False
            job.delivery.attempts += 1
        return multiple(*taken)

    @rule(sending=sendings)
    def go_on(self, sending: Consignment) -> None:
        delivery = self._delivery_of(sending)
        held = still_held(self._tx, [sending], lease_seconds=600)
        assert held == ([sending] if delivery.sending == sending else [])
        if held:
            delivery.run_out = False

    @rule(sending=sendings, state=st.sampled_from(DeliveryState))
    def settle(self, sending: Consignment, state: DeliveryState) -> None:
        if state == DeliveryState.ACKNOWLEDGED:
            # Even what was taken over, or given up, is there when the destination says so.
            settle_acknowledged(self._tx, sending, _PACS, 0)
            if self._delivery_of(sending).state != DeliveryState.ACKNOWLEDGED:
                self._settle(sending.job_id, state)
            self._seek(sending.job_id)
        elif state == DeliveryState.REFUSED:
            if self._carries(sending, lambda: settle_refused(self._tx, sending, _PACS, reason="too large")):
                self._settle(sending.job_id, state)
                self._seek(sending.job_id)
        elif self._carries(sending, lambda: self._postpone(sending, for_too_long=state == DeliveryState.ABANDONED)):
            if state == DeliveryState.ABANDONED:
                self._settle(sending.job_id, state)
            else:
                self._delivery_of(sending).become(state, rests=True)

    @precondition(lambda self: self._asked())
    @rule(keeps=st.booleans(), data=st.data())
    def report(self, keeps: bool, data: st.DataObject) -> None:
        """The destination commits to keep a result, or says that it lacks it."""
        job = data.draw(st.sampled_from(self._asked()))
        delivery = job.delivery
        asked = sought_of(self._tx, job.number)[-1]
        uids = {uid for _, uid in asked.items}
        committed, failed = (uids, {}) if keeps else (set(), dict.fromkeys(uids, 0x0112))
        take_report(
            self._tx,
            asked.transaction_uid,
            committed=frozenset(committed),
            failed=failed,
            peer_ae="PACS",
            peer_address="127.0.0.1",
        )
        if keeps:
            delivery.sought = SoughtState.COMMITTED
            if job.state == JobState.DELIVERED:
                self._end(job, JobState.COMMITTED)
            return
        delivery.sought = SoughtState.INCOMPLETE
        delivery.lacked += 1
        if job.state == JobState.DELIVERED and delivery.lacked < _MOST_SENDINGS:
            self._end(job, JobState.DELIVERING)
            delivery.become(DeliveryState.WAITING)
            delivery.attempts = 0
        else:
            self._end(job, JobState.FAILED)
            delivery.become(DeliveryState.REFUSED)

    @invariant()
    def the_queue_is_as_the_model(self) -> None:
        for number, known in self._model.items():
            job = get_job(self._tx, number)
            assert (job.state, job.attempts) == (known.state, known.attempts)
            assert (job.lease_owner or None) == (known.lease.owner if known.lease else None)
        run_out = {job.number for job in self._model.values() if job.run_out}
        assert {job.id for job in overdue(self._tx, ["one", "two"])} == run_out

    @invariant()
    def the_outbox_is_as_the_model(self) -> None:
        rows = select(Delivery.job_id, Delivery.id, Delivery.state, Delivery.attempts, Delivery.lease_owner)
        assert {(row[0], *row[1:]) for row in self._tx.execute(rows)} == {
            (job.number, known.number, known.state, known.attempts, known.sending and known.sending.hold.holder)
            for job in self._model.values()
            if (known := job.delivery)
        }
        waiting = [job.delivery for job in self._model.values() if job.delivery and job.delivery.state == "waiting"]
        assert bool(due_destinations(self._tx)) == any(not delivery.is_held_up for delivery in waiting)

    @invariant()
    def what_waits_is_of_a_job_that_is_under_way(self) -> None:
        for job in self._model.values():
            if job.delivery and job.delivery.state == DeliveryState.WAITING:
                assert job.state in (JobState.RECONSTRUCTED, JobState.DELIVERING)

    def _holds(self, lease: Lease, act) -> bool:
        """Act under a lease: only the one that counts may, even when it has run out and nobody has taken over."""
        job = self._model.get(lease.job_id)
        try:
            act()
        except LeaseLost:
            assert job is None or job.lease != lease
            return False
        assert job is not None
        assert job.lease == lease
        return True

    def _allowed(self, allowed: bool, act) -> bool:
        try:
            act()
        except ForbiddenTransition:
            assert not allowed
            return False
        assert allowed
        return True

    def _cancel(self, job: ModelJob) -> None:
        over = {JobState.DELIVERED, JobState.COMMITTED, JobState.DECLINED, JobState.FAILED}
        if self._allowed(job.state not in over, lambda: cancel(self._tx, job.number, "anna")):
            self._end(job, JobState.FAILED)
            if job.delivery and job.delivery.state == DeliveryState.WAITING:
                job.delivery.become(DeliveryState.ABANDONED)

    def _retry(self, job: ModelJob) -> None:
        if not self._allowed(job.state == JobState.FAILED, lambda: retry(self._tx, job.number)):
            return
        end_if_committed(self._tx, get_job(self._tx, job.number))
        if job.delivery is None:
            self._end(job, JobState.QUEUED)
            job.attempts = 0
        elif job.delivery.state == DeliveryState.ACKNOWLEDGED:
            has_all = job.delivery.sought == SoughtState.COMMITTED
            self._end(job, JobState.COMMITTED if has_all else JobState.DELIVERED)
        else:
            self._end(job, JobState.DELIVERING)
            job.delivery.become(DeliveryState.WAITING)
            job.delivery.attempts = 0

    def _postpone(self, sending: Consignment, for_too_long: bool) -> None:
        settle_postponed(
            self._tx,
            sending,
            _PACS,
            reason="away",
            status=None,
            wait_seconds=3600,
            give_up_after=timedelta(days=-1 if for_too_long else 1),
        )

    def _asked(self) -> list[ModelJob]:
        """Those whose destination is to report."""
        known = self._model.values()
        return [job for job in known if job.delivery and job.delivery.sought == SoughtState.WAITING]

    def _carries(self, sending: Consignment, act) -> bool:
        """Act as who sends: only the one whose hold counts may."""
        try:
            act()
        except LeaseLost:
            assert self._delivery_of(sending).sending != sending
            return False
        assert self._delivery_of(sending).sending == sending
        return True

    def _delivery_of(self, sending: Consignment) -> ModelDelivery:
        delivery = self._model[sending.job_id].delivery
        assert delivery is not None
        return delivery

    def _end(self, job: ModelJob, state: JobState) -> None:
        job.state, job.lease, job.run_out = state, None, False

    def _settle(self, number: int, state: DeliveryState) -> None:
        """The one delivery of a job, and with it the job, if it is under way."""
        job = self._model[number]
        assert job.delivery is not None
        job.delivery.become(state)
        if job.state == JobState.DELIVERING:
            self._end(job, JobState.DELIVERED if state == DeliveryState.ACKNOWLEDGED else JobState.FAILED)

    def _seek(self, number: int) -> None:
        """What a sender does about commitment when a delivery is settled."""
        seek_commitment(self._tx, number, _PACS)
        end_if_committed(self._tx, get_job(self._tx, number))
        job, delivery = self._model[number], self._model[number].delivery
        assert delivery is not None
        if delivery.state == DeliveryState.ACKNOWLEDGED and delivery.sought != SoughtState.COMMITTED:
            delivery.sought = SoughtState.WAITING
        if job.state == JobState.DELIVERED and delivery.sought == SoughtState.COMMITTED:
            self._end(job, JobState.COMMITTED)


def test_the_queue_does_what_the_model_says(database: Database) -> None:
    run_state_machine_as_test(
        lambda: QueueMachine(database), settings=settings(max_examples=30, stateful_step_count=30, deadline=None)
    )
