"""Originals whose file is missing or damaged, and that an archive is asked to send again.

Each time the scrubber has found one so, it is asked for once more, unless that is under way.
"""

from collections.abc import Mapping

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.fetches import OPEN, new_fetch
from storage.levels import Attributes
from storage.schema import CataloguedObject, CataloguedSeries, CataloguedStudy, Fetch, Job, StoredObject
from storage.states import ObjectKind

#: Objects that are newly asked for in one transaction.
_AT_ONCE = 100


def ask_for_damaged(tx: Session, archives: Mapping[str, str]) -> list[Fetch]:
    """Enter a fetch for each original that is damaged and not asked for since it was found so.

    archives: names of the archives, by the names of the routes whose originals they may be asked for.
    """
    asked = exists().where(
        Fetch.sop_instance_uid == StoredObject.sop_instance_uid,
        or_(Fetch.state.in_(OPEN), Fetch.since >= StoredObject.verified_at),
    )
    query = (
        select(StoredObject, Job.route)
        .join(Job, Job.id == StoredObject.job_id)
        .where(StoredObject.damage.is_not(None), StoredObject.kind == ObjectKind.ORIGINAL)
        .where(Job.route.in_(archives), ~asked)
        .order_by(StoredObject.id)
        .limit(_AT_ONCE)
        .with_for_update(of=StoredObject, skip_locked=True)
    )
    now = current_time(tx)
    fetches = [
        new_fetch(
            object.job_id,
            object.study_instance_uid,
            archives[route],
            now,
            sop_instance_uid=object.sop_instance_uid,
        )
        for object, route in tx.execute(query)
    ]
    tx.add_all(fetches)
    tx.flush()
    return fetches


def damaged_original(tx: Session, sop_instance_uid: str, *, lock: bool = False) -> StoredObject | None:
    """The original with this UID, if its file is damaged."""
    query = select(StoredObject).where(
        StoredObject.sop_instance_uid == sop_instance_uid,
        StoredObject.kind == ObjectKind.ORIGINAL,
        StoredObject.damage.is_not(None),
    )
    return tx.scalars(query.with_for_update() if lock else query).one_or_none()


def last_refetch(tx: Session, sop_instance_uid: str) -> Fetch | None:
    """The last time that an object was to be fetched again."""
    query = select(Fetch).where(Fetch.sop_instance_uid == sop_instance_uid)
    return tx.scalars(query.order_by(Fetch.id.desc()).limit(1)).one_or_none()


def catalogued(tx: Session, object: StoredObject) -> Attributes:
    """What the catalogue says of an object, its series, study and patient; of what is not in it, nothing."""
    query = (
        select(CataloguedStudy.attributes, CataloguedSeries.attributes, CataloguedObject.attributes)
        .join(CataloguedSeries, CataloguedSeries.study_id == CataloguedStudy.id)
        .join(CataloguedObject, CataloguedObject.series_id == CataloguedSeries.id)
        .where(CataloguedObject.object_id == object.id)
    )
    row = tx.execute(query).one_or_none()
    return {} if row is None else {tag: value for level in row for tag, value in level.items()}
