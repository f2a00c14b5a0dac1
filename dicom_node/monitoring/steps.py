"""Counters and times out of the audit trail: whoever took a step, it is counted once, where it is told.

The rows that have come since the last look are read when somebody asks. The counting begins with the process: what was
told before is history, which the trail has. Workers and further nodes need not be asked, for they write the same trail.
"""

import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from config.errors import FullfieldError
from dicom_node.audit import Action
from storage.database import Database
from storage.figures import Step, last_step, route_and_frames, steps_after, steps_of

#: Rows that are read at once, and at most for one answer: more are left to the next.
_PAGE, _MOST = 500, 5_000
#: Jobs whose course is remembered; that of another is read again.
_MOST_COURSES = 10_000

_MADE = frozenset({Action.RECONSTRUCTED, Action.PASSED_ON})
#: By the stage of a job, the steps with which it begins and those with which it ends.
STAGES = {
    "queued": (frozenset({Action.JOB_QUEUED, Action.JOB_PUT_BACK, Action.JOB_RETRIED}), {Action.JOB_STARTED}),
    "working": (frozenset({Action.JOB_STARTED}), _MADE | {Action.JOB_DECLINED}),
    "delivering": (_MADE, {Action.JOB_DELIVERED}),
    "committing": (frozenset({Action.JOB_DELIVERED}), {Action.JOB_COMMITTED}),
}
_TIMED = frozenset({Action.DELIVERED}).union(*(beginning | end for beginning, end in STAGES.values()))

_SECONDS = (0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600, 72 * 3600)
_SECONDS_PER_FRAME = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Steps(Collector):
    """What has been done since the process began."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = threading.Lock()
        #: The last row that is counted; None before the first look.
        self._seen: int | None = None
        self._courses: dict[int, _Course] = {}
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
                steps = steps_after(tx, self._seen, _PAGE)
                for step in steps:
                    # What may fail comes first, so that nothing is counted twice.
                    course = self._course(tx, step)
                    self._count(step)
                    if course is not None:
                        self._time(step, course)
                    self._seen = step.id
            if len(steps) < _PAGE:
                return

    def _course(self, tx: Session, step: Step) -> "_Course | None":
        """That of the job which a step is about; None where it is about none, or says nothing of stages."""
        if step.job_id is None or step.action not in _TIMED:
            return None
        course = self._courses.get(step.job_id)
        if course is None:
            route, frames = route_and_frames(tx, step.job_id)
            earlier = {each.action: each for each in steps_of(tx, step.job_id, before=step.id)}
            course = self._courses[step.job_id] = _Course(route=route, frames=frames, last=earlier)
            if len(self._courses) > _MOST_COURSES:
                del self._courses[next(iter(self._courses))]
        return course

    def _count(self, step: Step) -> None:
        self._steps.labels(step.action, step.outcome).inc()
        if step.action == Action.OBJECT_RECEIVED:
            self._bytes.inc(float(step.details.get("bytes") or 0))

    def _time(self, step: Step, course: "_Course") -> None:
        for stage, (beginning, end) in STAGES.items():
            # A job of several objects tells several times of its end; the first is it.
            before = course.newest(beginning | end) if step.action in end else None
            if before is not None and before.action in beginning:
                seconds = _between(before, step)
                self._stages.labels(stage, course.route).observe(seconds)
                if stage == "working" and step.action != Action.PASSED_ON and course.frames:
                    self._model.labels(course.route).observe(seconds / course.frames)
        made = course.newest(_MADE)
        if step.action == Action.DELIVERED and made is not None:
            self._deliveries.labels(str(step.details.get("destination", ""))).observe(_between(made, step))
        course.last[step.action] = step


@dataclass(frozen=True, kw_only=True)
class _Course:
    """How far a job has come."""

    route: str
    frames: int
    #: The newest of its steps so far, by action.
    last: dict[str, Step]

    def newest(self, actions: Collection[str]) -> Step | None:
        found = [self.last[action] for action in actions if action in self.last]
        return max(found, key=lambda step: step.id, default=None)


def _between(begin: Step, end: Step) -> float:
    """Seconds; the clock of another machine may be a little behind."""
    return max((end.at - begin.at).total_seconds(), 0.0)
