"""The outbox: which object is to go to which destination, and what became of it."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, aliased

from config.errors import FullfieldError, LeaseLost
from storage.database import current_time
from storage.leases import OF_OWNER
from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState

#: Of the lock by which one at a time takes what goes to a destination, on PostgreSQL.
_TAKING = 7461


@dataclass(frozen=True)
class Hold:
    """A sender's hold on a delivery."""

    delivery_id: int
    #: Its owner, and what no other hold has: the fence against a sender that has lost the delivery unawares.
    holder: str


class UnknownDelivery(FullfieldError):
    """There is no delivery with that number."""


def add_delivery(tx: Session, *, job: Job, object: StoredObject, destination: str) -> Delivery:
    """Have an object delivered to a destination; once, however often it is asked for."""
    same = select(Delivery).where(Delivery.object_id == object.id, Delivery.destination == destination)
    known = tx.scalars(same).one_or_none()
    if known is not None:
        return known
    now = current_time(tx)
    delivery = Delivery(
        job_id=job.id,
        object_id=object.id,
        destination=destination,
        state=DeliveryState.WAITING,
        attempts=0,
        not_before=now,
        created_at=now,
    )
    tx.add(delivery)
    tx.flush()
    return delivery


def claim_deliveries(
    tx: Session, destination: str, *, owner: str, lease_seconds: float, most: int = 1, most_bytes: int = 1 << 62
) -> list[tuple[Delivery, StoredObject, Hold]]:
    """Take what is next due to a destination: up to so many objects, and no more once they have so many bytes.

    The highest priority of a job goes first, and of a priority what was made first: so what has waited for a
    destination that was away goes in its order. Nothing is taken of a study of which anything is on its way to the
    destination, or waits for its next try there: so the objects of a study keep their order, however many senders
    there are. A lease that runs out while the sender still sends has the object sent twice, which every destination
    takes as once.
    """
    if tx.get_bind().dialect.name == "postgresql":
        # Two who took at once would not see what the other takes. SQLite has one writer at a time.
        tx.execute(select(func.pg_advisory_xact_lock(_TAKING, func.hashtext(destination))))
    now, holder = current_time(tx), f"{owner}{OF_OWNER}{uuid.uuid4().hex}"
    ahead, its_job = aliased(Delivery), aliased(Job)
    held_up = (
        select(its_job.study_instance_uid)
        .join(ahead, ahead.job_id == its_job.id)
        .where(
            ahead.destination == destination,
            ahead.state == DeliveryState.WAITING,
            or_(ahead.lease_until >= now, ahead.not_before > now),
        )
    )
    query = (
        select(Delivery)
        .join(Job, Job.id == Delivery.job_id)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.WAITING,
            Delivery.not_before <= now,
            or_(Delivery.lease_until.is_(None), Delivery.lease_until < now),
            Job.study_instance_uid.not_in(held_up),
        )
        .order_by(Job.priority.desc(), Delivery.id)
        .limit(most)
        .with_for_update(of=Delivery, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    due = list(tx.scalars(query))
    objects = {
        object.id: object
        for object in tx.scalars(select(StoredObject).where(StoredObject.id.in_([each.object_id for each in due])))
    }
    taken: list[tuple[Delivery, StoredObject, Hold]] = []
    size = 0
    for delivery in due:
        if size >= most_bytes:
            break
        object = objects[delivery.object_id]
        delivery.attempts += 1
        delivery.lease_owner = holder
        delivery.lease_until = now + timedelta(seconds=lease_seconds)
        taken.append((delivery, object, Hold(delivery.id, holder)))
        size += object.size
    tx.flush()
    return taken


def keep_hold(tx: Session, holds: Iterable[Hold], *, lease_seconds: float) -> set[int]:
    """Keep others away for longer from deliveries that wait and are still held; the numbers of these.

    Where another has taken one of them they are none, and free: else two senders might have objects of one study.
    """
    holders = {hold.delivery_id: hold.holder for hold in holds}
    waiting = select(Delivery.id, Delivery.lease_owner).where(
        Delivery.id.in_(holders), Delivery.state == DeliveryState.WAITING
    )
    found = tx.execute(waiting.order_by(Delivery.id).with_for_update()).all()
    held = {delivery_id for delivery_id, holder in found if holder == holders[delivery_id]}
    still = update(Delivery).where(Delivery.id.in_(held))
    if len(held) < len(found):
        tx.execute(still.values(lease_owner=None, lease_until=None))
        return set()
    tx.execute(still.values(lease_until=current_time(tx) + timedelta(seconds=lease_seconds)))
    return held


def acknowledge(tx: Session, delivery_id: int, *, status: int) -> bool:
    """The destination has the object; true even if the delivery was given up meanwhile. Whether this is news.

    It is none where the commit that said so was lost on its way back and is tried again.
    """
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.ACKNOWLEDGED:
        return False
    _settle(delivery, DeliveryState.ACKNOWLEDGED, reason=None, status=status)
    delivery.acknowledged_at = current_time(tx)
    tx.flush()
    return True


def postpone(tx: Session, hold: Hold, *, reason: str, status: int | None, wait_seconds: float) -> Delivery:
    """Try again after a wait. LeaseLost if the delivery is no longer this sender's.

    status: what the destination answered (PS3.7 C), or None if it did not.
    """
    delivery = _held(tx, hold)
    _settle(delivery, DeliveryState.WAITING, reason=reason, status=status)
    delivery.not_before = current_time(tx) + timedelta(seconds=wait_seconds)
    tx.flush()
    return delivery


def refuse(tx: Session, hold: Hold, *, reason: str, status: int | None) -> Delivery:
    """The destination will not take the object. LeaseLost as in `postpone`."""
    return _give_up(tx, hold, DeliveryState.REFUSED, reason, status)


def abandon(tx: Session, hold: Hold, *, reason: str, status: int | None = None) -> Delivery:
    """Stop trying. LeaseLost as in `postpone`."""
    return _give_up(tx, hold, DeliveryState.ABANDONED, reason, status)


def withhold(tx: Session, delivery_id: int, *, reason: str) -> Delivery:
    """The object is not to be sent, whoever holds it; a delivery that is no longer waiting stays as it is."""
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.WAITING:
        _settle(delivery, DeliveryState.REFUSED, reason=reason, status=None)
        tx.flush()
    return delivery


def send_again(tx: Session, delivery_id: int, *, reason: str) -> Delivery:
    """The destination had the object, and has it no more: it is due anew."""
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.ACKNOWLEDGED:
        _settle(delivery, DeliveryState.WAITING, reason=reason, status=None)
        delivery.attempts, delivery.not_before, delivery.acknowledged_at = 0, current_time(tx), None
        tx.flush()
    return delivery


def take_back(tx: Session, delivery_id: int, *, reason: str, status: int) -> Delivery:
    """The destination has acknowledged the object, and does not keep it: as if it had refused it."""
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.ACKNOWLEDGED:
        _settle(delivery, DeliveryState.REFUSED, reason=reason, status=status)
        delivery.acknowledged_at = None
        tx.flush()
    return delivery


def outstanding(tx: Session, job_id: int) -> dict[DeliveryState, int]:
    """How many deliveries of a job are in each state; every state is in the answer."""
    query = select(Delivery.state, func.count()).where(Delivery.job_id == job_id).group_by(Delivery.state)
    counted = dict(tx.execute(query).all())
    return {state: counted.get(state, 0) for state in DeliveryState}


def _give_up(tx: Session, hold: Hold, state: DeliveryState, reason: str, status: int | None) -> Delivery:
    delivery = _held(tx, hold)
    _settle(delivery, state, reason=reason, status=status)
    tx.flush()
    return delivery


def _settle(delivery: Delivery, state: DeliveryState, *, reason: str | None, status: int | None) -> None:
    delivery.state = state
    delivery.reason = reason
    delivery.last_status = status
    delivery.lease_owner = delivery.lease_until = None


def _locked(tx: Session, delivery_id: int) -> Delivery:
    """The delivery, locked after its job.

    In that order everywhere: so `cancel` and a sender cannot wait for each other, and of two senders that
    settle the last two deliveries of a job at once the second sees in `outstanding` that it is the last.
    """
    job_id = tx.scalars(select(Delivery.job_id).where(Delivery.id == delivery_id)).one_or_none()
    if job_id is None:
        raise UnknownDelivery(f"There is no delivery {delivery_id}.")
    tx.execute(select(Job.id).where(Job.id == job_id).with_for_update())
    return tx.get_one(Delivery, delivery_id, with_for_update=True, populate_existing=True)


def _held(tx: Session, hold: Hold) -> Delivery:
    delivery = _locked(tx, hold.delivery_id)
    if delivery.state != DeliveryState.WAITING or delivery.lease_owner != hold.holder:
        raise LeaseLost(f"Delivery {hold.delivery_id} is no longer its sender's.")
    return delivery
