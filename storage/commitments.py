"""Requests for storage commitment: entered once, kept until their report has arrived (PS3.4 J.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.schema import Commitment
from storage.states import CommitmentState


@dataclass(frozen=True, kw_only=True)
class CommitmentRequest:
    """What a peer has asked for, before the database knows of it."""

    transaction_uid: str
    #: SOP Class UID and SOP Instance UID of each object.
    items: Sequence[tuple[str, str]]
    #: Who asked whom, from where, over which association.
    calling_ae: str
    called_ae: str
    peer_address: str
    association_id: str


#: ``repeated``: the peer asked for the same before, and gets a report again. ``conflict``: it asked for other
#: objects under this Transaction UID before, and nothing was entered.
Entered = Literal["new", "repeated", "conflict"]


def add_commitment(
    tx: Session, request: CommitmentRequest, *, owner: str, lease_seconds: float, wait_seconds: float
) -> Entered:
    """Enter a request; its report is due after a wait, and for the length of a lease the owner's to make.

    Two associations may enter the same request at once: the second waits for the first to commit, then finds
    its row.
    """
    items = [list(item) for item in request.items]
    while True:
        known = _known(tx, request)
        if known is not None and known.items != items:
            return "conflict"
        row = known or Commitment(transaction_uid=request.transaction_uid, calling_ae=request.calling_ae, items=items)
        now = current_time(tx)
        row.called_ae, row.peer_address = request.called_ae, request.peer_address
        row.association_id = request.association_id
        row.state, row.attempts, row.failed = CommitmentState.WAITING, 0, {}
        row.requested_at, row.not_before = now, now + timedelta(seconds=wait_seconds)
        row.lease_owner, row.lease_until = owner, now + timedelta(seconds=lease_seconds)
        row.reason = row.last_status = row.reported_at = None
        if known is not None:
            tx.flush()
            return "repeated"
        try:
            with tx.begin_nested():
                tx.add(row)
        except IntegrityError:
            if _known(tx, request) is None:
                raise  # Another rule than that of the UIDs was broken.
            continue
        return "new"


def due_commitments(tx: Session, owner: str) -> list[str]:
    """The peers to which reports are due that this owner may make."""
    query = select(Commitment.calling_ae).distinct().where(Commitment.not_before <= current_time(tx))
    return list(tx.scalars(query.where(*_free_for(tx, owner))))


def claim_commitment(tx: Session, calling_ae: str, *, owner: str, lease_seconds: float) -> Commitment | None:
    """Take the next report that is due to a peer; None if there is none."""
    now = current_time(tx)
    query = (
        select(Commitment)
        .where(Commitment.calling_ae == calling_ae, Commitment.not_before <= now, *_free_for(tx, owner))
        .order_by(Commitment.not_before, Commitment.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    commitment = tx.scalars(query).one_or_none()
    if commitment is None:
        return None
    commitment.attempts += 1
    commitment.lease_owner, commitment.lease_until = owner, now + timedelta(seconds=lease_seconds)
    tx.flush()
    return commitment


def hasten_commitments(tx: Session, calling_ae: str, called_ae: str, *, owner: str, lease_seconds: float) -> None:
    """Make all reports to a peer due that it asked this title for and no other owner is about: it has called again."""
    now = current_time(tx)
    waiting = update(Commitment).where(
        Commitment.calling_ae == calling_ae,
        Commitment.called_ae == called_ae,
        Commitment.not_before > now,
        *_free_for(tx, owner),
    )
    tx.execute(waiting.values(not_before=now, lease_owner=owner, lease_until=now + timedelta(seconds=lease_seconds)))


def settle_commitment(
    tx: Session,
    commitment_id: int,
    *,
    attempt: int,
    state: CommitmentState,
    reason: str | None = None,
    status: int | None = None,
    failed: Mapping[str, int] | None = None,
    wait_seconds: float = 0,
) -> bool:
    """Note what became of an attempt; whether the request still stood as it was when it was taken.

    wait_seconds: until the next attempt, for a report that goes on waiting. failed: what the report told.
    """
    row = tx.get_one(Commitment, commitment_id, with_for_update=True, populate_existing=True)
    if row.state != CommitmentState.WAITING or row.attempts != attempt:
        return False  # The peer has asked again meanwhile, or another node took it when the lease ran out.
    now = current_time(tx)
    row.state, row.reason, row.last_status = state, reason, status
    row.failed = dict(failed or {})
    row.not_before = now + timedelta(seconds=wait_seconds)
    row.reported_at = now if state == CommitmentState.REPORTED else None
    row.lease_owner = row.lease_until = None
    tx.flush()
    return True


def _known(tx: Session, request: CommitmentRequest) -> Commitment | None:
    query = select(Commitment).where(
        Commitment.calling_ae == request.calling_ae, Commitment.transaction_uid == request.transaction_uid
    )
    return tx.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()


def _free_for(tx: Session, owner: str) -> tuple[ColumnElement[bool], ...]:
    free = or_(
        Commitment.lease_until.is_(None), Commitment.lease_until < current_time(tx), Commitment.lease_owner == owner
    )
    return Commitment.state == CommitmentState.WAITING, free
