"""The worker: takes jobs by lease, one at a time, and brings each to an end that has a reason.

Whatever goes wrong with a job, the worker takes the next one.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import structlog
from sqlalchemy.orm import Session

from config.errors import FullfieldError, LeaseLost, StorageFull, StorageUnavailable
from config.routes import QueuedRoute
from config.settings import WorkerSettings
from dicom_node.audit import Action, record
from dicom_node.patience import persist
from dicom_node.workflow.heartbeat import Heartbeat
from dicom_node.workflow.outcome import ACTOR, enter, work_out
from storage.database import Database
from storage.faultpoint import faultpoint
from storage.files import ObjectStore
from storage.objects import objects_of_job
from storage.queue import Lease, claim, fail_exhausted, finish, forsake, get_job, put_back
from storage.schema import Job, StoredObject
from storage.transitions import JobState

if TYPE_CHECKING:
    from inference.reconstruct import Reconstructor

log = structlog.get_logger()

#: Seconds that a worker rests, and a job, when the storage was away or full.
_STORAGE_REST = 5.0


class Worker:
    """One process's work; the networks of a profile are loaded when a job first asks for them.

    name: no two workers alive share one. What a dead namesake left unfinished counts as forsaken at once.
    load: the reconstructor of a profile; raises WeightsError or ConfigError.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        settings: WorkerSettings,
        *,
        name: str,
        load: Callable[[str], "Reconstructor"],
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._name = name
        self._load = load
        self._loaded: dict[str, Reconstructor] = {}

    def run(self, stopping: threading.Event, *, once: bool = False) -> None:
        """Work until `stopping` is set, or with `once` until no job is due.

        A job that is under way when `stopping` is set goes back to the queue as if it had not been begun.
        """
        persist(self._database, lambda tx: forsake(tx, self._name), stopping.wait)
        while not stopping.is_set():
            try:
                worked = self._work_on_next(stopping)
            except (StorageUnavailable, StorageFull) as error:
                log.warning("waiting for the storage", reason=str(error))
                stopping.wait(_STORAGE_REST)
                continue
            if not worked and once:
                return
            if not worked:
                stopping.wait(self._settings.poll_seconds)

    def _work_on_next(self, stopping: threading.Event) -> bool:
        """Take the next job and bring it to an end; False if none is due."""
        if not self._store.has_room():
            raise StorageFull("The disk is full but for what is to stay free; no job is begun.")
        with self._database.transaction() as tx:
            for job in fail_exhausted(tx):
                _tell(tx, job, Action.JOB_FAILED, "failed", reason=job.reason)
            claimed = claim(tx, owner=self._name, lease_seconds=self._settings.lease_seconds)
            if claimed is None:
                return False
            job, lease = claimed
            originals = objects_of_job(tx, job.id)
            _tell(tx, job, Action.JOB_STARTED, attempt=job.attempts, worker=self._name)
        faultpoint("worker.claimed")
        log.info("job started", job=job.id, attempt=job.attempts, objects=len(originals))
        with Heartbeat(self._database, lease, self._settings, self._try_again) as heartbeat:
            try:
                self._attempt(job, lease, originals, heartbeat, stopping)
            except LeaseLost as error:
                log.warning("work dropped", job=job.id, reason=str(error))
        return True

    def _attempt(
        self,
        job: Job,
        lease: Lease,
        originals: list[StoredObject],
        heartbeat: Heartbeat,
        stopping: threading.Event,
    ) -> None:
        """Work on the job, and move it to the state in which this ends; LeaseLost when it is not ours."""

        def progress(share: float) -> None:
            heartbeat.report(share)
            if stopping.is_set():
                raise _Stopped

        def settle(step: Callable[[Session], Job]) -> None:
            ended = persist(self._database, step, lambda seconds: stopping.wait(seconds) or heartbeat.lost)
            log.info("job ended", job=ended.id, state=ended.state.value, reason=ended.reason)

        try:
            route = QueuedRoute.model_validate(job.settings)
            reconstructor = self._reconstructor(route.profile)
            outcome = work_out(originals, route, self._store, reconstructor, progress, created=job.created_at)
            faultpoint("worker.before_entering")
            settle(lambda tx: enter(tx, lease, outcome, route))
            faultpoint("worker.entered")
        except _Stopped:
            settle(lambda tx: _give_back(tx, lease, "the worker was stopped", 0.0))
        except (StorageUnavailable, StorageFull) as error:
            rest = str(error)
            settle(lambda tx: _give_back(tx, lease, rest, _STORAGE_REST))
        except LeaseLost:
            raise
        except FullfieldError as error:
            why = str(error)
            settle(lambda tx: _fail(tx, lease, why))
        except MemoryError:
            settle(lambda tx: self._try_again(tx, lease, "the worker ran out of memory"))
        except Exception as error:
            log.exception("an attempt failed", job=job.id)
            what = f"an internal error ({type(error).__name__}); the worker's log says where"
            settle(lambda tx: self._try_again(tx, lease, what))

    def _reconstructor(self, profile: str) -> "Reconstructor":
        if profile not in self._loaded:
            self._loaded[profile] = self._load(profile)
        return self._loaded[profile]

    def _try_again(self, tx: Session, lease: Lease, reason: str) -> Job:
        """Queue the job for another attempt after a wait that doubles, or fail it if this was the last."""
        attempts = get_job(tx, lease.job_id).attempts
        wait = self._settings.retry_wait_seconds * 2 ** (attempts - 1)
        job = put_back(tx, lease, reason=reason, wait_seconds=wait)
        if job.state == JobState.FAILED:
            _tell(tx, job, Action.JOB_FAILED, "failed", reason=reason)
        else:
            _tell(tx, job, Action.JOB_PUT_BACK, "failed", reason=reason, attempt=attempts, wait_seconds=wait)
        return job


class _Stopped(Exception):
    """The worker is to end, and the job to go back."""


def _give_back(tx: Session, lease: Lease, reason: str, wait_seconds: float) -> Job:
    """Queue the job again; it was nobody's fault, so the attempt does not count."""
    get_job(tx, lease.job_id).attempts -= 1
    tx.flush()
    job = put_back(tx, lease, reason=reason, wait_seconds=wait_seconds)
    _tell(tx, job, Action.JOB_PUT_BACK, reason=reason)
    return job


def _fail(tx: Session, lease: Lease, reason: str) -> Job:
    job = finish(tx, lease, JobState.FAILED, reason=reason)
    _tell(tx, job, Action.JOB_FAILED, "failed", reason=reason)
    return job


def _tell(
    tx: Session,
    job: Job,
    action: Action,
    outcome: Literal["success", "refused", "failed"] = "success",
    **details: Any,
) -> None:
    record(
        tx,
        action,
        actor=ACTOR,
        outcome=outcome,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        job_id=job.id,
        details=details,
    )
