"""Series on their way in: which are open, which are due, and which of their objects wait for a job."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.schema import ObjectKind, Series, SeriesState, StoredObject


def touch_series(tx: Session, object: StoredObject, route: str | None, due_at: datetime | None) -> Series:
    """Note that an object of a series has arrived, and open the series, again if need be.

    route: the route that takes the object, or None if none does; that leaves a series open for its other
        objects as it is.
    due_at: when the quiet time ends; None leaves it as it is.
    """
    uid, study_uid = object.series_instance_uid, object.study_instance_uid
    series = _locked(tx, uid) or _entered(tx, uid, study_uid, object.received_at)
    series.study_instance_uid = study_uid
    series.last_received_at = max(series.last_received_at, object.received_at)
    if route is not None:
        series.route = route
        series.state = SeriesState.OPEN
        series.due_at = due_at or series.due_at
    tx.flush()
    return series


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
    series = Series(
        series_instance_uid=series_instance_uid,
        study_instance_uid=study_instance_uid,
        state=SeriesState.UNROUTED,
        last_received_at=at,
    )
    try:
        with tx.begin_nested():
            tx.add(series)
    except IntegrityError:
        # Another association has opened it at the same moment.
        return tx.get_one(Series, series_instance_uid, with_for_update=True, populate_existing=True)
    return series
