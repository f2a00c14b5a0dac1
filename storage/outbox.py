"""The outbox: which object is to go to which destination, and what became of it."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from config.errors import FullfieldError
from storage.database import current_time
from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState


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


def claim_delivery(
    tx: Session, *, owner: str, lease_seconds: float, destinations: Sequence[str] | None = None
) -> Delivery | None:
    """Take the next delivery that is due, to one of these destinations or to any; None if there is none.

    The highest priority of a job goes first, and of a priority what was made first: so what has waited for a
    destination that was away goes in its order. A lease that runs out while the sender still sends has the object
    sent twice, which every destination takes as once.
    """
    now = current_time(tx)
    query = (
        select(Delivery)
        .join(Job, Job.id == Delivery.job_id)
        .where(
            Delivery.state == DeliveryState.WAITING,
            Delivery.not_before <= now,
            or_(Delivery.lease_until.is_(None), Delivery.lease_until < now),
        )
        .order_by(Job.priority.desc(), Delivery.id)
        .limit(1)
        .with_for_update(of=Delivery, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if destinations is not None:
        query = query.where(Delivery.destination.in_(destinations))
    delivery = tx.scalars(query).one_or_none()
    if delivery is None:
        return None
    delivery.attempts += 1
    delivery.lease_owner = owner
    delivery.lease_until = now + timedelta(seconds=lease_seconds)
    tx.flush()
    return delivery


def acknowledge(tx: Session, delivery_id: int, *, status: int) -> Delivery:
    """The destination has the object; true even if the delivery was given up meanwhile."""
    delivery = _locked(tx, delivery_id)
    if delivery.state != DeliveryState.ACKNOWLEDGED:
        _settle(delivery, DeliveryState.ACKNOWLEDGED, reason=None, status=status)
        delivery.acknowledged_at = current_time(tx)
        tx.flush()
    return delivery


def postpone(tx: Session, delivery_id: int, *, reason: str, status: int | None, wait_seconds: float) -> Delivery:
    """Try again after a wait; a delivery that is no longer waiting stays as it is.

    status: what the destination answered (PS3.7 C), or None if it did not.
    """
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.WAITING:
        _settle(delivery, DeliveryState.WAITING, reason=reason, status=status)
        delivery.not_before = current_time(tx) + timedelta(seconds=wait_seconds)
        tx.flush()
    return delivery


def refuse(tx: Session, delivery_id: int, *, reason: str, status: int | None) -> Delivery:
    """The destination will not take the object; a delivery that is no longer waiting stays as it is."""
    return _give_up(tx, delivery_id, DeliveryState.REFUSED, reason, status)


def abandon(tx: Session, delivery_id: int, *, reason: str, status: int | None = None) -> Delivery:
    """Stop trying; a delivery that is no longer waiting stays as it is."""
    return _give_up(tx, delivery_id, DeliveryState.ABANDONED, reason, status)


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


def _give_up(tx: Session, delivery_id: int, state: DeliveryState, reason: str, status: int | None) -> Delivery:
    delivery = _locked(tx, delivery_id)
    if delivery.state == DeliveryState.WAITING:
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
