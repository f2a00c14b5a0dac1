"""Matching of attributes with the keys of a query (PS3.4 C.2.2.2).

Single values, lists (of UIDs by the standard, of other values here too), wildcards, and ranges of dates and times; in
sequences, an item that fits all keys. Case and accents count, but not in names of persons, where the standard leaves
that open. A name's key without `=` is compared with one component group: with the alphabetic one if it is written in
ASCII, else with whichever it fits.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_keyword, dictionary_VR
from pydicom.dataset import Dataset

from config.errors import FullfieldError

#: Representations whose keys may hold wildcards (PS3.4 C.2.2.2.4), and those that are compared as numbers.
_TEXT = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_NUMBERS = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "US or SS"})
_TIMES = frozenset({"DA", "TM", "DT"})

#: Each date of a query, and the time that it is joined with in combined matching (PS3.4 C.2.2.2.5.4).
COMBINED = {
    "StudyDate": "StudyTime",
    "SeriesDate": "SeriesTime",
    "ContentDate": "ContentTime",
    "AcquisitionDate": "AcquisitionTime",
    "InstanceCreationDate": "InstanceCreationTime",
    "PerformedProcedureStepStartDate": "PerformedProcedureStepStartTime",
    "PatientBirthDate": "PatientBirthTime",
}

#: DDMMYYYY and the like are filled up to so many digits; a time has six of fractions.
_DIGITS = {"DA": 8, "TM": 12, "DT": 20}
_DATE_TIME = re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?")


class UnusableKey(FullfieldError):
    """A key cannot be matched with; whoever asks mends it."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One attribute that a query asks for, and what it has to be; without values and items anything."""

    #: Eight hexadecimal digits.
    tag: str
    keyword: str
    vr: str
    values: tuple[str, ...] = ()
    #: Of a sequence.
    items: tuple["Key", ...] = ()

    @property
    def is_universal(self) -> bool:
        """Whether it only asks for the attribute's value."""
        return not self.values and all(item.is_universal for item in self.items)

    @property
    def has_wildcards(self) -> bool:
        """Whether `*` and `?` in it stand for other characters."""
        return self.vr in _TEXT and any("*" in value or "?" in value for value in self.values)

    @cached_property
    def folded(self) -> tuple[str, ...]:
        """Its values as they are compared."""
        return tuple(folded(value, self.vr) for value in self.values)

    @cached_property
    def spans(self) -> tuple[tuple[str, str], ...]:
        """Of dates and times: first and last that fit, both in full digits."""
        return tuple(_span(value, self) for value in self.values)

    def fits(self, element: Mapping[str, Any] | None) -> bool:
        """Whether an attribute fits, as the DICOM JSON model has it; None for one that is missing."""
        if self.is_universal:
            return True
        held = (element or {}).get("Value") or []
        if self.items:
            return any(all(key.fits(item.get(key.tag)) for key in self.items) for item in held)
        if self.vr == "PN":
            return any(self._fits_name(name) for name in held if isinstance(name, Mapping))
        return any(self._fits_value(str(value)) for value in held if value is not None)

    def _fits_name(self, name: Mapping[str, Any]) -> bool:
        groups = [folded(str(name.get(group) or ""), "PN") for group in ("Alphabetic", "Ideographic", "Phonetic")]
        whole = "=".join(groups).rstrip("=")
        return any(
            pattern.fullmatch(here)
            for wanted, pattern in zip(self.folded, self._patterns, strict=True)
            for here in ([whole] if "=" in wanted else groups[:1] if wanted.isascii() else groups)
        )

    def _fits_value(self, value: str) -> bool:
        if self.vr in _TIMES:
            first, last = full_span(value, self.vr) or ("", "")
            return bool(first) and any(low <= last and first <= high for low, high in self.spans)
        if self.vr in _NUMBERS:
            number = _number(value)
            return number is not None and any(number == _number(wanted) for wanted in self.values)
        here = folded(value, self.vr)
        if self.has_wildcards:
            return any(pattern.fullmatch(here) for pattern in self._patterns)
        return here in self.folded

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(re.compile(_expression(value), re.DOTALL) for value in self.folded)


