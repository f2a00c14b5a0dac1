"""When it is a job's turn: priority, ageing and fairness between senders, as one moment fixed when it is queued.

The job with the earliest turn goes first, so that a worker finds the next one by an index, however many wait.

- A waiting job gains a point of priority a minute. All gain alike, so that the order of two never changes: a point is
  a minute by which the turn is earlier. Nothing starves.
- What one sender has queued by one route takes its turns one after the other, each as much later as the work is
  reckoned to take (virtual clock, Zhang 1990): who sends a thousand cines at once delays himself alone.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.schema import Job, StoredObject
from storage.transitions import JobState

#: By how much a point of priority makes a turn earlier.
_POINT = timedelta(minutes=1)
#: What a frame is reckoned to take, and a job beside its frames. That is more than they take on any machine that can
#: keep up: reckoned too low, those who come later would wait until a crowd is through.
_FRAME, _JOB = timedelta(seconds=1), timedelta(seconds=5)


def turn_of(
    tx: Session, objects: Sequence[StoredObject], *, route: str, sender: str, priority: int, now: datetime
) -> datetime:
    """The turn of a job that takes in these objects and is queued now."""
    earliest = now - priority * _POINT
    ahead = tx.scalar(
        select(func.max(Job.turn)).where(Job.state == JobState.QUEUED, Job.route == route, Job.sender == sender)
    )
    if ahead is None:
        return earliest
    return max(earliest, ahead + _JOB + sum(object.frames for object in objects) * _FRAME)
