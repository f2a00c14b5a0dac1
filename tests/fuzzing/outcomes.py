"""Saying a conversation to the node over a socket, and what it answered in the end."""

import socket
import struct
import time
from contextlib import suppress
from enum import StrEnum

from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from tests.fuzzing.conversations import Conversation

#: How long the node may think about what is whole.
_PATIENCE = 10.0
#: After so long without an answer the node is taken to wait for more, and is told that nothing comes.
_SILENCE = 0.3


class Outcome(StrEnum):
    """How a conversation ended."""

    #: Requests had their responses, or the association its release (PS3.8 9.3.7).
    ANSWERED = "answered"
    #: A-ASSOCIATE-RJ (PS3.8 9.3.4).
    REJECTED = "rejected"
    #: A-ABORT (PS3.8 9.3.8).
    ABORTED = "aborted"
    #: The node waited for the rest, and closed the connection when none came.
    ENDED_WITH_US = "ended with the peer"
    #: The node closed the connection without a word, while the peer still spoke.
    DROPPED = "dropped"
    #: An error of the node's own, 5xx (RFC 9110 15.6).
    BROKEN = "answered with an error of the node's own"
    #: The connection stays open though the peer has gone.
    HANGS = "hangs"


class Line:
    """A connection to the node, and what came over it."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self._received = b""
        self.closed = False
        self.released = False
        self.statuses: list[int] = []
        self.outcome: Outcome | None = None

    def say(self, data: bytes) -> None:
        """Send, unless the node has gone; what it said before that is still to be heard."""
        with suppress(OSError):
            self._socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more comes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def listen(self, seconds: float) -> bool:
        """Take in the next PDU; whether one came before time was up or the connection closed."""
        until = time.monotonic() + seconds
        while not self._take_pdu():
            if self.closed or time.monotonic() > until:
                return False
            self._socket.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                return False
            except OSError:
                data = b""
            self._received += data
            self.closed = not data
        return True

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _take_pdu(self) -> bool:
        if len(self._received) < 6:
            return False
        length = struct.unpack(">I", self._received[2:6])[0]
        if len(self._received) < 6 + length:
            return False
        pdu, self._received = self._received[: 6 + length], self._received[6 + length :]
        if pdu[0] == 0x03:
            self.outcome = Outcome.REJECTED
        elif pdu[0] == 0x07:
            self.outcome = Outcome.ABORTED
        elif pdu[0] == 0x06:
            self.released = True
        elif pdu[0] == 0x04:
            self.statuses += _statuses_in(pdu)
        return True


def outcome_of(conversation: Conversation, port: int) -> tuple[Outcome, bool]:
    """Say the conversation; how it ended, and whether the node acknowledged the object that it names."""
    line = Line(port)
    try:
        first, *rest = conversation.pdus
        line.say(first)
        line.listen(_SILENCE)
        *requests, last = rest or [b""]
        for pdu in requests:
            line.say(pdu)
        if requests and line.outcome is None:
            line.listen(_SILENCE)
        line.say(last)
        while line.outcome is None and line.listen(_SILENCE):
            pass
        said_to_the_end = line.closed
        line.end()
        while line.outcome is None and not line.closed and line.listen(_PATIENCE):
            pass
        acknowledged = conversation.kind == "C-STORE" and 0x0000 in line.statuses
        return _judge(line, said_to_the_end), acknowledged
    finally:
        line.close()


def _judge(line: Line, closed_before_us: bool) -> Outcome:
    if line.outcome is not None:
        return line.outcome
    if not line.closed:
        return Outcome.HANGS
    if line.statuses or line.released:
        return Outcome.ANSWERED
    return Outcome.DROPPED if closed_before_us else Outcome.ENDED_WITH_US


def _statuses_in(pdu: bytes) -> list[int]:
    """Status (0000,0900) of the command that a P-DATA-TF holds, if it holds one."""
    value_length = struct.unpack(">I", pdu[6:10])[0]
    if not pdu[11] & 1:
        return []
    command = read_dataset(DicomBytesIO(pdu[12 : 10 + value_length]), is_implicit_VR=True, is_little_endian=True)
    return [command.Status] if "Status" in command else []
