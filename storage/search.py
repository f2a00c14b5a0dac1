"""Queries over the catalogue: what of a level fits all keys (PS3.4 C.4.1).

The database narrows down what can fit, by its indexes; where its answer is not exact, the keys are compared with the
attributes themselves (matching.py). What fits is found first, as numbers of rows, and told page by page (answers.py),
so that an answer of any length takes little memory and no long transaction.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from storage.answers import attributes_at, merged, number_at, rows_at, tell
from storage.catalogue import LONGEST_COLUMN, as_column
from storage.levels import COUNTED, Attributes, Level, known_at
from storage.matching import COMBINED, Key, fit_together, read_keys
from storage.schema import CataloguedSeries, CataloguedStudy, StoredObject

#: Columns that hold the first value of an attribute as keys compare it.
_COLUMNS: dict[str, InstrumentedAttribute[str]] = {
    "PatientID": CataloguedStudy.patient_id,
    "PatientName": CataloguedStudy.patient_name,
    "StudyInstanceUID": CataloguedStudy.study_instance_uid,
    "StudyDate": CataloguedStudy.study_date,
    "AccessionNumber": CataloguedStudy.accession_number,
    "SeriesInstanceUID": CataloguedSeries.series_instance_uid,
    "Modality": CataloguedSeries.modality,
    "SOPInstanceUID": StoredObject.sop_instance_uid,
    "SOPClassUID": StoredObject.sop_class_uid,
}
#: Counted attributes that can be matched with.
_OF_STUDY = ("ModalitiesInStudy", "SOPClassesInStudy")
#: Above every character that a text has.
_LAST = "\U0010ffff"


def find(
    tx: Session, level: Level, keys: Dataset, *, limit: int | None = None, offset: int = 0, combined: bool = False
) -> list[Dataset]:
    """What fits all keys, in the order of arrival: of each the attributes asked for, those it lacks empty.

    keys: as in the identifier of a C-FIND, an empty one for what is only to be told; those that are not known at the
        level are passed over (`unsupported` names them). At every level all keys of the levels above may be used.
    combined: whether date and time are matched as one (PS3.4 C.2.2.2.5.4).
    Raises UnusableKey.
    """
    wanted = read_keys(keys)
    numbers = search(tx, level, wanted, combined=combined)
    return tell(tx, level, numbers[offset : None if limit is None else offset + limit], wanted)


def unsupported(level: Level, keys: Iterable[Key]) -> list[str]:
    """Keywords of keys that are not known at a level, or that are counted and cannot be matched with."""
    known = known_at(level)
    return [key.keyword for key in keys if key.keyword not in known or not (key.is_universal or _can_match(level, key))]


def search(tx: Session, level: Level, keys: Iterable[Key], *, combined: bool = False) -> list[int]:
    """The numbers of all that fits, in the order of arrival."""
    asked = [key for key in keys if not key.is_universal and _can_match(level, key)]
    together = _together(asked) if combined else []
    compared = [_fitting_together(date, time) for date, time in together]
    statement = rows_at(level)
    for key in asked:
        condition, exact = _narrowed(tx, key)
        if condition is not None:
            statement = statement.where(condition)
        if not exact and not any(key is one for pair in together for one in pair):
            compared.append(_fitting(key))
    number, patient = number_at(level), (CataloguedStudy.patient_id, CataloguedStudy.patient_name)
    columns = [number, *patient, *(attributes_at(level) if compared else ())]
    found: dict[Any, int] = {}
    for row in tx.execute(statement.with_only_columns(*columns).order_by(number).execution_options(yield_per=500)):
        if all(fits(merged(row[3:])) for fits in compared):
            # A patient is told once, by the first study; who has no ID is told apart by name.
            same = row[1] or (row[2],)
            found.setdefault(same if level == Level.PATIENT else row[0], row[0])
    return list(found.values())


def _can_match(level: Level, key: Key) -> bool:
    counted = any(key.keyword in keywords for keywords in COUNTED.values())
    return key.keyword in known_at(level) and (key.keyword in _OF_STUDY or not counted)


def _narrowed(tx: Session, key: Key) -> tuple[ColumnElement[bool] | None, bool]:
    """A condition that holds for all that fits, and whether it holds for nothing else."""
    if key.keyword == "ModalitiesInStudy":
        series = aliased(CataloguedSeries)
        modalities = [name for name in tx.scalars(select(series.modality).distinct()) if key.fits({"Value": [name]})]
        within = select(series.id).where(series.study_id == CataloguedStudy.id, series.modality.in_(modalities))
        return within.correlate(CataloguedStudy).exists(), True
    if key.keyword == "SOPClassesInStudy":
        object = aliased(StoredObject)
        within = select(object.id).where(
            object.study_instance_uid == CataloguedStudy.study_instance_uid, object.sop_class_uid.in_(key.folded)
        )
        return within.correlate(CataloguedStudy).exists(), True
    column = _COLUMNS.get(key.keyword)
    if column is None:
        return None, False
    if key.vr == "DA":
        return or_(*(column.between(low, high) for low, high in key.spans)), True
    if key.vr == "PN":
        return _narrowed_name(key, column)
    if key.has_wildcards:
        return _beginning_with(column, key.folded), False
    return column.in_(list(map(as_column, key.folded))), all(len(text) < LONGEST_COLUMN for text in key.folded)


def _narrowed_name(key: Key, column: InstrumentedAttribute[str]) -> tuple[ColumnElement[bool] | None, bool]:
    """The column has the first component group, which keys without `=` need not mean."""
    if not all(text.isascii() or "=" in text for text in key.folded):
        return None, False
    first = [text.partition("=")[0] for text in key.folded]
    if any("*" in text or "?" in text for text in first):
        return _beginning_with(column, first), False
    return column.in_(list(map(as_column, first))), False


def _beginning_with(column: InstrumentedAttribute[str], patterns: Sequence[str]) -> ColumnElement[bool] | None:
    beginnings = [as_column(pattern.partition("*")[0].partition("?")[0]) for pattern in patterns]
    if not all(beginnings):
        return None
    return or_(*(and_(column >= text, column < text + _LAST) for text in beginnings))


def _together(keys: Sequence[Key]) -> list[tuple[Key, Key]]:
    by_keyword = {key.keyword: key for key in keys if len(key.values) == 1}
    return [
        (by_keyword[date], by_keyword[time])
        for date, time in COMBINED.items()
        if date in by_keyword and time in by_keyword
    ]


def _fitting(key: Key) -> Callable[[Attributes], bool]:
    return lambda attributes: key.fits(attributes.get(key.tag))


def _fitting_together(date: Key, time: Key) -> Callable[[Attributes], bool]:
    return lambda attributes: fit_together(date, time, attributes.get(date.tag), attributes.get(time.tag))
