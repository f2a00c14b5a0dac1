"""The catalogue: what is held, by patient, study, series and object, as queries ask for it (PS3.4 C).

Every object that is kept is entered in the transaction that enters its row. What is told of a study and of a series is
what their first object says; what is told of a patient is what each study says. Objects kept aside are not in it.
"""

from collections.abc import Collection, Sequence

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement, delete, exists, not_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.levels import Attributes, Level, described
from storage.matching import folded, full_span
from storage.schema import CataloguedObject, CataloguedSeries, CataloguedStudy, ObjectKind, StoredObject, Table

#: Characters of a value that a column takes; an index of PostgreSQL's has no room for a text of pages.
LONGEST_COLUMN = 200


def catalogue(tx: Session, object: StoredObject, header: Dataset) -> None:
    """Enter an object that is kept, once; header: its data set, with or without pixels.

    Two processes may enter objects of one study at once: the second waits for the first, then finds its row.
    """
    series = _series(tx, object, header)
    _entered(
        tx, CataloguedObject(object_id=object.id, series_id=series.id, attributes=described(header, [Level.IMAGE]))
    )


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


def _series(tx: Session, object: StoredObject, header: Dataset) -> CataloguedSeries:
    study = _study(tx, object, header)
    query = select(CataloguedSeries).where(
        CataloguedSeries.study_id == study.id,
        CataloguedSeries.series_instance_uid == object.series_instance_uid,
    )
    series = tx.scalars(query).one_or_none()
    if series is not None:
        return series
    attributes = described(header, [Level.SERIES])
    row = CataloguedSeries(
        study_id=study.id,
        series_instance_uid=object.series_instance_uid,
        modality=_first(attributes, "Modality"),
        attributes=attributes,
    )
    return row if _entered(tx, row) else tx.scalars(query).one()


def _study(tx: Session, object: StoredObject, header: Dataset) -> CataloguedStudy:
    query = select(CataloguedStudy).where(CataloguedStudy.study_instance_uid == object.study_instance_uid)
    study = tx.scalars(query).one_or_none()
    if study is not None:
        return study
    attributes = described(header, [Level.PATIENT, Level.STUDY])
    date = full_span(_first(attributes, "StudyDate"), "DA")
    row = CataloguedStudy(
        study_instance_uid=object.study_instance_uid,
        patient_id=_first(attributes, "PatientID"),
        patient_name=_first(attributes, "PatientName"),
        study_date=date[0] if date else "",
        accession_number=_first(attributes, "AccessionNumber"),
        attributes=attributes,
    )
    return row if _entered(tx, row) else tx.scalars(query).one()


def _entered(tx: Session, row: Table) -> bool:
    """Whether the row is new; another transaction may have entered it meanwhile."""
    try:
        with tx.begin_nested():
            tx.add(row)
    except IntegrityError:
        return False
    return True


def _first(attributes: Attributes, keyword: str) -> str:
    """The first value of an attribute, as it is compared and as far as a column takes it; of a name the first group."""
    tag, vr = f"{tag_for_keyword(keyword):08X}", dictionary_VR(keyword)
    value = attributes.get(tag, {}).get("Value", [""])[0]
    if isinstance(value, dict):
        value = value.get("Alphabetic")
    return as_column(folded(str(value or ""), vr))
