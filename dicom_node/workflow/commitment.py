"""What becomes of a job whose destinations are asked for storage commitment, in the transaction of the caller.

A destination is asked when it has acknowledged all of a job that it takes. What it then answers not to have is sent
again, so many times; a job is committed when every destination that is asked has committed to all of it.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

from pydicom.uid import generate_uid
from sqlalchemy import select
from sqlalchemy.orm import Session

from config.routes import Destination
from dicom_node.audit import Action, record
from dicom_node.workflow.settlement import end_if_settled, locked_job
from storage.database import current_time
from storage.outbox import send_again, take_back
from storage.queue import move, note
from storage.schema import Delivery, Job, SoughtCommitment, StoredObject
from storage.sought_commitments import add_sought, incomplete_answers, locked_sought, settle_sought, sought_of
from storage.states import DeliveryState, SoughtState
from storage.transitions import JobState

_ACTOR = "delivery"
#: How often the same objects are sent to a destination that answers each time that it lacks them.
_MOST_SENDINGS = 3
#: Referenced SOP class not supported, class-instance conflict (PS3.3 C.14.1.1): sending again changes nothing.
_FOR_GOOD = {0x0119, 0x0122}
#: Of an object that the report passes over: a processing failure.
_NOT_MENTIONED = 0x0110
#: Objects that one audit row names; the database has all of them.
_MOST_NAMED = 16


def seek_commitment(tx: Session, job_id: int, destination: Destination) -> None:
    """Enter the request, if the destination is one to be asked and nothing of the job is on its way there."""
    if not destination.commitment:
        return
    locked_job(tx, job_id)
    query = (
        select(Delivery.state, StoredObject.sop_class_uid, StoredObject.sop_instance_uid)
        .join(StoredObject, StoredObject.id == Delivery.object_id)
        .where(Delivery.job_id == job_id, Delivery.destination == destination.name)
        .order_by(Delivery.id)
    )
    sent = list(tx.execute(query))
    items = [item for state, *item in sent if state == DeliveryState.ACKNOWLEDGED]
    if items and all(state != DeliveryState.WAITING for state, *_ in sent):
        add_sought(tx, job_id=job_id, destination=destination.name, transaction_uid=_transaction_uid(), items=items)


def end_if_committed(tx: Session, job: Job) -> None:
    """A delivered job is committed when the last that each destination was asked was answered well."""
    last = {row.destination: row.state for row in sought_of(tx, job.id)}
    if job.state == JobState.DELIVERED and last and set(last.values()) == {SoughtState.COMMITTED}:
        move(tx, job.id, JobState.COMMITTED, job.reason)
        _tell_of_job(tx, job, Action.JOB_COMMITTED, destinations=sorted(last))


def take_report(
    tx: Session,
    transaction_uid: str,
    *,
    committed: frozenset[str],
    failed: Mapping[str, int],
    peer_ae: str,
    peer_address: str,
) -> SoughtState | None:
    """Note a destination's report; what has become of the request, None if it is none of this node's.

    A report that comes late is as good as one in time; of two the first counts.
    """
    found = locked_sought(tx, transaction_uid)
    if found is None:
        return None
    row, job = found
    if row.state not in (SoughtState.WAITING, SoughtState.ASKED, SoughtState.UNANSWERED):
        return row.state
    asked = [instance for _, instance in row.items]
    lacking = {uid: failed.get(uid, _NOT_MENTIONED) for uid in asked if uid in failed or uid not in committed}
    from_peer: dict[str, Any] = {"peer_ae": peer_ae, "peer_address": peer_address}
    if not lacking:
        settle_sought(tx, row, SoughtState.COMMITTED, status=0x0000)
        _tell(tx, row, job, Action.COMMITMENT_GIVEN, objects=len(asked), **from_peer)
        _supersede(tx, row)
        end_if_committed(tx, job)
        return row.state
    said = f"{row.destination} does not have {len(lacking)} of {len(asked)} objects that it acknowledged"
    settle_sought(tx, row, SoughtState.INCOMPLETE, reason=said, failed=lacking)
    _supersede(tx, row)
    for_good = set(lacking.values()) <= _FOR_GOOD
    # Of a job that has failed nothing is sent until a person has it retried; what waited would hold up its study.
    under_way = job.state in (JobState.DELIVERING, JobState.DELIVERED)
    again = under_way and not for_good and incomplete_answers(tx, job.id, row.destination) < _MOST_SENDINGS
    _tell(
        tx,
        row,
        job,
        Action.COMMITMENT_INCOMPLETE,
        "failed",
        reason=said,
        objects=len(asked),
        not_committed=[f"{uid} (0x{why:04X})" for uid, why in list(lacking.items())[:_MOST_NAMED]],
        sent_again=again,
        **from_peer,
    )
    _redo(tx, job, row, lacking, again=again)
    return row.state


def settle_asked(tx: Session, transaction_uid: str, to: Destination, *, status: int, wait_seconds: float) -> None:
    """The destination has taken the request on; its report is overdue after the wait."""
    found = _still_waiting(tx, transaction_uid)
    if found is not None:
        row, job = found
        settle_sought(tx, row, SoughtState.ASKED, status=status, wait_seconds=wait_seconds)
        _tell(tx, row, job, Action.COMMITMENT_ASKED, objects=len(row.items), attempt=row.attempts, **_at(to))


def settle_not_asked(
    tx: Session,
    transaction_uid: str,
    to: Destination | None,
    *,
    reason: str,
    status: int | None = None,
    wait_seconds: float,
    give_up_after: timedelta,
) -> None:
    """The destination could not be asked: it is asked again after a wait, or, after too long, no more."""
    found = _still_waiting(tx, transaction_uid)
    if found is None:
        return
    row, job = found
    if current_time(tx) - row.since > give_up_after:
        _end(tx, row, job, to, SoughtState.UNANSWERED, f"could not be asked for storage commitment: {reason}", status)
        return
    settle_sought(tx, row, SoughtState.WAITING, reason=reason, status=status, wait_seconds=wait_seconds)
    told: dict[str, Any] = {"reason": reason, "attempt": row.attempts, "wait_seconds": round(wait_seconds, 1)}
    _tell(tx, row, job, Action.COMMITMENT_ASKING_POSTPONED, "failed", **told, **_spelled(status), **_at(to))


def settle_declined(
    tx: Session, transaction_uid: str, to: Destination | None, *, reason: str, status: int | None = None
) -> None:
    """The destination commits to nothing: the job stays delivered, and says so."""
    found = _still_waiting(tx, transaction_uid)
    if found is not None:
        row, job = found
        _end(tx, row, job, to, SoughtState.REFUSED, f"does not do storage commitment: {reason}", status)


def settle_overdue(tx: Session, transaction_uid: str, to: Destination | None, *, give_up_after: timedelta) -> None:
    """No report has come: the destination is asked once more, under a new UID, or, after too long, no more."""
    found = locked_sought(tx, transaction_uid)
    if found is None or found[0].state != SoughtState.ASKED:
        return
    row, job = found
    reason = "has not reported on storage commitment"
    if to is None or current_time(tx) - row.since > give_up_after:
        _end(tx, row, job, to, SoughtState.UNANSWERED, reason, None)
        return
    settle_sought(tx, row, SoughtState.UNANSWERED, reason=reason)
    uid = _transaction_uid()
    add_sought(tx, job_id=job.id, destination=row.destination, transaction_uid=uid, items=row.items, since=row.since)
    said = f"{row.destination} {reason}; it is asked again"
    _tell(tx, row, job, Action.COMMITMENT_UNANSWERED, "failed", reason=said, **_at(to))


def _supersede(tx: Session, answered: SoughtCommitment) -> None:
    """A report that came late has answered the request that was made in place of the one it is for."""
    for row in sought_of(tx, answered.job_id):
        open_ = row.state in (SoughtState.WAITING, SoughtState.ASKED)
        if open_ and row.destination == answered.destination and row.items == answered.items:
            settle_sought(tx, row, answered.state, reason="answered by a report on an earlier request")


def _redo(tx: Session, job: Job, row: SoughtCommitment, lacking: Mapping[str, int], *, again: bool) -> None:
    """Send what is lacking again, or let it count as refused."""
    query = (
        select(Delivery.id, StoredObject.sop_instance_uid)
        .join(StoredObject, StoredObject.id == Delivery.object_id)
        .where(
            Delivery.job_id == job.id,
            Delivery.destination == row.destination,
            StoredObject.sop_instance_uid.in_(list(lacking)),
        )
    )
    for delivery_id, instance in list(tx.execute(query)):
        reason = f"acknowledged, but not committed (0x{lacking[instance]:04X})"
        if again:
            send_again(tx, delivery_id, reason=reason)
        else:
            take_back(tx, delivery_id, reason=reason, status=lacking[instance])
    if job.state == JobState.DELIVERED:
        move(tx, job.id, JobState.DELIVERING)
    if not again:
        end_if_settled(tx, job)


def _end(
    tx: Session,
    row: SoughtCommitment,
    job: Job,
    to: Destination | None,
    state: SoughtState,
    reason: str,
    status: int | None,
) -> None:
    said = f"{row.destination} {reason}"
    settle_sought(tx, row, state, reason=said, status=status)
    if job.state == JobState.DELIVERED:
        note(tx, job.id, said)
    _tell(tx, row, job, Action.COMMITMENT_NOT_GIVEN, "failed", reason=said, **_spelled(status), **_at(to))


def _still_waiting(tx: Session, transaction_uid: str) -> tuple[SoughtCommitment, Job] | None:
    """The request, unless its report was quicker than the answer to it."""
    found = locked_sought(tx, transaction_uid)
    return found if found is not None and found[0].state == SoughtState.WAITING else None


def _transaction_uid() -> str:
    """Random, so that nobody else can report on it."""
    return str(generate_uid(prefix=None))


def _at(to: Destination | None) -> dict[str, Any]:
    return {"peer_ae": to.ae_title, "peer_address": to.host} if to is not None else {}


def _spelled(status: int | None) -> dict[str, Any]:
    return {} if status is None else {"status": f"0x{status:04X}"}


def _tell(
    tx: Session,
    row: SoughtCommitment,
    job: Job,
    action: Action,
    outcome: Literal["success", "failed"] = "success",
    *,
    peer_ae: str | None = None,
    peer_address: str | None = None,
    **details: Any,
) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        outcome=outcome,
        peer_ae=peer_ae,
        peer_address=peer_address,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        details={"destination": row.destination, "transaction_uid": row.transaction_uid, **details},
    )


def _tell_of_job(tx: Session, job: Job, action: Action, *, destinations: Sequence[str]) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        model_digest=job.model_digest,
        details={"destinations": list(destinations)},
    )
