"""A performed procedure step: what a modality reports of it, and what of that is accepted (PS3.4 F.7.2).

Asked for is what the standard demands at the top level of the data set, and what the node itself goes by: status,
studies, series, announced objects. Whatever else a modality reports is kept as it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.network.statuses import Status, Unacceptable
from storage.states import ProcedureStepStatus

#: Error ID (0000,0903) of an update that comes after the end (PS3.4 F.7.2.2.3).
MAY_NO_LONGER_BE_UPDATED = 0xA710

#: Type 1 of an N-CREATE request, and what has to have a value when a step ends (PS3.4 table F.7.2-1).
AT_CREATION = (
    "ScheduledStepAttributesSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepStatus",
    "Modality",
)
AT_THE_END = ("PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedSeriesSequence")

#: What an N-SET request may not change: whom and what the step is for, and how it began.
FIXED = (
    *(keyword for keyword in AT_CREATION if keyword != "PerformedProcedureStepStatus"),
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedStationName",
    "PerformedLocation",
    "StudyID",
)

_DATES = ("PerformedProcedureStepStartDate", "PerformedProcedureStepEndDate")
_TIMES = ("PerformedProcedureStepStartTime", "PerformedProcedureStepEndTime")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?(\.\d{1,6})?")
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(?:\.[0-9]+)*")
_CHARACTER_SET = "00080005"


class UnacceptableAttribute(Unacceptable):
    """An attribute of a procedure step is missing, empty or wrong: the modality's maker mends it."""

    def __init__(self, status: Status, keyword: str, said: str) -> None:
        super().__init__(status, f"{keyword} {said}")
        self.tag = tag_for_keyword(keyword)


class NoLongerUpdated(Unacceptable):
    """Performed Procedure Step Object may no longer be updated"""

    error_id = MAY_NO_LONGER_BE_UPDATED

    def __init__(self) -> None:
        super().__init__(Status.PROCESSING_FAILURE, str(self.__doc__))


@dataclass(frozen=True, kw_only=True)
class Reported:
    """All that is known of a procedure step after a report."""

    status: ProcedureStepStatus
    study_instance_uid: str
    #: By its UID each series that the step has made, with the objects of it that are named.
    series: Mapping[str, Sequence[str]]
    #: In the DICOM JSON model (PS3.18 F).
    attributes: dict[str, Any]


def created(data_set: Dataset) -> Reported:
    """What an N-CREATE request reports; raises Unacceptable (PS3.4 F.7.2.1)."""
    reported = _read(_json(data_set), AT_CREATION)
    if reported.status != ProcedureStepStatus.IN_PROGRESS:
        status = "PerformedProcedureStepStatus"
        raise UnacceptableAttribute(Status.INVALID_ATTRIBUTE_VALUE, status, "is not IN PROGRESS at first.")
    return reported


def updated(known: Mapping[str, Any], data_set: Dataset) -> Reported:
    """What is known after an N-SET request; raises Unacceptable (PS3.4 F.7.2.2).

    known: the attributes so far. An attribute takes the place of the one before, a sequence with all its items
    (PS3.7 10.1.3): a modality repeats the items that still hold.
    """
    changes = _json(data_set)
    for keyword in FIXED:
        tag = f"{tag_for_keyword(keyword):08X}"
        if tag in changes and changes[tag] != known.get(tag):
            raise UnacceptableAttribute(Status.NO_SUCH_ATTRIBUTE, keyword, "cannot be changed.")
    reported = _read({**known, **changes}, AT_CREATION)
    if reported.status != ProcedureStepStatus.IN_PROGRESS:
        _require(Dataset.from_json(reported.attributes), AT_THE_END)
    return reported


def _json(data_set: Dataset) -> dict[str, Any]:
    """The data set in the JSON model, whose text is Unicode whatever the character set was."""
    attributes: dict[str, Any] = {}
    for tag in sorted(data_set.keys()):
        name = f"{tag:08X}"
        if tag.element == 0 or name == _CHARACTER_SET:
            continue
        try:
            attributes |= _alone(data_set, tag).to_json_dict()
        except Exception as error:
            # Foreign bytes can do anything to the parser.
            raise Unacceptable(Status.INVALID_ATTRIBUTE_VALUE, f"The value of {tag} cannot be read.") from error
    return attributes


def _alone(data_set: Dataset, tag: Any) -> Dataset:
    alone = Dataset()
    alone[tag] = data_set[tag]
    return alone


def _read(attributes: dict[str, Any], required: Iterable[str]) -> Reported:
    data_set = Dataset.from_json(attributes)
    _require(data_set, required)
    for keyword in _DATES:
        _check(data_set, keyword, _is_date, "is not a date.")
    for keyword in _TIMES:
        _check(data_set, keyword, lambda value: _TIME.fullmatch(value) is not None, "is not a time.")
    try:
        status = ProcedureStepStatus(str(data_set.PerformedProcedureStepStatus))
    except ValueError as error:
        keyword = "PerformedProcedureStepStatus"
        said = "is none of IN PROGRESS, COMPLETED, DISCONTINUED."
        raise UnacceptableAttribute(Status.INVALID_ATTRIBUTE_VALUE, keyword, said) from error
    studies = [_uid(item, "StudyInstanceUID") for item in data_set.ScheduledStepAttributesSequence]
    return Reported(
        status=status,
        study_instance_uid=studies[0],
        series=_announced(data_set),
        attributes=attributes,
    )


def _announced(data_set: Dataset) -> dict[str, list[str]]:
    announced: dict[str, list[str]] = {}
    for item in _items(data_set, "PerformedSeriesSequence"):
        named = announced.setdefault(_uid(item, "SeriesInstanceUID"), [])
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            named += [_uid(reference, "ReferencedSOPInstanceUID") for reference in _items(item, keyword)]
    return announced


def _require(data_set: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword not in data_set:
            raise UnacceptableAttribute(Status.MISSING_ATTRIBUTE, keyword, "is missing.")
        if not _items(data_set, keyword) and not str(data_set[keyword].value or "").strip():
            raise UnacceptableAttribute(Status.MISSING_ATTRIBUTE_VALUE, keyword, "is empty.")


def _items(data_set: Dataset, keyword: str) -> Sequence[Dataset]:
    if keyword not in data_set or data_set[keyword].VR != "SQ":
        return []
    return list(data_set[keyword].value)


def _check(data_set: Dataset, keyword: str, fits: Callable[[str], bool], said: str) -> None:
    value = str(data_set.get(keyword) or "").strip()
    if value and not fits(value):
        raise UnacceptableAttribute(Status.INVALID_ATTRIBUTE_VALUE, keyword, said)


def _is_date(value: str) -> bool:
    try:
        return bool(datetime.strptime(value, "%Y%m%d"))
    except ValueError:
        return False


def _uid(item: Dataset, keyword: str) -> str:
    _require(item, [keyword])
    value = str(item[keyword].value)
    if not _UID.fullmatch(value):
        raise UnacceptableAttribute(Status.INVALID_ATTRIBUTE_VALUE, keyword, "is not a UID.")
    return value
