"""Series on their way in: which are open, which are due, and which of their objects wait for a job."""

from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from storage.entering import Insert, enter, insert_into, table_of
from storage.schema import Series, StoredObject
from storage.states import ObjectKind, SeriesState


def touch_series(tx: Session, object: StoredObject, route: str | None, due_at: datetime | None) -> None:
    """Note that an object of a series has arrived, and open the series, again if need be.

    The series is locked to this transaction.

    route: the route that takes the object, or None if none does; that leaves a series open for its other
        objects as it is.
    due_at: when the quiet time ends; None leaves it as it is.
    """
    connection = tx.connection()
    arrived = {
        "series_instance_uid": object.series_instance_uid,
        "study_instance_uid": object.study_instance_uid,
        "last_received_at": object.received_at,
        "route": route,
        "state": SeriesState.UNROUTED if route is None else SeriesState.OPEN,
        "due_at": due_at if route is not None else None,
    }
    connection.execute(_touched(connection.dialect.name, routed=route is not None), arrived)


def expect_series(tx: Session, series_instance_uid: str, study_instance_uid: str, now: datetime) -> Series:
    """The series, locked to this transaction, and entered before anything of it has arrived if need be."""
    return _locked(tx, series_instance_uid) or _entered(tx, series_instance_uid, study_instance_uid, now)


def due_series(tx: Session, now: datetime) -> list[Series]:
    """Open series whose quiet time is over, longest due first; locked to this transaction."""
    query = (
        select(Series)
        .where(Series.state == SeriesState.OPEN, Series.due_at <= now)
        .order_by(Series.due_at)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    return list(tx.scalars(query))


def waiting_objects(tx: Session, series_instance_uid: str) -> list[StoredObject]:
    """Originals of a series that no job takes in yet, in the order of arrival.

    The series is locked to this transaction, so that an object that arrives meanwhile opens it again
    after it was closed, and is not forgotten.
    """
    _locked(tx, series_instance_uid)
    query = (
        select(StoredObject)
        .where(
            StoredObject.series_instance_uid == series_instance_uid,
            StoredObject.kind == ObjectKind.ORIGINAL,
            StoredObject.job_id.is_(None),
        )
        .order_by(StoredObject.received_at, StoredObject.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return list(tx.scalars(query))


def close_series(tx: Session, series_instance_uid: str) -> None:
    """The series is complete until an object of it arrives again."""
    series = _locked(tx, series_instance_uid)
    if series is not None:
        series.state = SeriesState.COMPLETE
        series.due_at = None
        tx.flush()


def _locked(tx: Session, series_instance_uid: str) -> Series | None:
    return tx.get(Series, series_instance_uid, with_for_update=True, populate_existing=True)


def _entered(tx: Session, series_instance_uid: str, study_instance_uid: str, at: datetime) -> Series:
    state = SeriesState.UNROUTED
    values = {"series_instance_uid": series_instance_uid, "study_instance_uid": study_instance_uid, "state": state}
    enter(tx, Series, {**values, "last_received_at": at})
    # Another association may have opened it at the same moment.
    return tx.get_one(Series, series_instance_uid, with_for_update=True, populate_existing=True)


@cache
def _touched(dialect: str, *, routed: bool) -> Insert:
    """A series as an object of it leaves it; routed: whether a route takes the object."""
    new = insert_into(table_of(Series), dialect)
    known, arrived = table_of(Series).c, new.excluded
    latest = case(
        (arrived.last_received_at > known.last_received_at, arrived.last_received_at), else_=known.last_received_at
    )
    changed: dict[str, Any] = {"study_instance_uid": arrived.study_instance_uid, "last_received_at": latest}
    if routed:
        due_at = func.coalesce(arrived.due_at, known.due_at)
        changed |= {"route": arrived.route, "state": arrived.state, "due_at": due_at}
    return new.on_conflict_do_update(index_elements=[known.series_instance_uid], set_=changed)
