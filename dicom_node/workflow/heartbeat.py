"""The heartbeat of a job: a thread that renews its lease and notes its progress while the work goes on.

It is the one that sees when the work exceeds its limits, whatever native code the work is in by then. It takes the job
back and ends the process: nothing else gives all of its memory back, and ends what does not listen.
"""

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import structlog
from sqlalchemy.orm import Session

from config.errors import FullfieldError, LeaseLost
from config.settings import WorkerSettings
from dicom_node.workflow.limits import Limits
from storage.database import Database
from storage.faultpoint import faultpoint
from storage.queue import Lease, heartbeat

log = structlog.get_logger()

#: How often the limits are looked at: a process fills some hundred MB of memory meanwhile.
_LOOK_SECONDS = 0.2
#: Progress is noted as often as this, so that people see it move; the lease alone would need it less often.
_PROGRESS_SECONDS = 1.0
#: Beats a lease: one may fail, and one may come late.
_BEATS = 3


class Heartbeat:
    """Holds a lease from entry to exit; another thread than the one that works renews it.

    break_off: takes the job from this worker, for the reason that it is told.
    The process ends when the work exceeds its limits, and when the work does not come to its end within the time of
    a lease although the job is no longer this worker's.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        settings: WorkerSettings,
        break_off: Callable[[Session, Lease, str], Any],
    ) -> None:
        self._database = database
        self._lease = lease
        self._lease_seconds = settings.lease_seconds
        self._limits = Limits(settings)
        self._break_off = break_off
        self._progress = self._noted = 0.0
        self._renewed = self._tried = time.monotonic()
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def lost(self) -> bool:
        """Whether the job is no longer this worker's."""
        return self._lost is not None

    def report(self, progress: float) -> None:
        """Have the progress noted (0 to 1); LeaseLost when there is no point in going on."""
        if self._lost is not None:
            raise self._lost
        self._progress = progress

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            reason = self._limits.exceeded()
            if reason is not None:
                self._end_over(reason)
            if self._is_due():
                self._beat()
            if self._lost is not None:
                if not self._ended.wait(self._lease_seconds):
                    self._end_process("its work goes on, though the job is no longer its own")
                return

    def _is_due(self) -> bool:
        now, rhythm = time.monotonic(), self._lease_seconds / _BEATS
        if now - self._tried < min(_PROGRESS_SECONDS, rhythm):
            return False
        return self._progress != self._noted or now - self._renewed >= rhythm

    def _beat(self) -> None:
        self._tried, progress = time.monotonic(), self._progress
        try:
            faultpoint("lease.before_renewal")
            with self._database.transaction() as tx:
                heartbeat(tx, self._lease, lease_seconds=self._lease_seconds, progress=progress)
            faultpoint("lease.renewed")
            self._renewed, self._noted = self._tried, progress
        except LeaseLost as error:
            self._lost = error
        except FullfieldError as error:
            log.warning("a lease could not be renewed", job=self._lease.job_id, reason=str(error))

    def _end_over(self, reason: str) -> None:
        try:
            with self._database.transaction() as tx:
                self._break_off(tx, self._lease, reason)
        except LeaseLost as error:
            # The work has ended at the same moment, or somebody has cancelled it.
            self._lost = error
            return
        except FullfieldError as error:
            log.warning("a job could not be taken back", job=self._lease.job_id, reason=str(error))
        self._end_process(f"its job {reason}")

    def _end_process(self, why: str) -> None:
        log.error("the worker's process ends", job=self._lease.job_id, reason=why)
        os._exit(1)
