"""Answers to a C-STORE request (PS3.4 B.2.3, PS3.7 C) and to N-ACTION, N-CREATE and N-SET requests (PS3.7 10.1)."""

from enum import IntEnum

from config.errors import FullfieldError


class Status(IntEnum):
    """The statuses that this node answers with."""

    SUCCESS = 0x0000
    #: The attribute is not one that may be set.
    NO_SUCH_ATTRIBUTE = 0x0105
    INVALID_ATTRIBUTE_VALUE = 0x0106
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NO_SUCH_SOP_INSTANCE = 0x0112
    INVALID_ARGUMENT_VALUE = 0x0115
    NO_SUCH_SOP_CLASS = 0x0118
    MISSING_ATTRIBUTE = 0x0120
    MISSING_ATTRIBUTE_VALUE = 0x0121
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    NO_SUCH_ACTION = 0x0123
    #: Of a request that is no C-STORE: try again later, or ask for less.
    RESOURCE_LIMITATION = 0x0213
    #: The sender may try again later.
    OUT_OF_RESOURCES = 0xA700
    #: The data set is not of the SOP class, or not the instance, that the request named.
    MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


class Unacceptable(FullfieldError):
    """A peer sent what cannot be kept: the administrators of both sides mend it."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
