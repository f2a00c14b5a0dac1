"""When a series is complete, and what is queued then.

These functions run inside the transaction of what caused them: an object kept, an association or a procedure step
ended, a quiet time over. Each object goes by the route that matched it on arrival; what comes after a series was
complete is a job of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from config.routes import QueuedRoute, Route, RouteTable
from dicom_node.audit import Action, record
from dicom_node.workflow.generated import why_made_here
from dicom_node.workflow.routing import choose
from storage.database import current_time
from storage.fetches import add_fetch
from storage.procedure_steps import await_objects, awaited_object_arrived
from storage.queue import enqueue
from storage.schema import AuditRow, Job, ProcedureStep, Series, StoredObject
from storage.series import close_series, due_series, expect_series, touch_series, waiting_objects
from storage.states import ObjectKind, SeriesState

#: An association of whose end nobody told, for its node died, counts as ended after so long a silence.
LONGEST_SILENCE = timedelta(minutes=10)

#: What is fetched beside a job whose route takes any modality.
_MODALITIES = ("XA", "RF")

_ACTOR = "router"


def object_kept(tx: Session, object: StoredObject, header: Dataset, *, table: RouteTable, max_attempts: int) -> None:
    """Choose the route of an object that is new here, and queue its job if it need not wait for others.

    header: the object's data set, which need not hold pixels. An object that was kept aside, or that a job
    takes in already, changes nothing. The last object that an ended procedure step has announced closes its
    series.
    """
    if object.kind != ObjectKind.ORIGINAL or object.job_id is not None:
        return
    route = _take(tx, object, header, table, max_attempts)
    if awaited_object_arrived(tx, object):
        # The audit row of this transaction is written at its end.
        matched = {object.sop_instance_uid: route.name} if route is not None else {}
        _close_announced(tx, object.series_instance_uid, table, max_attempts, matched)


def procedure_step_ended(
    tx: Session,
    step: ProcedureStep,
    series: Mapping[str, Sequence[str]],
    *,
    table: RouteTable,
    max_attempts: int,
) -> None:
    """Close the series that a procedure step has made, and queue what waits in them (PS3.4 F.1).

    series: by its UID, the objects of each that the step announces. A series of which one of them has not arrived
    is closed by the last to arrive, so that it is one job; should one never come, the route's own rule closes it.
    """
    # In one order in every transaction, so that no two wait for each other's series.
    for uid in sorted(series):
        expect_series(tx, uid, step.study_instance_uid, current_time(tx))
        if await_objects(tx, step, uid, series[uid]) == 0:
            _close_announced(tx, uid, table, max_attempts, {})


def association_ended(
    tx: Session, series_instance_uids: Iterable[str], *, table: RouteTable, max_attempts: int
) -> list[Job]:
    """Queue what came by routes that wait for the end of an association, be it released or lost."""
    jobs: list[Job] = []
    # In one order in every transaction, so that no two wait for each other's series.
    for uid in sorted(set(series_instance_uids)):
        waiting = _waiting_by_route(tx, uid)
        ended = {name: objects for name, objects in waiting.items() if not _waits_longer(table.route(name))}
        if not ended:
            continue
        queued = _queue_by_route(tx, ended, table, max_attempts, "the association ended")
        if len(ended) == len(waiting):
            _settle(tx, uid, unrouted=not queued)
        jobs += queued
    return jobs


def complete_due(tx: Session, now: datetime, *, table: RouteTable, max_attempts: int) -> list[Job]:
    """Close every series whose quiet time is over, and queue what waits in it."""
    jobs: list[Job] = []
    for series in due_series(tx, now):
        waiting = _waiting_by_route(tx, series.series_instance_uid)
        queued = _queue_by_route(tx, waiting, table, max_attempts, "its quiet time is over")
        _settle(tx, series.series_instance_uid, unrouted=bool(waiting) and not queued)
        jobs += queued
    return jobs


def _take(tx: Session, object: StoredObject, header: Dataset, table: RouteTable, max_attempts: int) -> Route | None:
    decision = choose(table, header, object.calling_ae, object.called_ae)
    generated = decision.generated or why_made_here(tx, object)
    if generated is not None:
        touch_series(tx, object, None, None)
        _tell_of(tx, object, Action.GENERATED_RECOGNISED, reason=generated)
        return None
    if decision.route is None:
        touch_series(tx, object, None, None)
        reason = "no route matches" if table.routes else "there are no routes"
        _tell_of(tx, object, Action.NO_ROUTE, reason=reason, routes=decision.reasons)
        return None
    route = decision.route
    _tell_of(tx, object, Action.ROUTE_MATCHED, route=route.name)
    if route.complete != "multiframe" or object.frames <= 1:
        touch_series(tx, object, route.name, object.received_at + _silence(route))
        return route
    touch_series(tx, object, route.name, None)
    _queue(tx, [object], table.queued(route), max_attempts)
    awaited = _waiting_by_route(tx, object.series_instance_uid)
    if not any(table.route(name) for name in awaited):
        close_series(tx, object.series_instance_uid)
    return route


def _close_announced(
    tx: Session, series_instance_uid: str, table: RouteTable, max_attempts: int, matched: Mapping[str, str]
) -> None:
    waiting = _waiting_by_route(tx, series_instance_uid, matched)
    if waiting:
        queued = _queue_by_route(tx, waiting, table, max_attempts, "its procedure step ended, and all of it is here")
        _settle(tx, series_instance_uid, unrouted=not queued)


def _waiting_by_route(
    tx: Session, series_instance_uid: str, matched: Mapping[str, str] | None = None
) -> dict[str, list[StoredObject]]:
    """Objects of a series that await a job, by the name of the route that matched each on arrival.

    What no route took is not among them. The choice stands in the audit trail, where the transaction that
    kept the object has written it for good; matched: choices of this transaction.
    """
    waiting = waiting_objects(tx, series_instance_uid)
    if not waiting:
        return {}
    matches = select(AuditRow.sop_instance_uid, AuditRow.details).where(
        AuditRow.study_instance_uid.in_({object.study_instance_uid for object in waiting}),
        AuditRow.series_instance_uid == series_instance_uid,
        AuditRow.action == Action.ROUTE_MATCHED.value,
    )
    route_of = {uid: details["route"] for uid, details in tx.execute(matches)} | dict(matched or {})
    by_route: dict[str, list[StoredObject]] = {}
    for object in waiting:
        name = route_of.get(object.sop_instance_uid)
        if name is not None:
            by_route.setdefault(name, []).append(object)
    return by_route


def _waits_longer(route: Route | None) -> bool:
    """Whether the end of an association completes nothing for this route; one that is gone waits no more."""
    return route is not None and route.complete != "association"


def _silence(route: Route) -> timedelta:
    """How long to wait for the next object of a series."""
    quiet = timedelta(seconds=route.quiet_seconds)
    return max(quiet, LONGEST_SILENCE) if route.complete == "association" else quiet


def _queue_by_route(
    tx: Session, waiting: dict[str, list[StoredObject]], table: RouteTable, max_attempts: int, reason: str
) -> list[Job]:
    """A job for the objects of each route that is still in the file."""
    jobs: list[Job] = []
    for name, objects in waiting.items():
        route = table.route(name)
        if route is None:
            gone = f"route {name!r} is no longer in the routes file"
            _tell_of_series(tx, objects, Action.NO_ROUTE, reason=gone)
            continue
        _tell_of_series(tx, objects, Action.SERIES_COMPLETED, reason=reason, route=name)
        jobs.append(_queue(tx, objects, table.queued(route), max_attempts))
    return jobs


def _settle(tx: Session, series_instance_uid: str, *, unrouted: bool) -> None:
    """End the waiting of a series; the next object of it opens it again."""
    close_series(tx, series_instance_uid)
    if unrouted:
        tx.get_one(Series, series_instance_uid).state = SeriesState.UNROUTED
        tx.flush()


def _queue(tx: Session, objects: Sequence[StoredObject], route: QueuedRoute, max_attempts: int) -> Job:
    job = enqueue(
        tx,
        objects=objects,
        route=route.name,
        profile=route.profile,
        mode=route.mode,
        priority=route.priority,
        max_attempts=max_attempts,
        settings=route.model_dump(mode="json"),
    )
    if route.fetch_priors:
        add_fetch(tx, job, archive=route.fetch_priors, modalities=route.match.modality or _MODALITIES)
    record(
        tx,
        Action.JOB_QUEUED,
        actor=_ACTOR,
        study_instance_uid=job.study_instance_uid,
        series_instance_uid=job.series_instance_uid,
        sop_instance_uid=objects[0].sop_instance_uid if len(objects) == 1 else None,
        job_id=job.id,
        details={"route": job.route, "objects": len(objects), "priority": job.priority, "mode": job.mode},
    )
    return job


def _tell_of(tx: Session, object: StoredObject, action: Action, **details: object) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        peer_ae=object.calling_ae,
        peer_address=object.peer_address,
        study_instance_uid=object.study_instance_uid,
        series_instance_uid=object.series_instance_uid,
        sop_instance_uid=object.sop_instance_uid,
        details=details,
    )


def _tell_of_series(tx: Session, waiting: Sequence[StoredObject], action: Action, **details: object) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        outcome="failed" if action == Action.NO_ROUTE else "success",
        study_instance_uid=waiting[0].study_instance_uid,
        series_instance_uid=waiting[0].series_instance_uid,
        details={**details, "objects": len(waiting)},
    )
