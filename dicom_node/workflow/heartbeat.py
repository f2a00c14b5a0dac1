"""The heartbeat of a job: a thread that renews its lease and notes its progress while the work goes on."""

import threading
from types import TracebackType

import structlog

from config.errors import FullfieldError, LeaseLost
from storage.database import Database
from storage.faultpoint import faultpoint
from storage.queue import Lease, heartbeat

log = structlog.get_logger()

#: Progress is noted as often as this, so that people see it move; the lease alone would need it less often.
_PROGRESS_SECONDS = 1.0
#: Beats a lease: one may fail, and one may come late.
_BEATS = 3


class Heartbeat:
    """Holds a lease from entry to exit; another thread than the one that works renews it."""

    def __init__(self, database: Database, lease: Lease, lease_seconds: float) -> None:
        self._database = database
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._progress = 0.0
        self._lost: LeaseLost | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

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

    def _beat(self) -> None:
        pause = min(_PROGRESS_SECONDS, self._lease_seconds / _BEATS)
        silent_for, noted = 0.0, 0.0
        while not self._ended.wait(pause):
            silent_for += pause
            progress = self._progress
            if progress == noted and silent_for < self._lease_seconds / _BEATS:
                continue
            try:
                faultpoint("lease.before_renewal")
                with self._database.transaction() as tx:
                    heartbeat(tx, self._lease, lease_seconds=self._lease_seconds, progress=progress)
                faultpoint("lease.renewed")
                silent_for, noted = 0.0, progress
            except LeaseLost as error:
                self._lost = error
                return
            except FullfieldError as error:
                log.warning("a lease could not be renewed", job=self._lease.job_id, reason=str(error))
