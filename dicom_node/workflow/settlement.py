"""What becomes of a delivery and of its job, each step with its audit row, in the transaction of the caller.

The job's row is locked first: of two deliveries that are settled at the same moment the later sees the
earlier, and one of them ends the job.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from config.routes import Destination
from dicom_node.audit import Action, record
from dicom_node.sop_classes import BESIDE
from storage.database import current_time
from storage.outbox import (
    Hold,
    abandon,
    acknowledge,
    claim_deliveries,
    keep_hold,
    outstanding,
    postpone,
    refuse,
    withhold,
)
from storage.queue import move
from storage.schema import Delivery, Job, StoredObject
from storage.states import DeliveryState, ObjectKind
from storage.transitions import JobState

_ACTOR = "delivery"


@dataclass(frozen=True, kw_only=True)
class Consignment:
    """A result on its way to one destination."""

    #: On its delivery.
    hold: Hold
    job_id: int
    #: How often it was tried, this time included.
    attempt: int
    destination: str
    #: SHA-256 of the file, its name in the object store.
    digest: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str


def due_destinations(tx: Session) -> list[str]:
    """Names of the destinations to which something is due that nobody carries yet."""
    now = current_time(tx)
    free = or_(Delivery.lease_until.is_(None), Delivery.lease_until < now)
    waiting = (Delivery.state == DeliveryState.WAITING, Delivery.not_before <= now, free)
    return list(tx.scalars(select(Delivery.destination).where(*waiting).distinct()))


def take(
    tx: Session, destination: str, *, owner: str, lease_seconds: float, most: int, most_bytes: int
) -> list[Consignment]:
    """Take what is due to a destination, up to so many objects, and up to about so many bytes."""
    claimed = claim_deliveries(
        tx, destination, owner=owner, lease_seconds=lease_seconds, most=most, most_bytes=most_bytes
    )
    return [_consignment(delivery, object, hold) for delivery, object, hold in claimed]


def _consignment(delivery: Delivery, object: StoredObject, hold: Hold) -> Consignment:
    return Consignment(
        hold=hold,
        job_id=delivery.job_id,
        attempt=delivery.attempts,
        destination=delivery.destination,
        digest=object.digest,
        sop_class_uid=object.sop_class_uid,
        study_instance_uid=object.study_instance_uid,
        series_instance_uid=object.series_instance_uid,
        sop_instance_uid=object.sop_instance_uid,
    )


def set_out(tx: Session, consignments: Iterable[Consignment]) -> set[int]:
    """Begin the delivery of the jobs; the numbers of those that are still to be delivered."""
    under_way = set()
    for job_id in sorted({consignment.job_id for consignment in consignments}):
        job = locked_job(tx, job_id)
        if job.state == JobState.RECONSTRUCTED:
            job = move(tx, job_id, JobState.DELIVERING)
        if job.state == JobState.DELIVERING:
            under_way.add(job_id)
    return under_way


def settle_acknowledged(tx: Session, sent: Consignment, to: Destination, status: int) -> None:
    """The destination has the object; with the last of its objects the job is delivered."""
    job = locked_job(tx, sent.job_id)
    if acknowledge(tx, sent.hold.delivery_id, status=status):
        _tell(tx, sent, Action.DELIVERED, to, status=_spelled(status), attempt=sent.attempt)
        end_if_settled(tx, job)


def settle_postponed(
    tx: Session,
    sent: Consignment,
    to: Destination | None,
    *,
    reason: str,
    status: int | None,
    wait_seconds: float,
    give_up_after: timedelta,
) -> None:
    """Try again after a wait; or give up when the job has been on its way for too long.

    LeaseLost if the delivery is no longer its sender's; then nothing is changed or told.
    """
    job = locked_job(tx, sent.job_id)
    # A job enters `delivering` when its delivery begins and when a person has it retried, and then rests.
    if current_time(tx) - job.updated_at > give_up_after:
        hours = give_up_after / timedelta(hours=1)
        abandon(tx, sent.hold, reason=f"given up after {hours:g} h: {reason}", status=status)
        _tell(tx, sent, Action.DELIVERY_ABANDONED, to, "failed", reason=reason, status=_spelled(status))
        end_if_settled(tx, job)
        return
    postpone(tx, sent.hold, reason=reason, status=status, wait_seconds=wait_seconds)
    _tell(
        tx,
        sent,
        Action.DELIVERY_POSTPONED,
        to,
        "failed",
        reason=reason,
        status=_spelled(status),
        attempt=sent.attempt,
        wait_seconds=round(wait_seconds, 1),
    )


def settle_refused(
    tx: Session, sent: Consignment, to: Destination | None, *, reason: str, status: int | None = None
) -> None:
    """The destination will not take the object, or it cannot be sent: no more attempts. LeaseLost as above."""
    job = locked_job(tx, sent.job_id)
    refuse(tx, sent.hold, reason=reason, status=status)
    _tell(tx, sent, Action.DELIVERY_REFUSED, to, "refused", reason=reason, status=_spelled(status))
    if not _is_burned_in(job) and sent.sop_class_uid == GrayscaleSoftcopyPresentationStateStorage:
        _hold_back(tx, job, sent, to)
    end_if_settled(tx, job)


def still_held(tx: Session, consignments: Iterable[Consignment], *, lease_seconds: float) -> list[Consignment]:
    """Those that are still their sender's, to be sent, and now are for so much longer.

    Others were settled meanwhile, as where what marks their pixels was refused. Where a lease ran out and another
    sender has taken any, they are none.
    """
    asked = list(consignments)
    held = keep_hold(tx, [each.hold for each in asked], lease_seconds=lease_seconds)
    return [each for each in asked if each.hold.delivery_id in held]


def _hold_back(tx: Session, job: Job, sent: Consignment, to: Destination | None) -> None:
    """Send nothing more of a job to a destination that refused the mark of its pictures (promise 4)."""
    reason = "held back, for the presentation state that marks its generated pixels was refused"
    waiting = select(Delivery).where(
        Delivery.job_id == job.id, Delivery.destination == sent.destination, Delivery.state == DeliveryState.WAITING
    )
    for delivery in tx.scalars(waiting).all():
        hold = Hold(delivery.id, delivery.lease_owner or "")
        held = _consignment(delivery, tx.get_one(StoredObject, delivery.object_id), hold)
        withhold(tx, delivery.id, reason=reason)
        _tell(tx, held, Action.DELIVERY_REFUSED, to, "refused", reason=reason)


def end_if_settled(tx: Session, job: Job) -> None:
    """Delivered is what every destination acknowledged; what one did not fails the job, when none waits.

    Refused companions do not: they go beside the picture, and many an archive takes pictures only. But where no mark
    is burned into the picture, the presentation states are its mark.
    """
    counts = outstanding(tx, job.id)
    if counts[DeliveryState.WAITING] or job.state != JobState.DELIVERING:
        return
    missing = counts[DeliveryState.REFUSED] + counts[DeliveryState.ABANDONED]
    reason = _reason(tx, job.id, missing, sum(counts.values())) if missing else None
    if missing > _refused_companions(tx, job):
        move(tx, job.id, JobState.FAILED, reason)
        _tell_of_job(tx, job, Action.JOB_FAILED, "failed", reason=reason)
    else:
        move(tx, job.id, JobState.DELIVERED, reason)
        without: dict[str, Any] = {"without": reason} if reason else {}
        _tell_of_job(tx, job, Action.JOB_DELIVERED, deliveries=counts[DeliveryState.ACKNOWLEDGED], **without)


def _reason(tx: Session, job_id: int, missing: int, total: int) -> str:
    unsettled = (DeliveryState.REFUSED, DeliveryState.ABANDONED)
    query = select(Delivery).where(Delivery.job_id == job_id, Delivery.state.in_(unsettled))
    said = Counter(f"{delivery.destination}: {delivery.reason}" for delivery in tx.scalars(query))
    return f"{missing} of {total} deliveries failed ({'; '.join(said)})"


def _refused_companions(tx: Session, job: Job) -> int:
    """How many deliveries were refused that a picture can do without."""
    burned_in = _is_burned_in(job)
    spare = [uid for uid in BESIDE if burned_in or uid != GrayscaleSoftcopyPresentationStateStorage]
    query = (
        select(func.count())
        .select_from(Delivery)
        .join(StoredObject, StoredObject.id == Delivery.object_id)
        .where(
            Delivery.job_id == job.id,
            Delivery.state == DeliveryState.REFUSED,
            StoredObject.kind == ObjectKind.RESULT,
            StoredObject.sop_class_uid.in_(spare),
        )
    )
    return tx.scalars(query).one()


def _is_burned_in(job: Job) -> bool:
    """Whether the pictures of a job bear their mark themselves."""
    mark = job.settings.get("mark")
    return not isinstance(mark, dict) or bool(mark.get("burned_in", True))


def locked_job(tx: Session, job_id: int) -> Job:
    return tx.get_one(Job, job_id, with_for_update=True, populate_existing=True)


def _spelled(status: int | None) -> str | None:
    return None if status is None else f"0x{status:04X}"


def _tell(
    tx: Session,
    sent: Consignment,
    action: Action,
    to: Destination | None,
    outcome: Literal["success", "refused", "failed"] = "success",
    **details: Any,
) -> None:
    known = {name: value for name, value in details.items() if value is not None}
    record(
        tx,
        action,
        actor=_ACTOR,
        outcome=outcome,
        peer_ae=to.ae_title or None if to is not None else None,
        peer_address=to.address if to is not None else None,
        study_instance_uid=sent.study_instance_uid,
        series_instance_uid=sent.series_instance_uid,
        sop_instance_uid=sent.sop_instance_uid,
        job_id=sent.job_id,
        details={"destination": sent.destination, **known},
    )


def _tell_of_job(
    tx: Session,
    job: Job,
    action: Action,
    outcome: Literal["success", "refused", "failed"] = "success",
    **details: Any,
) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        outcome=outcome,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        model_digest=job.model_digest,
        details=details,
    )
