"""Values of a header as text, whatever a sender has written there."""

import struct
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

#: What pydicom raises for a malformed value, which it meets only on access.
_MALFORMED = (
    ArithmeticError,
    BytesLengthException,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
)


def texts(header: Dataset, keyword: str) -> list[str] | None:
    """The values of an attribute as text, empty ones left out; None when they cannot be read."""
    try:
        value = header[keyword].value if keyword in header else None
    except _MALFORMED:
        return None
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return [text for one in values if one is not None and (text := str(one).strip(" \0"))]


def items(header: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence; none when it cannot be read, or is no sequence."""
    try:
        value = header[keyword].value if keyword in header else ()
        return [item for item in value or () if isinstance(item, Dataset)]
    except _MALFORMED:
        return ()
