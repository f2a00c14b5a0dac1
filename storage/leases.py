"""Rows that are leased: those of what is due to peers say who is about them, and until when nobody else is."""

from sqlalchemy import func, or_, update
from sqlalchemy.orm import Session

from storage.entering import table_of
from storage.schema import Commitment, Delivery, Fetch, SoughtCommitment

#: What is due to peers.
Leased = Commitment | Delivery | Fetch | SoughtCommitment


#: Stands between an owner and what tells one of its holds from the others, where that is told.
OF_OWNER = "#"


def let_go(tx: Session, kind: type[Leased], owner: str) -> None:
    """Free what an owner was about, which is dead."""
    table = table_of(kind)
    held = table.c.lease_owner
    its_own = or_(held == owner, func.substr(held, 1, len(owner) + 1) == f"{owner}{OF_OWNER}")
    tx.execute(update(table).where(its_own).values(lease_owner=None, lease_until=None))