def read_keys(identifier: Dataset) -> list[Key]:
    """The keys of a query; UnusableKey for what cannot be one. Private attributes are passed over."""
    keys = []
    for tag in list(identifier.keys()):
        if not dictionary_has_tag(tag):
            continue
        keyword, vr = dictionary_keyword(tag), dictionary_VR(tag)
        try:
            value = identifier[tag].value
        except Exception as error:
            # A value is decoded when it is asked for, and foreign bytes can raise anything.
            raise UnusableKey(f"The key {keyword} is no {vr} value.") from error
        name = f"{tag:08X}"
        if vr == "SQ":
            items = [read_keys(item) for item in value or []]
            if len(items) > 1:
                raise UnusableKey(f"The key {keyword} has more than one item (PS3.4 C.2.2.2.6).")
            keys.append(Key(tag=name, keyword=keyword, vr=vr, items=tuple(items[0]) if items else ()))
            continue
        key = Key(tag=name, keyword=keyword, vr=vr, values=_values(value))
        if vr in _TIMES:
            _ = key.spans  # Refused now if it is wrong, not while others wait.
        keys.append(key)
    return keys


def fit_together(date: Key, time: Key, dates: Mapping[str, Any] | None, times: Mapping[str, Any] | None) -> bool:
    """Whether a date and a time fit both keys as one point in time (PS3.4 C.2.2.2.5.4)."""
    day = full_span(_first(dates), "DA")
    moment = full_span(_first(times), "TM") or full_span("000000", "TM")
    if day is None or moment is None:
        return False
    (low_day, high_day), (low_time, high_time) = date.spans[0], time.spans[0]
    low, high = low_day + low_time, high_day + high_time
    return low <= day[0] + moment[1] and day[0] + moment[0] <= high


def folded(value: str, vr: str) -> str:
    """A value as it is compared: without padding, a name without case and accents too."""
    value = value.replace("\0", "").strip(" ")
    if vr != "PN":
        return value
    apart = unicodedata.normalize("NFKD", value)
    plain = "".join(character for character in apart if not "\u0300" <= character <= "\u036f")
    plain = unicodedata.normalize("NFC", plain).casefold()
    return "=".join(group.strip(" ").rstrip("^ ") for group in plain.split("=")).rstrip("=")


def full_span(value: str, vr: str) -> tuple[str, str] | None:
    """The first and the last moment that a date or time stands for, in full digits; None for what is neither."""
    text = value.strip(" \0")
    if vr == "DT":
        text = re.sub(r"[+-]\d{4}$", "", text)
    # ACR-NEMA wrote 1993.08.22 and 10:11:12.
    whole, _, fraction = text.replace(":", "").partition(".") if vr != "DA" else (text.replace(".", ""), "", "")
    digits = whole + fraction
    seconds = {"DA": 8, "TM": 6, "DT": 14}[vr]
    if not re.fullmatch("[0-9]+", digits) or len(digits) > _DIGITS[vr] or (fraction and len(whole) != seconds):
        return None
    if (vr == "DA" and len(digits) != _DIGITS[vr]) or len(whole) % 2 or (vr == "DT" and len(whole) < 4):
        return None
    return digits.ljust(_DIGITS[vr], "0"), digits.ljust(_DIGITS[vr], "9")


def _span(value: str, key: Key) -> tuple[str, str]:
    single = full_span(value, key.vr)
    if single is not None and not (key.vr == "DT" and not _DATE_TIME.fullmatch(value)):
        return single
    least, most = "0" * _DIGITS[key.vr], "9" * _DIGITS[key.vr]
    for dash in (at for at, character in enumerate(value) if character == "-"):
        low, high = value[:dash].strip(), value[dash + 1 :].strip()
        first = full_span(low, key.vr) if low else (least, least)
        last = full_span(high, key.vr) if high else (most, most)
        if first is not None and last is not None and (low or high):
            return first[0], last[1]
    raise UnusableKey(f"The key {key.keyword} is neither a {key.vr} value nor a range of such.")


def _values(value: Any) -> tuple[str, ...]:
    each = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
    texts = tuple(text for text in (str(one).strip(" \0") for one in each if one is not None) if text)
    # Nothing but stars is any value, that which is missing too (PS3.4 C.2.2.2.4).
    return () if any(set(text) == {"*"} for text in texts) else texts


def _first(element: Mapping[str, Any] | None) -> str:
    held = (element or {}).get("Value") or [""]
    return str(held[0] if held[0] is not None else "")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _expression(pattern: str) -> str:
    """As a regular expression that never goes back: a key of many stars would else take for ever."""
    first, *others = (
        "".join("." if piece == "?" else re.escape(piece) for piece in re.split(r"(\?)", part))
        for part in re.split(r"\*+", pattern)
    )
    if not others:
        return first
    return first + "".join(f"(?>.*?{part})" for part in others[:-1] if part) + ".*" + others[-1]
