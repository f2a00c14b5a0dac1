"""Every result reaches every destination once, or there is a reason why not."""

import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import pytest

from config.errors import FullfieldError, LeaseLost
from storage.database import Database, current_time
from storage.leases import let_go
from storage.outbox import (
    Hold,
    abandon,
    acknowledge,
    add_delivery,
    claim_deliveries,
    keep_hold,
    outstanding,
    postpone,
    refuse,
    withhold,
)
from storage.queue import cancel
from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState
from tests.jobs import queued, result


def take(tx, owner: str = "one", to: str = "pacs") -> Delivery:
    ((taken, _, _),) = claim_deliveries(tx, to, owner=owner, lease_seconds=60)
    return taken


def hold_of(delivery: Delivery) -> Hold:
    return Hold(delivery.id, delivery.lease_owner or "")


def none_is_due(tx, to: str = "pacs") -> bool:
    return claim_deliveries(tx, to, owner="none", lease_seconds=60) == []


def test_a_delivery_waits_at_once_and_is_taken_once(database: Database) -> None:
    with database.transaction() as tx:
        delivery = result(tx, queued(tx))
        assert (delivery.state, delivery.attempts, delivery.last_status) == (DeliveryState.WAITING, 0, None)
    with database.transaction() as tx:
        taken = take(tx, "sender-1")
        assert (taken.id, taken.attempts, taken.lease_owner.split("#")[0]) == (delivery.id, 1, "sender-1")
        assert none_is_due(tx)


