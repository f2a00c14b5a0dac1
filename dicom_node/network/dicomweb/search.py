"""QIDO-RS: what is held, asked for by HTTP (PS3.18 10.6)."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

from dicom_node.network.dicomweb.problem import Problem
from storage.answers import tell
from storage.database import Database
from storage.levels import UNIQUE_KEY, Level, known_at
from storage.matching import Key, UnusableKey, read_keys
from storage.search import search, unsupported

#: Results that one answer holds at most.
MOST = 1000

#: What is told without being asked for, by level (PS3.18 tables 10.6.3-3 to 10.6.3-5).
_ALWAYS: dict[Level, str] = {
    Level.STUDY: """StudyDate StudyTime AccessionNumber ModalitiesInStudy ReferringPhysicianName TimezoneOffsetFromUTC
        PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyID StudyDescription
        NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances""",
    Level.SERIES: """Modality SeriesDescription SeriesInstanceUID SeriesNumber NumberOfSeriesRelatedInstances
        PerformedProcedureStepStartDate PerformedProcedureStepStartTime RequestAttributesSequence""",
    Level.IMAGE: """SOPClassUID SOPInstanceUID InstanceNumber Rows Columns BitsAllocated NumberOfFrames
        AvailableTransferSyntaxUID""",
}
_LEVELS = (Level.STUDY, Level.SERIES, Level.IMAGE)
_TAG = re.compile("[0-9a-fA-F]{8}")
_NOT_KEYS = frozenset({"includefield", "fuzzymatching", "limit", "offset", "accept"})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What one request asks."""

    level: Level
    keys: tuple[Key, ...]
    limit: int
    offset: int
    #: What is not done as asked, for Warning headers.
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What fits, as data sets of the DICOM JSON model."""

    data_sets: list[dict[str, Any]]
    #: How many fit altogether.
    matches: int
    #: How many of them follow those that are told.
    remaining: int


def read_question(level: Level, path: Mapping[str, str], query: Iterable[tuple[str, str]]) -> Question:
    """A request's path and query; raises Problem (400) for what cannot be asked.

    path: the unique keys that the path names, which match exactly.
    """
    wanted, warnings = Dataset(), []
    for above in _LEVELS[: _LEVELS.index(level) + 1]:
        # What is said of the levels above is told only where the path does not name them (PS3.18 10.6.3.3).
        if above == level or UNIQUE_KEY[above] not in path:
            _include(wanted, _ALWAYS[above].split())
        _include(wanted, [UNIQUE_KEY[above]])
    numbers = {"limit": MOST, "offset": 0}
    for name, value in query:
        if name == "includefield":
            fields = known_at(level) if value == "all" else [_keyword(each) for each in value.split(",") if each]
            _include(wanted, fields)
        elif name == "fuzzymatching":
            if value.lower() == "true":
                warnings.append("The fuzzymatching parameter is not supported. Only literal matching is performed.")
        elif name in numbers:
            numbers[name] = _number(name, value)
        elif name not in _NOT_KEYS:
            _match(wanted, name.split("."), value)
    for keyword, value in path.items():
        setattr(wanted, keyword, value)
    try:
        keys = tuple(read_keys(wanted))
    except UnusableKey as error:
        raise Problem(400, str(error)) from error
    unknown = unsupported(level, keys)
    if unknown:
        warnings.append(f"Not known here, and passed over: {', '.join(unknown)}.")
    limit = min(numbers["limit"], MOST)
    return Question(level=level, keys=keys, limit=limit, offset=numbers["offset"], warnings=tuple(warnings))


def find(database: Database, question: Question, base: str) -> Found:
    """What is held of what a question asks for; base: the address of the services."""
    with database.reading() as tx:
        numbers = search(tx, question.level, question.keys, combined=True)
        page = numbers[question.offset : question.offset + question.limit]
        answers = tell(tx, question.level, page, question.keys)
    for answer in answers:
        answer.SpecificCharacterSet = "ISO_IR 192"
        answer.InstanceAvailability = "ONLINE"
        answer.RetrieveURL = _place(base, answer)
    told = [answer.to_json_dict() for answer in answers]
    remaining = max(0, len(numbers) - question.offset - len(page))
    return Found(data_sets=told, matches=len(numbers), remaining=remaining)


def _place(base: str, answer: Dataset) -> str:
    names = {"StudyInstanceUID": "studies", "SeriesInstanceUID": "series", "SOPInstanceUID": "instances"}
    return "/".join([base, *(f"{name}/{answer[key].value}" for key, name in names.items() if key in answer)])


def _include(wanted: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword not in wanted:
            setattr(wanted, keyword, [] if dictionary_VR(keyword) == "SQ" else None)


def _match(wanted: Dataset, path: list[str], value: str) -> None:
    """Set a key; one within a sequence is named with a dot (PS3.18 8.3.4.1)."""
    keyword = _keyword(path[0])
    if len(path) > 1:
        if dictionary_VR(keyword) != "SQ":
            raise Problem(400, f"{keyword} is no sequence.")
        items = wanted.get(keyword) or [Dataset()]
        _match(items[0], path[1:], value)
        setattr(wanted, keyword, list(items))
        return
    several = value.replace(",", "\\").split("\\") if dictionary_VR(keyword) == "UI" else value
    try:
        setattr(wanted, keyword, several)
    except Exception as error:
        # pydicom refuses values in many ways.
        raise Problem(400, f"The value of {keyword} is none.") from error


def _keyword(name: str) -> str:
    """The keyword of an attribute that is named by keyword or by eight hexadecimal digits."""
    if tag_for_keyword(name) is not None:
        return name
    found = keyword_for_tag(int(name, 16)) if _TAG.fullmatch(name) else ""
    if not found:
        raise Problem(400, "A parameter of the query names no attribute.")
    return found


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 9:
        raise Problem(400, f"{name} is to be a whole number.")
    return int(value)
