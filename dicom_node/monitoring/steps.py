"""Counters and times out of the audit trail: whoever took a step, it is counted once, where it is told.

The rows that have come since the last look are read when somebody asks. The counting begins with the process: what was
told before is history, which the trail has. Workers and further nodes need not be asked, for they write the same trail.
"""

import threading
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from config.errors import FullfieldError
from dicom_node.audit import Action
from storage.database import Database
from storage.figures import frames_of, last_step, step_before, steps_after
from storage.schema import AuditRow, Job

#: Rows that are read at once, and at most for one answer: more are left to the next.
_PAGE, _MOST = 500, 20_000

_MADE = frozenset({Action.RECONSTRUCTED, Action.PASSED_ON})
#: By the stage of a job, the steps with which it begins and those with which it ends.
STAGES = {
    "queued": (frozenset({Action.JOB_QUEUED, Action.JOB_PUT_BACK, Action.JOB_RETRIED}), {Action.JOB_STARTED}),
    "working": (frozenset({Action.JOB_STARTED}), _MADE | {Action.JOB_DECLINED}),
    "delivering": (_MADE, {Action.JOB_DELIVERED}),
    "committing": (frozenset({Action.JOB_DELIVERED}), {Action.JOB_COMMITTED}),
}

_SECONDS = (0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600, 72 * 3600)
_SECONDS_PER_FRAME = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Steps(Collector):
    """What has been done since the process began."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        #: The last row that is counted; None before the first look.
        self._seen: int | None = None
        self._steps = Counter(
            "fullfield_steps",
            "Steps that were taken, as the audit trail tells, by action and outcome.",
            ("action", "outcome"),
            registry=None,
        )
        self._bytes = Counter("fullfield_received_bytes", "Bytes of objects that are new here.", registry=None)
        self._stages = Histogram(
            "fullfield_stage_seconds",
            "How long jobs were in a stage (queued, working, delivering, committing), by stage and route.",
            ("stage", "route"),
            buckets=_SECONDS,
            registry=None,
        )
        self._model = Histogram(
            "fullfield_model_seconds_per_frame",
            "Time of work for each frame, reading and writing included, by route.",
            ("route",),
            buckets=_SECONDS_PER_FRAME,
            registry=None,
        )
        self._deliveries = Histogram(
            "fullfield_delivery_seconds",
            "From a result to its acknowledgement, by destination.",
            ("destination",),
            buckets=_SECONDS,
            registry=None,
        )

    def begin(self) -> None:
        """Count from here on; raises StorageUnavailable."""
        with self._turn, self._database.reading() as tx:
            if self._seen is None:
                self._seen = last_step(tx)

    def collect(self) -> Iterable[Metric]:
        """Count what is new; while the database is away it stays as it was."""
        with suppress(FullfieldError):
            self.begin()
            with self._turn:
                self._catch_up()
        return chain.from_iterable(
            each.collect() for each in (self._steps, self._bytes, self._stages, self._model, self._deliveries)
        )

    def _catch_up(self) -> None:
        assert self._seen is not None
        for _ in range(_MOST // _PAGE):
            with self._database.reading() as tx:
                rows = steps_after(tx, self._seen, _PAGE)
                for row in rows:
                    self._count(tx, row)
                    self._seen = row.id
            if len(rows) < _PAGE:
                return

    def _count(self, tx: Session, row: AuditRow) -> None:
        self._steps.labels(row.action, row.outcome).inc()
        if row.action == Action.OBJECT_RECEIVED:
            self._bytes.inc(float(row.details.get("bytes") or 0))
        if row.job_id is None:
            return
        for stage, (beginning, end) in STAGES.items():
            # A job of several objects tells several times of its end; the first is it.
            before = step_before(tx, row, beginning | end) if row.action in end else None
            if before is not None and before.action in beginning:
                self._observe(tx, row, stage, (row.at - before.at).total_seconds())
        if row.action == Action.DELIVERED:
            made = step_before(tx, row, _MADE)
            if made is not None:
                lag = (row.at - made.at).total_seconds()
                self._deliveries.labels(str(row.details.get("destination", ""))).observe(max(lag, 0.0))

    def _observe(self, tx: Session, row: AuditRow, stage: str, seconds: float) -> None:
        assert row.job_id is not None
        job = tx.get(Job, row.job_id)
        route = job.route if job is not None else ""
        # The clock of another machine may be a little behind.
        self._stages.labels(stage, route).observe(max(seconds, 0.0))
        frames = frames_of(tx, row.job_id)
        if stage == "working" and row.action != Action.PASSED_ON and frames:
            self._model.labels(route).observe(max(seconds, 0.0) / frames)
