"""Answers to a C-STORE request (PS3.4 B.2.3, PS3.7 C)."""

from enum import IntEnum

from config.errors import FullfieldError


class Status(IntEnum):
    """The statuses that this node answers with."""

    SUCCESS = 0x0000
    SOP_CLASS_NOT_SUPPORTED = 0x0122
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
