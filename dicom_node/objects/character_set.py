"""The character set of a source, and what its text is where it names none (PS3.3 C.12.1.1.2, PS3.5 6.1.2).

A result is written in the set of its source where that is sound; else in UTF-8.
"""

import warnings
from collections.abc import Sequence

from pydicom.charset import convert_encodings, decode_bytes, default_encoding, encode_string
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import TEXT_VR_DELIMS

from inference.header import value_of

#: Value representations whose text is written in the character set of the object (PS3.5 6.1.2.3).
TEXT = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")

_ASCII = ("", "ISO_IR 6")
_PARTS = ("13", "100", "101", "109", "110", "126", "127", "138", "144", "148", "166")
#: Tables C.12-2 and C.12-5: sets that stand alone.
_ALONE = {*_ASCII, *(f"ISO_IR {part}" for part in _PARTS), "ISO_IR 192", "GB18030", "GBK"}
#: Tables C.12-3 and C.12-4: sets that escape sequences switch to; those of several bytes never come first.
_FIRST = {"", "ISO 2022 IR 6", *(f"ISO 2022 IR {part}" for part in _PARTS)}
_FURTHER = _FIRST - {""} | {f"ISO 2022 IR {part}" for part in ("87", "159", "149", "58")}

#: In this set pydicom writes katakana or Latin letters, but question marks for a text that has both.
_NOT_WRITTEN = ["ISO_IR 13"]
#: pydicom leaves this one in the text, and writes it again (its codec for GB 2312 knows no escape sequences).
_LEFT_IN = "\x1b$)A"


def is_sound(terms: Sequence[str]) -> bool:
    """Whether the values of a Specific Character Set are of the standard's, and may stand together."""
    if len(terms) < 2:
        return set(terms) <= _ALONE
    return terms[0] in _FIRST and set(terms[1:]) <= _FURTHER


def terms_of(source: Dataset) -> list[str]:
    """The values of its Specific Character Set; none where it says no more than ASCII, which needs no telling."""
    value = value_of(source, "SpecificCharacterSet")
    terms = [str(term or "") for term in value] if isinstance(value, MultiValue | list) else [str(value or "")]
    return terms if any(term not in _ASCII for term in terms) else []


def is_named(source: Dataset) -> bool:
    """Whether the source names the set of its text, and one that there is."""
    terms = terms_of(source)
    return bool(terms) and is_sound(terms)


def is_repeated(source: Dataset) -> bool:
    """Whether results are written in the set that the source names."""
    return is_named(source) and terms_of(source) != _NOT_WRITTEN


def decodes(element: DataElement, *, ascii_only: bool) -> bool:
    """Whether the text is of its character set, as far as that can be told."""
    text = "".join(map(str, _values(element))).replace(_LEFT_IN, "")
    return "\x1b" not in text and (text.isascii() if ascii_only else "\ufffd" not in text)


def make_room_for(text: str, dataset: Dataset) -> None:
    """Put a data set in UTF-8 where its character set cannot write a text that is to stand in it."""
    terms = terms_of(dataset)
    if text.isascii():
        return
    # What is not named is ASCII (PS3.5 6.1.2.1), for which pydicom takes Latin 1.
    encodings = ["ascii" if encoding == default_encoding else encoding for encoding in convert_encodings(terms)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = encode_string(text, encodings)
        if decode_bytes(written, encodings, TEXT_VR_DELIMS) != text:
            dataset.SpecificCharacterSet = "ISO_IR 192"


def as_meant(element: DataElement) -> DataElement:
    """Text in a set that is not named, which pydicom takes for Latin 1, as UTF-8 where its bytes are that.

    Latin 1 of which the bytes are UTF-8 by chance makes no words. Changes the element, or the items of a sequence.
    """
    if element.VR == "SQ":
        for item in element.value:
            for inner in item:
                as_meant(inner)
    elif element.VR in TEXT:
        values = [_utf_8(value) for value in _values(element)]
        if values != _values(element):
            element.value = values if len(values) > 1 else values[0]
    return element


def _utf_8(value: object) -> object:
    text = str(value)
    try:
        return value if text.isascii() else text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _values(element: DataElement) -> list[object]:
    value = element.value
    return list(value) if isinstance(value, MultiValue | list) else [value]