def test_a_delivery_asked_for_again_is_the_same(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        first = result(tx, job)
        acknowledge(tx, first.id, status=0)
        made = tx.get_one(StoredObject, first.object_id)
        assert add_delivery(tx, job=job, object=made, destination="pacs") is first
        assert first.state == DeliveryState.ACKNOWLEDGED
        assert add_delivery(tx, job=job, object=made, destination="research") is not first


def test_the_delivery_of_the_most_urgent_job_goes_first_then_the_longest_due(database: Database) -> None:
    with database.transaction() as tx:
        for number, priority in enumerate([10, 90, 50, 90], start=1):
            result(tx, queued(tx, number, priority=priority, study=str(number)))
        assert [take(tx).job_id for _ in range(4)] == [2, 4, 3, 1]


def test_several_are_taken_at_once_up_to_a_number_and_until_they_have_so_many_bytes(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(1, 13):
            result(tx, queued(tx, number, study=str(number)))  # Of one byte.
        limits = [{"most": 5}, {"most": 9, "most_bytes": 3}, {"most": 9}, {"most": 9}]
        taken = [claim_deliveries(tx, "pacs", owner="one", lease_seconds=60, **limit) for limit in limits]
        assert [[delivery.job_id for delivery, *_ in each] for each in taken] == [
            [1, 2, 3, 4, 5],
            [6, 7, 8],
            [9, 10, 11, 12],
            [],
        ]


def test_nothing_of_a_study_is_taken_while_some_of_it_is_on_its_way_or_waits(database: Database) -> None:
    with database.transaction() as tx:
        first, second = (result(tx, queued(tx, number, study="1.2.8")) for number in (1, 2))
        result(tx, queued(tx, 3, study="1.2.9"))
        result(tx, queued(tx, 4, study="1.2.8"), "research")
        assert [take(tx, "one"), take(tx, "two").job_id] == [first, 3]
        assert none_is_due(tx)
        assert take(tx, to="research").job_id == 4  # Other destinations have an order of their own.
        postpone(tx, hold_of(first), reason="no answer", status=None, wait_seconds=3600)
        assert none_is_due(tx)
        first.not_before = current_time(tx)
        assert take(tx) is first
        acknowledge(tx, first.id, status=0)
        assert take(tx) is second


def test_who_still_sends_keeps_hold_of_what_is_left(database: Database) -> None:
    with database.transaction() as tx:
        for number in (1, 2, 3):
            result(tx, queued(tx, number, study=str(number)))
        left = [hold for *_, hold in claim_deliveries(tx, "pacs", owner="one", lease_seconds=-1, most=3)]
        acknowledge(tx, left.pop().delivery_id, status=0)
        assert keep_hold(tx, left, lease_seconds=60) == {1, 2}
        assert none_is_due(tx)


def test_who_has_lost_some_of_what_it_held_lets_go_of_all(database: Database) -> None:
    with database.transaction() as tx:
        for number in (1, 2):
            result(tx, queued(tx, number))
        lost = [hold for *_, hold in claim_deliveries(tx, "pacs", owner="one", lease_seconds=-1, most=2)]
        first = take(tx, "one")
        assert keep_hold(tx, lost, lease_seconds=60) == set()
        assert none_is_due(tx)  # The second has to wait for the first, whose hold has not been touched.
        assert keep_hold(tx, [hold_of(first)], lease_seconds=60) == {first.id}
        acknowledge(tx, first.id, status=0)
        assert take(tx, "two").id == 2


@pytest.mark.parametrize("late", ["postpone", "refuse", "abandon"])
def test_what_a_late_sender_says_of_a_delivery_that_another_holds_changes_nothing(
    database: Database, late: str
) -> None:
    with database.transaction() as tx:
        for number in (1, 2):
            result(tx, queued(tx, number))
        ((_, _, lost),) = claim_deliveries(tx, "pacs", owner="one", lease_seconds=-1)
        # One owner has several threads, and a person may have begun the attempts anew.
        now_held = take(tx, "one")
        now_held.attempts = 1
        before = (now_held.not_before, now_held.lease_owner, now_held.lease_until)
        say = {
            "postpone": lambda: postpone(tx, lost, reason="late", status=None, wait_seconds=0),
            "refuse": lambda: refuse(tx, lost, reason="late", status=0x0122),
            "abandon": lambda: abandon(tx, lost, reason="late"),
        }
        with pytest.raises(LeaseLost, match="Delivery 1 is no longer"):
            say[late]()
        tx.refresh(now_held)
        assert (now_held.state, now_held.reason) == (DeliveryState.WAITING, None)
        assert (now_held.not_before, now_held.lease_owner, now_held.lease_until) == before
        assert none_is_due(tx)


def test_what_a_dead_owner_held_is_free_and_nobody_elses(database: Database) -> None:
    with database.transaction() as tx:
        for number in (1, 2, 3):
            result(tx, queued(tx, number, study=str(number)))
        for owner in ("node", "node2", "NODE"):
            take(tx, owner)
        let_go(tx, Delivery, "node")
        assert take(tx).id == 1
        assert none_is_due(tx)


def test_a_sender_takes_only_what_goes_to_its_destination(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        result(tx, job, "pacs")
        research = result(tx, job, "research")
        assert take(tx, to="research") is research
        assert none_is_due(tx, to="elsewhere")


def test_an_acknowledged_delivery_is_done(database: Database) -> None:
    with database.transaction() as tx:
        result(tx, queued(tx))
        done = take(tx)
        assert acknowledge(tx, done.id, status=0xB000)
        assert (done.state, done.last_status, done.lease_owner) == (DeliveryState.ACKNOWLEDGED, 0xB000, None)
        first_time = done.acknowledged_at
        assert abs(first_time - current_time(tx)) < timedelta(minutes=1)
        assert not acknowledge(tx, done.id, status=0)
        assert (done.acknowledged_at, done.last_status) == (first_time, 0xB000)
        assert none_is_due(tx)


def test_a_postponed_delivery_is_tried_again_when_its_wait_is_over(database: Database) -> None:
    with database.transaction() as tx:
        result(tx, queued(tx))
        delivery = postpone(tx, hold_of(take(tx)), reason="no answer", status=None, wait_seconds=3600)
        assert (delivery.state, delivery.reason) == (DeliveryState.WAITING, "no answer")
        assert none_is_due(tx)
        delivery.not_before = current_time(tx)
        assert take(tx).attempts == 2


@pytest.mark.parametrize(("give_up", "state"), [(refuse, "refused"), (abandon, "abandoned")])
def test_a_delivery_given_up_keeps_its_reason_and_is_not_tried_again(database: Database, give_up, state: str) -> None:
    with database.transaction() as tx:
        result(tx, queued(tx))
        delivery = give_up(tx, hold_of(take(tx)), reason="no such SOP class", status=0x0122)
        assert (delivery.state, delivery.reason) == (state, "no such SOP class")
        assert (delivery.last_status, delivery.lease_owner) == (0x0122, None)
        assert none_is_due(tx)


def test_what_a_late_sender_says_of_a_settled_delivery_changes_nothing(database: Database) -> None:
    with database.transaction() as tx:
        result(tx, queued(tx))
        delivery = take(tx)
        hold = hold_of(delivery)
        acknowledge(tx, delivery.id, status=0)
        with pytest.raises(LeaseLost):
            postpone(tx, hold, reason="late", status=None, wait_seconds=0)
        with pytest.raises(LeaseLost):
            refuse(tx, hold, reason="late", status=0x0122)
        with pytest.raises(LeaseLost):
            abandon(tx, hold, reason="late")
        assert withhold(tx, delivery.id, reason="late").state == DeliveryState.ACKNOWLEDGED
        assert (delivery.state, delivery.last_status) == (DeliveryState.ACKNOWLEDGED, 0)


def test_an_object_that_arrived_after_all_is_acknowledged(database: Database) -> None:
    with database.transaction() as tx:
        delivery = result(tx, queued(tx))
        abandon(tx, hold_of(take(tx)), reason="cancelled by anna")
        acknowledge(tx, delivery.id, status=0)
        assert (delivery.state, delivery.reason) == (DeliveryState.ACKNOWLEDGED, None)


def test_a_sender_that_dies_leaves_its_delivery_to_the_next(database: Database) -> None:
    with database.transaction() as tx:
        result(tx, queued(tx))
        claim_deliveries(tx, "pacs", owner="one", lease_seconds=0.001)
    time.sleep(0.05)
    with database.transaction() as tx:
        taken = take(tx, "two")
        assert (taken.lease_owner.split("#")[0], taken.attempts) == ("two", 2)


def test_senders_that_claim_at_once_take_each_delivery_once(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(40):
            result(tx, queued(tx, number, study=str(number)))

    def send(owner: str) -> list[int]:
        sent = []
        while True:
            with database.transaction() as tx:
                taken = claim_deliveries(tx, "pacs", owner=owner, lease_seconds=60, most=3)
                if not taken:
                    return sent
                sent += [delivery.id for delivery, *_ in taken]

    with ThreadPoolExecutor(6) as threads:
        taken = [delivery for sent in threads.map(send, "abcdef") for delivery in sent]
    assert sorted(taken) == list(range(1, 41))


def test_senders_that_take_at_once_never_have_objects_of_one_study(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(60):
            result(tx, queued(tx, number, study=str(number % 5)))
    under_way: Counter[str] = Counter()
    order: dict[str, list[int]] = defaultdict(list)

    def send(owner: str) -> bool:
        """Send until nothing is due for a while; whether each study was this sender's alone."""
        alone = True
        for _ in range(60):
            with database.transaction() as tx:
                taken = [each for each, *_ in claim_deliveries(tx, "pacs", owner=owner, lease_seconds=60, most=4)]
                of = {each.id: tx.get_one(Job, each.job_id).study_instance_uid for each in taken}
                alone = alone and not any(under_way[study] for study in of.values())
                under_way.update(of.values())
            for delivery, study in of.items():
                with database.transaction() as tx:
                    order[study].append(delivery)
                    under_way[study] -= 1
                    acknowledge(tx, delivery, status=0)
        return alone

    with ThreadPoolExecutor(6) as threads:
        assert all(threads.map(send, "abcdef"))
    assert len(order) == 5
    assert all(len(sent) == 12 and sent == sorted(sent) for sent in order.values())


def test_of_senders_that_end_together_one_finds_that_all_is_delivered(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        deliveries = [result(tx, job, str(number)).id for number in range(12)]

    def send(delivery: int) -> bool:
        with database.transaction() as tx:
            acknowledge(tx, delivery, status=0)
            return outstanding(tx, job.id)[DeliveryState.WAITING] == 0

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(send, deliveries)) == 1


def test_a_sender_and_someone_who_cancels_do_not_block_each_other(database: Database) -> None:
    jobs = []
    with database.transaction() as tx:
        for number in range(12):
            job = queued(tx, number, study=str(number))
            result(tx, job)
            jobs.append((job.id, hold_of(take(tx))))

    def send(job_id: int, hold: Hold) -> None:
        with suppress(LeaseLost), database.transaction() as tx:
            postpone(tx, hold, reason="no answer", status=None, wait_seconds=0)
            get_locked(tx, job_id)

    def stop(job_id: int, _: Hold) -> None:
        with database.transaction() as tx:
            cancel(tx, job_id, "anna")

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(do, *job) for job in jobs for do in (send, stop)]:
            done.result(60)
    with database.reading() as tx:
        assert {outstanding(tx, job_id)[DeliveryState.ABANDONED] for job_id, _ in jobs} == {1}


def get_locked(tx, job_id: int) -> Job:
    return tx.get_one(Job, job_id, with_for_update=True)


def test_what_is_outstanding_is_counted_by_state(database: Database) -> None:
    with database.transaction() as tx:
        job = queued(tx)
        for name in ("a", "b", "c", "d", "e"):
            result(tx, job, name)
        result(tx, queued(tx, 2))
        acknowledge(tx, take(tx, to="a").id, status=0)
        refuse(tx, hold_of(take(tx, to="b")), reason="no", status=0x0122)
        abandon(tx, hold_of(take(tx, to="c")), reason="too long")
        assert outstanding(tx, job.id) == {"waiting": 2, "acknowledged": 1, "refused": 1, "abandoned": 1}
        assert outstanding(tx, 99) == dict.fromkeys(DeliveryState, 0)


def test_an_unknown_delivery_is_told_in_one_sentence(database: Database) -> None:
    with database.transaction() as tx, pytest.raises(FullfieldError, match="There is no delivery 99"):
        acknowledge(tx, 99, status=0)
