"""Values of a header, whoever wrote it: an attribute that cannot be read counts as absent.

pydicom converts an element when it is first asked for, and so meets a malformed one only then.
"""

from math import isfinite
from typing import Any

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

#: What reading a malformed element can end with.
UNREADABLE = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    EOFError,
    OSError,
    BytesLengthException,
)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The value as pydicom has it, or None where it is absent, empty or malformed."""
    try:
        value = dataset.get(keyword)
    except UNREADABLE:
        return None
    return None if value is None or value == "" or value == b"" else value


def numbers(dataset: Dataset, keyword: str) -> list[float]:
    """All values as numbers; none where there is one among them that is no number or not finite."""
    value = value_of(dataset, keyword)
    if value is None:
        return []
    try:
        found = [float(part) for part in value] if isinstance(value, MultiValue | list) else [float(value)]
    except (TypeError, ValueError, OverflowError):
        return []
    return found if all(map(isfinite, found)) else []


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    value = value_of(dataset, keyword)
    return list(value) if isinstance(value, Sequence) else []
