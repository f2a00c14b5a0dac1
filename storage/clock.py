"""The clock that all processes share may be set back: what waits for a time would then wait as much longer."""

import time
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.schema import Table

#: A clock that is kept by small steps is left alone.
_SMALLEST = timedelta(seconds=5)

#: Columns that say until when something waits, or is held.
_WAITS = ("not_before", "lease_until", "due_at")


class ClockWatch:
    """Compares the shared clock with one that is never set."""

    def __init__(self) -> None:
        self._before: tuple[datetime, float] | None = None

    def set_back_by(self, now: datetime) -> timedelta | None:
        """By how much the clock was set back since it was last asked; None if it was not.

        now: by the shared clock. One that goes ahead is no matter: what waited is due, and what was held is free.
        """
        steady = time.monotonic()
        before, self._before = self._before, (now, steady)
        if before is None:
            return None
        back = before[0] + timedelta(seconds=steady - before[1]) - now
        return back if back > _SMALLEST else None


def bring_forward(tx: Session, by: timedelta) -> int:
    """Have what waits, or is held, until a time to come do so for as much less; how many rows that are.

    Nothing is due before now.
    """
    now = current_time(tx)
    count = 0
    for mapper in Table.registry.mappers:
        for name in set(_WAITS) & set(mapper.columns.keys()):
            later = select(mapper.class_).where(mapper.columns[name] > now).with_for_update(skip_locked=True)
            for row in tx.scalars(later):
                setattr(row, name, max(now, getattr(row, name) - by))
                count += 1
    tx.flush()
    return count
