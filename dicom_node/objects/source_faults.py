"""What is wrong with the header of a source by the standard, and what a result takes over of it.

A result must be valid whatever its source was: of a value that is none of its representation (PS3.5 6.2) it takes
over what can be mended without a guess, and leaves out the rest. `faults` says so in sentences, which name attributes
and sections of the standard, and no values.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import datetime
from math import isfinite

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import DSfloat

from dicom_node.objects import code_stream
from dicom_node.objects.character_set import TEXT, decodes, is_sound, terms_of
from dicom_node.objects.contradictions import contradictions
from dicom_node.objects.required_attributes import missing
from inference.header import UNREADABLE

#: What names the source, its series and its study: a result has to repeat it as it is.
_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
#: Of the attributes that results take over, or follow from.
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040, 0x0050)
#: More than anybody reads.
_MOST_TOLD = 20

_UID = re.compile(r"(?=.{1,64}$)(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?")
_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")
_CODE = re.compile(r"[A-Z0-9 _]{0,16}")
_AGE = re.compile(r"\d{3}[DWMY]")


def mended(element: DataElement) -> DataElement | None:
    """A copy that is valid by its value representation, or None where there is no telling what was meant."""
    if not _is_of_its_kind(element):
        return None
    if element.VR == "SQ":
        copy = deepcopy(element)
        for item in copy.value:
            for tag in list(item.keys()):
                inner = _readable(item, tag)
                sound = mended(inner) if inner is not None else None
                if sound is None:
                    del item[tag]
                else:
                    item[tag] = sound
        return copy
    if _fault(element) is None:
        return deepcopy(element)
    if element.keyword == "SpecificCharacterSet":
        return None
    values = [_mended_value(element.VR, value) for value in _values(element)]
    if None in values:
        return None
    return DataElement(element.tag, element.VR, values if len(values) > 1 else values[0])


def faults(source: Dataset) -> list[str]:
    """What is wrong with a source that is reconstructed nevertheless, in sentences for people."""
    told = [*contradictions(source), *code_stream.contradictions(source), *missing(source), *_wrong_values(source)]
    if len(told) > _MOST_TOLD:
        told[_MOST_TOLD:] = [f"And {len(told) - _MOST_TOLD} more."]
    return told


def _wrong_values(source: Dataset) -> Iterator[str]:
    ascii_only = not terms_of(source)
    for tag in sorted(source.keys()):
        keyword = keyword_for_tag(tag)
        if not keyword or tag.group not in _GROUPS:
            continue
        element = _readable(source, tag)
        if element is None:
            yield f"{keyword} cannot be read (PS3.5 6.2): left out of the result."
            continue
        if element.VR in TEXT and not decodes(element, ascii_only=ascii_only):
            yield f"{keyword} holds bytes that its character set does not (PS3.5 6.1): the result repeats what it can."
        fault = _deep_fault(element)
        if fault is None:
            continue
        if keyword in _IDENTITY:
            end = "repeated as it is"
        elif keyword == "SpecificCharacterSet":
            end = "the result repeats the text as it can be read"
        else:
            end = "left out of the result" if element.VR == "SQ" or mended(element) is None else "mended in the result"
        yield f"{keyword} {fault}: {end}."


def _readable(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        element = dataset[tag]
        if element.VR != "SQ":
            str(element.value)
    except UNREADABLE:
        return None
    return element


def _deep_fault(element: DataElement) -> str | None:
    """The fault of an element, or of the first in its items that has one."""
    if element.VR != "SQ":
        return _fault(element)
    for item in element.value:
        for tag in item.keys():  # noqa: SIM118 - iterating a data set would decode every element
            inner = _readable(item, tag)
            fault = "cannot be read (PS3.5 6.2)" if inner is None else _deep_fault(inner)
            if fault is not None:
                return f"holds {keyword_for_tag(tag) or 'an attribute'}, which {fault}"
    return None


def _fault(element: DataElement) -> str | None:
    """Why an element is not of its value representation (PS3.5 6.2); None for one that is, or that is text."""
    if not _is_of_its_kind(element):
        return "is not of its value representation (PS3.6 6)"
    if element.keyword == "SpecificCharacterSet":
        sound = is_sound([str(value or "") for value in _values(element)])
        return None if sound else "names no character set that there is (PS3.3 C.12.1.1.2)"
    rule = _RULES.get(element.VR)
    if rule is None:
        return None
    fits, said = rule
    return None if all(fits(str(value)) for value in _values(element) if value not in (None, "")) else said


def _is_of_its_kind(element: DataElement) -> bool:
    """Whether text is text, numbers are numbers, and sequences sequences, as the dictionary has it."""
    if not dictionary_has_tag(element.tag):
        return True
    known = dictionary_VR(element.tag)
    return element.VR in known or (element.VR in TEXT and known in TEXT)


def _values(element: DataElement) -> list[object]:
    value = element.value
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _mended_value(vr: str, value: object) -> object | None:
    """The same value as the standard writes it, where it is plain what was meant."""
    text = str(value).strip(" \0")
    if vr == "CS" and _CODE.fullmatch(text.upper()):
        return text.upper()
    if vr == "DS" and _is_number(text):
        return DSfloat(float(text), auto_format=True)
    return None


def _is_date(text: str) -> bool:
    try:
        return len(text) == 8 and bool(datetime.strptime(text, "%Y%m%d"))
    except ValueError:
        return False


def _is_moment(text: str) -> bool:
    """DT: any prefix of YYYYMMDDHHMMSS.FFFFFF from the year on, and an offset."""
    zone = re.search(r"[+-]", text)
    if zone is not None:
        if not _ZONE.fullmatch(text[zone.start() :]):
            return False
        text = text[: zone.start()]
    date, time = text[:8], text[8:]
    padded = date + "00000101"[len(date) :] if len(date) in (4, 6, 8) else ""
    return _is_date(padded) and (not time or (len(date) == 8 and _TIME.fullmatch(time) is not None))


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _is_decimal(text: str) -> bool:
    return len(text) <= 16 and _is_number(text)


def _is_integer(text: str) -> bool:
    try:
        return -(2**31) <= int(text) < 2**31
    except ValueError:
        return False


_RULES: dict[str, tuple[Callable[[str], object], str]] = {
    "DA": (_is_date, "is not a date (PS3.5 6.2)"),
    "TM": (_TIME.fullmatch, "is not a time (PS3.5 6.2)"),
    "DT": (_is_moment, "is not a date and time (PS3.5 6.2)"),
    "UI": (_UID.fullmatch, "is not a valid UID (PS3.5 9.1)"),
    "CS": (_CODE.fullmatch, "is not a code string (PS3.5 6.2)"),
    "AS": (_AGE.fullmatch, "is not an age (PS3.5 6.2)"),
    "DS": (_is_decimal, "is not a decimal string (PS3.5 6.2)"),
    "IS": (_is_integer, "is not an integer string (PS3.5 6.2)"),
}
