"""Rows that are leased: those of what is due to peers say who is about them, and until when nobody else is."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from storage.entering import table_of
from storage.schema import Commitment, Delivery, Fetch, SoughtCommitment

#: What is due to peers.
Leased = Commitment | Delivery | Fetch | SoughtCommitment


def let_go(tx: Session, kind: type[Leased], owner: str) -> None:
    """Free what an owner was about, which is dead."""
    table = table_of(kind)
    tx.execute(update(table).where(table.c.lease_owner == owner).values(lease_owner=None, lease_until=None))
