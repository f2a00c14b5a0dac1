"""The watchdog: finds which of a node's own workers are alive and yet do nothing for the job they hold.

A worker that dies is seen by the system. One that hangs is seen by its lease alone, which another worker would
take over; but there need not be another, and the hung one would stay in its place.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from storage.database import current_time
from storage.queue import overdue


class Watchdog:
    """Looks at the leases of workers again and again.

    lease_seconds: that of the workers. A lease that has run out is watched for as long again: what kept a
    worker from renewing it, such as a locked database, may be over in a moment.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = timedelta(seconds=lease_seconds)
        #: When each process was first seen, by the database's clock.
        self._known: dict[int, datetime] = {}
        #: When the lease of a process, by its token, was first seen to have run out, by this machine's clock.
        self._silent: dict[tuple[int, int, int], float] = {}

    def hung(self, tx: Session, workers: Mapping[str, int]) -> list[str]:
        """Names of the workers that hang; `workers`: the process of each that runs now, by its name."""
        now = current_time(tx)
        self._known = {pid: self._known.get(pid, now) for pid in workers.values()}
        silent: dict[tuple[int, int, int], float] = {}
        hung = []
        for job in overdue(tx, list(workers)):
            assert job.lease_owner is not None
            assert job.lease_until is not None
            pid = workers[job.lease_owner]
            if job.lease_until - self._lease < self._known[pid]:
                continue  # Left by a process before this one, which will take the job up when it has started.
            key = (pid, job.id, job.lease_token)
            silent[key] = self._silent.get(key, time.monotonic())
            if time.monotonic() - silent[key] > self._lease.total_seconds():
                hung.append(job.lease_owner)
        self._silent = silent
        return hung
