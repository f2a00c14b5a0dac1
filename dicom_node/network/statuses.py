"""Answers to a C-STORE request (PS3.4 B.2.3, PS3.7 C) and to N-ACTION, N-CREATE and N-SET requests
(PS3.7 10.1), and to queries and retrievals (PS3.4 C.4)."""

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
    NO_SUCH_EVENT_TYPE = 0x0113
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
    #: Of a retrieval: what is asked for cannot be found out, or none of it can be sent.
    UNABLE_TO_CALCULATE_MATCHES = 0xA701
    UNABLE_TO_PERFORM_SUBOPERATIONS = 0xA702
    MOVE_DESTINATION_UNKNOWN = 0xA801
    #: The data set, or identifier, is not of the SOP class, or not the instance, that the request named.
    MISMATCH = 0xA900
    #: Some of what was asked for could not be sent.
    SOME_SUBOPERATIONS_FAILED = 0xB000
    CANNOT_UNDERSTAND = 0xC000
    #: Of an object that comes by HTTP, where no transfer syntax is negotiated (PS3.18 I.2.2).
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122
    CANCELLED = 0xFE00
    PENDING = 0xFF00
    #: One more match; some optional keys of the query are not known here (PS3.4 C.4.1.1.4).
    PENDING_WITHOUT_SOME_KEYS = 0xFF01


class Unacceptable(FullfieldError):
    """A peer sent what cannot be kept: the administrators of both sides mend it."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
