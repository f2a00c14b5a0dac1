"""What a query is answered of the rows that fit: the attributes it asks for, as data sets (PS3.4 C.4.1.1.3)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from sqlalchemy import Select, func, literal_column, null, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.levels import COUNTED, UNIQUE_KEY, Attributes, Level, known_at
from storage.matching import Key
from storage.schema import CataloguedObject, CataloguedSeries, CataloguedStudy, StoredObject

#: Rows that one statement tells of; databases bound the number of parameters.
_PAGE = 500
#: Written out, as in the index's own condition: only so does SQLite use the index.
NOT_ASIDE = StoredObject.kind != literal_column("'aside'")


@dataclass(frozen=True, kw_only=True)
class HeldObject:
    """An object that can be retrieved."""

    #: SHA-256 of the part-10 file, its name in the object store.
    digest: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str


def tell(tx: Session, level: Level, numbers: Sequence[int], keys: Iterable[Key]) -> list[Dataset]:
    """What is asked for of these rows, in their order; the unique key of the level is always told."""
    known, unique = known_at(level), UNIQUE_KEY[level]
    asked = {key.keyword: key for key in keys if key.keyword in known}
    asked.setdefault(unique, Key(tag=known[unique], keyword=unique, vr="UI" if level != Level.PATIENT else "LO"))
    answers = []
    for start in range(0, len(numbers), _PAGE):
        page = numbers[start : start + _PAGE]
        told = _told(tx, level, page, set(asked))
        answers += [_dataset(told[number], asked.values()) for number in page if number in told]
    return answers


def objects_within(tx: Session, level: Level, numbers: Sequence[int]) -> list[HeldObject]:
    """The objects of these studies or series, or these objects, in the order of arrival."""
    number = {Level.STUDY: CataloguedStudy.id, Level.SERIES: CataloguedSeries.id}.get(level, CataloguedObject.object_id)
    columns = (
        StoredObject.id,
        StoredObject.digest,
        StoredObject.sop_instance_uid,
        StoredObject.study_instance_uid,
        StoredObject.series_instance_uid,
        StoredObject.transfer_syntax_uid,
    )
    found: list[tuple[int, HeldObject]] = []
    for start in range(0, len(numbers), _PAGE):
        rows = rows_at(Level.IMAGE).where(number.in_(numbers[start : start + _PAGE])).with_only_columns(*columns)
        found += [
            (row.id, HeldObject(**{name: value for name, value in row._asdict().items() if name != "id"}))
            for row in tx.execute(rows)
        ]
    return [held for _, held in sorted(found, key=lambda each: each[0])]


def rows_at(level: Level) -> Select[Any]:
    """All rows of a level, with those of the levels above beside them."""
    if level in (Level.PATIENT, Level.STUDY):
        return select(CataloguedStudy.id).select_from(CataloguedStudy)
    to_study = CataloguedStudy.id == CataloguedSeries.study_id
    if level == Level.SERIES:
        return select(CataloguedSeries.id).select_from(CataloguedSeries).join(CataloguedStudy, to_study)
    return (
        select(CataloguedObject.object_id)
        .select_from(CataloguedObject)
        .join(StoredObject, StoredObject.id == CataloguedObject.object_id)
        .join(CataloguedSeries, CataloguedSeries.id == CataloguedObject.series_id)
        .join(CataloguedStudy, to_study)
    )


def number_at(level: Level) -> InstrumentedAttribute[int]:
    """The number of a row of a level; of an object that of its own row."""
    return {Level.SERIES: CataloguedSeries.id, Level.IMAGE: CataloguedObject.object_id}.get(level, CataloguedStudy.id)


def attributes_at(level: Level) -> list[InstrumentedAttribute[Attributes]]:
    """The attributes of the levels down to this one."""
    columns = [CataloguedStudy.attributes, CataloguedSeries.attributes, CataloguedObject.attributes]
    return columns[: {Level.SERIES: 2, Level.IMAGE: 3}.get(level, 1)]


def merged(parts: Iterable[Attributes]) -> Attributes:
    """The attributes of several levels as those of one data set."""
    return {tag: element for part in parts for tag, element in part.items()}


def _told(tx: Session, level: Level, numbers: Sequence[int], asked: set[str]) -> dict[int, Attributes]:
    number = number_at(level)
    columns: list[Any] = [number, CataloguedStudy.study_instance_uid, CataloguedStudy.patient_id]
    columns += [CataloguedSeries.series_instance_uid] if level in (Level.SERIES, Level.IMAGE) else [null()]
    columns += [StoredObject.transfer_syntax_uid] if level == Level.IMAGE else [null()]
    told, study_of, patient_of, series_of = {}, {}, {}, {}
    for row in tx.execute(rows_at(level).where(number.in_(numbers)).with_only_columns(*columns, *attributes_at(level))):
        told[row[0]] = merged(row[5:])
        _, study_of[row[0]], patient_of[row[0]], series_of[row[0]], syntax = row[:5]
        told[row[0]] |= _elements(AvailableTransferSyntaxUID=[syntax]) if syntax else {}
    uids = set(study_of.values())
    patients = _counted_patients(tx, set(patient_of.values())) if asked & set(COUNTED[Level.PATIENT]) else {}
    studies = _counted_studies(tx, uids) if asked & set(COUNTED[Level.STUDY]) else {}
    series = _counted_series(tx, uids) if asked & set(COUNTED[Level.SERIES]) else {}
    for one, attributes in told.items():
        attributes |= studies.get(study_of[one], {}) | patients.get(patient_of[one], {})
        attributes |= series.get((study_of[one], series_of[one]), {})
    return told


def _counted_studies(tx: Session, uids: set[str]) -> dict[str, Attributes]:
    query = (
        select(
            StoredObject.study_instance_uid,
            StoredObject.series_instance_uid,
            StoredObject.sop_class_uid,
            func.count(),
        )
        .where(StoredObject.study_instance_uid.in_(uids), NOT_ASIDE)
        .group_by(StoredObject.study_instance_uid, StoredObject.series_instance_uid, StoredObject.sop_class_uid)
    )
    series, classes, objects = defaultdict(set), defaultdict(set), Counter[str]()
    for study, of_series, sop_class, count in tx.execute(query):
        series[study].add(of_series)
        classes[study].add(sop_class)
        objects[study] += count
    modalities = defaultdict(set)
    for study, modality in tx.execute(
        select(CataloguedStudy.study_instance_uid, CataloguedSeries.modality)
        .join(CataloguedSeries, CataloguedSeries.study_id == CataloguedStudy.id)
        .where(CataloguedStudy.study_instance_uid.in_(uids), CataloguedSeries.modality != "")
        .distinct()
    ):
        modalities[study].add(modality)
    return {
        study: _elements(
            ModalitiesInStudy=sorted(modalities[study]),
            SOPClassesInStudy=sorted(classes[study]),
            NumberOfStudyRelatedSeries=[len(series[study])],
            NumberOfStudyRelatedInstances=[objects[study]],
        )
        for study in uids
    }


def _counted_series(tx: Session, studies: set[str]) -> dict[tuple[str, str], Attributes]:
    of_series = (StoredObject.study_instance_uid, StoredObject.series_instance_uid)
    query = (
        select(*of_series, func.count())
        .where(StoredObject.study_instance_uid.in_(studies), NOT_ASIDE)
        .group_by(*of_series)
    )
    return {
        (study, series): _elements(NumberOfSeriesRelatedInstances=[count]) for study, series, count in tx.execute(query)
    }


def _counted_patients(tx: Session, patients: set[str]) -> dict[str, Attributes]:
    query = (
        select(
            CataloguedStudy.patient_id,
            func.count(StoredObject.study_instance_uid.distinct()),
            func.count(StoredObject.series_instance_uid.distinct()),
            func.count(),
        )
        .join(StoredObject, StoredObject.study_instance_uid == CataloguedStudy.study_instance_uid)
        .where(CataloguedStudy.patient_id.in_(patients - {""}), NOT_ASIDE)
        .group_by(CataloguedStudy.patient_id)
    )
    return {
        patient: _elements(
            NumberOfPatientRelatedStudies=[studies],
            NumberOfPatientRelatedSeries=[series],
            NumberOfPatientRelatedInstances=[objects],
        )
        for patient, studies, series, objects in tx.execute(query)
    }


def _elements(**values: list[Any]) -> Attributes:
    return {
        f"{tag_for_keyword(keyword):08X}": {"vr": dictionary_VR(keyword), "Value": value}
        for keyword, value in values.items()
    }


def _dataset(attributes: Attributes, keys: Iterable[Key]) -> Dataset:
    """The attributes that are asked for; of items those that a sequence's key asks for (PS3.4 C.2.2.2.6)."""
    parts: Attributes = {}
    for key in keys:
        element = attributes.get(key.tag) or {"vr": key.vr}
        if key.items and "Value" in element:
            wanted = {part.tag for part in key.items}
            items = [{tag: part for tag, part in item.items() if tag in wanted} for item in element["Value"]]
            element = element | {"Value": items}
        parts[key.tag] = element
    return Dataset.from_json(parts)
