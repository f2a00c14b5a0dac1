"""The catalogue: what is held, by patient, study, series and object, as queries ask for it (PS3.4 C).

Every object that is kept is entered in the transaction that enters its row. What is told of a study and of a series is
what their first object says; what is told of a patient is what each study says. Objects kept aside are not in it.
"""

from collections.abc import Collection, Sequence
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement, bindparam, delete, exists, not_, select
from sqlalchemy.orm import Session

from storage.entering import enter, table_of
from storage.levels import Attributes, Level, described
from storage.matching import folded, full_span
from storage.schema import CataloguedObject, CataloguedSeries, CataloguedStudy, StoredObject
from storage.states import ObjectKind

#: Characters of a value that a column takes; an index of PostgreSQL's has no room for a text of pages.
LONGEST_COLUMN = 200

_STUDIES, _SERIES = table_of(CataloguedStudy), table_of(CataloguedSeries)
_KNOWN_STUDY = select(_STUDIES.c.id).where(_STUDIES.c.study_instance_uid == bindparam("study"))
_KNOWN_SERIES = (
    select(_SERIES.c.id)
    .join(_STUDIES, _STUDIES.c.id == _SERIES.c.study_id)
    .where(_STUDIES.c.study_instance_uid == bindparam("study"), _SERIES.c.series_instance_uid == bindparam("series"))
)


def catalogue(tx: Session, object: StoredObject, header: Dataset) -> None:
    """Enter an object that is kept, once; header: its data set, with or without pixels.

    Two processes may enter objects of one study at once: the second waits for the first, then finds its row.
    """
    uids = {"study": object.study_instance_uid, "series": object.series_instance_uid}
    series: int | None = tx.execute(_KNOWN_SERIES, uids).scalar()
    while series is None:
        _enter_series(tx, object, header)
        series = tx.execute(_KNOWN_SERIES, uids).scalar()
    attributes = described(header, [Level.IMAGE])
    enter(tx, CataloguedObject, {"object_id": object.id, "series_id": series, "attributes": attributes})


def uncatalogued(tx: Session, *, after: int, limit: int) -> Sequence[StoredObject]:
    """Objects that were kept before there was a catalogue, by number, from the one behind `after`."""
    query = (
        select(StoredObject)
        .outerjoin(CataloguedObject, CataloguedObject.object_id == StoredObject.id)
        .where(CataloguedObject.object_id.is_(None), StoredObject.kind != ObjectKind.ASIDE, StoredObject.id > after)
    )
    return tx.scalars(query.order_by(StoredObject.id).limit(limit)).all()


def forget(tx: Session, object_ids: Collection[int]) -> None:
    """Take objects out, and each series and study that then holds none.

    A series or a study that another transaction is about to add to is left alone.
    """
    entries = CataloguedObject.object_id.in_(object_ids)
    series = set(tx.scalars(select(CataloguedObject.series_id).where(entries)))
    tx.execute(delete(CataloguedObject).where(entries))
    studies = set(tx.scalars(select(CataloguedSeries.study_id).where(CataloguedSeries.id.in_(series))))
    _prune(tx, CataloguedSeries, series, used=exists().where(CataloguedObject.series_id == CataloguedSeries.id))
    _prune(tx, CataloguedStudy, studies, used=exists().where(CataloguedSeries.study_id == CataloguedStudy.id))


def as_column(text: str) -> str:
    """A text as far as a column takes it."""
    return text.encode(errors="replace").decode()[:LONGEST_COLUMN]


def _prune(
    tx: Session,
    kind: type[CataloguedSeries] | type[CataloguedStudy],
    numbers: Collection[int],
    *,
    used: ColumnElement[bool],
) -> None:
    # The locks first: who adds to a row holds it until its commit, and the next statement sees what was added.
    locked = select(kind.id).where(kind.id.in_(numbers)).order_by(kind.id).with_for_update(skip_locked=True)
    tx.execute(delete(kind).where(kind.id.in_(list(tx.scalars(locked))), not_(used)))


def _enter_series(tx: Session, object: StoredObject, header: Dataset) -> None:
    """Enter a series, and its study, unless they are known by now."""
    study: int | None = tx.execute(_KNOWN_STUDY, {"study": object.study_instance_uid}).scalar()
    if study is None:
        study = enter(tx, CataloguedStudy, _of_study(object, described(header, [Level.PATIENT, Level.STUDY])))
    if study is not None:
        attributes = described(header, [Level.SERIES])
        values = {"series_instance_uid": object.series_instance_uid, "modality": _first(attributes, "Modality")}
        enter(tx, CataloguedSeries, {"study_id": study, **values, "attributes": attributes})


def _of_study(object: StoredObject, attributes: Attributes) -> dict[str, Any]:
    date = full_span(_first(attributes, "StudyDate"), "DA")
    return {
        "study_instance_uid": object.study_instance_uid,
        "patient_id": _first(attributes, "PatientID"),
        "patient_name": _first(attributes, "PatientName"),
        "study_date": date[0] if date else "",
        "accession_number": _first(attributes, "AccessionNumber"),
        "attributes": attributes,
    }


def _first(attributes: Attributes, keyword: str) -> str:
    """The first value of an attribute, as it is compared and as far as a column takes it; of a name the first group."""
    tag, vr = f"{tag_for_keyword(keyword):08X}", dictionary_VR(keyword)
    value = attributes.get(tag, {}).get("Value", [""])[0]
    if isinstance(value, dict):
        value = value.get("Alphabetic")
    return as_column(folded(str(value or ""), vr))
