"""Protocol data units on their way between an association and its connection (PS3.8 9.3).

pynetdicom's thread of an association looks for news by the clock, copies what it reads six times, and writes one unit
in each of its rounds. Here it waits at the connection, reads data values in place, and whoever has data to send writes
it, unit after unit. What changes the state of the association stays with pynetdicom.
"""

import select
import ssl
import struct
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import P_DATA

from config.errors import PeerUnavailable
from dicom_node.network.quiet import Quiet

#: A larger unit than this is no mistake about the maximum, it is an attack or garbage.
_LARGEST = 16 << 20
#: Seconds until the thread looks for what is to be sent that is no data, while the peer is busy.
_ROUND = 0.001
#: Seconds of silence after which a peer has read that it is aborted or rejected, if it does not hang up by itself. A
#: connection that is closed before all is read that came is reset, and the peer's system forgets what it was told.
_LINGER = 1.0

#: Of a unit: its type, and the length of what follows (PS3.8 9.3.1).
_HEADER = struct.Struct(">BxI")
#: Of a presentation data value: its length, the presentation context (PS3.8 9.3.5.1).
_VALUE = struct.Struct(">IB")
#: Of a unit with one such value all that comes before the data: both, and the message control header (PS3.8 E.2).
_UNIT = struct.Struct(">BxIIBB")
_IS_COMMAND, _ENDS = 0x01, 0x02
#: Bytes of a unit that count for a peer's maximum, beside the data; and the most data in one where it names none.
_AROUND, _MOST = 6, 1 << 17
_P_DATA_TF = 0x04
_TYPES = range(0x01, 0x08)

# The state machine's events and states (PS3.8 9.2).
_DATA_CAME, _CONNECTION_CLOSED, _INVALID_UNIT = "Evt10", "Evt17", "Evt19"
_DATA_MAY_GO = ("Sta6", "Sta8")
_OVER = "Sta13"


@dataclass(frozen=True)
class _DataUnit:
    """A P-DATA-TF, as pynetdicom's state machine asks for it."""

    primitive: P_DATA

    def to_primitive(self) -> P_DATA:
        return self.primitive


class Wire:
    """Reads and writes the units of an association, from when its connection is open; who: the peer, in words."""

    def __init__(self, association: Association, who: str) -> None:
        self._dul: Any = association.dul
        self._dul.wire = self
        self._largest = partial(_largest, association)
        self._who = who
        self._look = self._dul._is_transport_event
        self._hand_over = self._dul.send_pdu
        self._send = self._dul.socket.send
        self._quiet = Quiet(_ROUND)
        #: Whether it is not known any more where a unit begins.
        self._lost = False
        self._writing = threading.Lock()
        # What OpenSSL keeps of a connection is for one thread at a time.
        secured = isinstance(self._dul.socket.socket, ssl.SSLSocket)
        self._reading: AbstractContextManager[Any] = self._writing if secured else nullcontext()
        self._dul.socket.send = self._write
        self._dul.send_pdu = self._write_data
        self._dul._is_transport_event = self._wait
        self._take = self._dul._process_recv_primitive
        self._dul._process_recv_primitive = self._take_unless_over
        self._dul._read_pdu_data = self._read
        self._dul._run_loop_delay = 0

    @property
    def _is_over(self) -> bool:
        """Whether all that is left is that the peer hangs up."""
        return bool(self._dul.state_machine.current_state == _OVER)

    def _take_unless_over(self) -> bool:
        """Take what is to be said next; the state machine's thread would end over a word to a peer that is gone."""
        if not self._is_over:
            return bool(self._take())
        self._dul.to_provider_queue.queue.clear()
        return False

    def _wait(self) -> bool:
        """Wait for the peer for a round, and have what it sends read; whether it sent something."""
        connection = self._dul.socket.socket
        try:
            if connection is None:
                time.sleep(_ROUND)
            elif not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
                select.select([connection], [], [], _LINGER if self._lost or self._is_over else self._quiet.rest)
        except (OSError, ValueError):
            # Closed meanwhile; pynetdicom finds it so.
            time.sleep(_ROUND)
        came = bool(self._look())
        if came:
            self._quiet.ends()
        return came

    def _read(self) -> None:
        """Read a unit, and tell the state machine what it is."""
        events = self._dul.event_queue
        try:
            with self._reading:
                if self._lost:
                    self._drop()
                    return
                header = self._exactly(_HEADER.size)
                kind, length = _HEADER.unpack(header)
                if kind not in _TYPES or length > _LARGEST:
                    # The peer is told by an A-ABORT (PS3.8 9.2.3); where the next unit would begin nobody knows.
                    self._lost = True
                    events.put(_INVALID_UNIT)
                    return
                body = self._exactly(length)
        except OSError:
            events.put(_CONNECTION_CLOSED)
            return
        try:
            if kind == _P_DATA_TF:
                unit, event = _DataUnit(_data(memoryview(body))), _DATA_CAME
            else:
                unit, event = self._dul._decode_pdu(header + body)
                # The state machine's thread would end over what this raises, such as for an even context ID.
                unit.to_primitive()
        except Exception:
            # Foreign bytes can do anything to the parser.
            events.put(_INVALID_UNIT)
            return
        self._dul._recv_pdu.put(unit)
        events.put(event)

    def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view, filled = memoryview(data), 0
        while filled < length:
            count = self._dul.socket.socket.recv_into(view[filled:])
            if count == 0:
                raise ConnectionError("The connection ended within a unit.")
            filled += count
        return data

    def _drop(self) -> None:
        if not self._dul.socket.socket.recv(1 << 16):
            raise ConnectionError("The connection has ended.")

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._send(data)

    def whole_units(self, length: int) -> int:
        """How many bytes of data make units that are all as large as the peer takes, and are together this long."""
        largest = self._largest()
        return max(length // largest, 1) * largest

    def write_data(self, context: int, data: bytes, *, is_command: bool, ends: bool) -> None:
        """Write a part of a message's command set or data set, in as many units as the peer's maximum asks for.

        ends: with this part the command set or the data set is whole. Raises PeerUnavailable when the association has
        ended.
        """
        largest, control = self._largest(), _IS_COMMAND if is_command else 0
        view = memoryview(data)
        pieces: list[bytes | memoryview] = []
        for at in range(0, len(data), largest):
            part = view[at : at + largest]
            last = _ENDS if ends and at + largest >= len(data) else 0
            pieces += [_UNIT.pack(_P_DATA_TF, len(part) + _AROUND, len(part) + 2, context, control | last), part]
        self._put(b"".join(pieces))

    def _write_data(self, primitive: Any) -> None:
        """Write data to the connection, and leave what changes the state to the state machine.

        Raises PeerUnavailable when the association has ended.
        """
        if not isinstance(primitive, P_DATA):
            self._quiet.ends()
            self._hand_over(primitive)
            return
        values = [
            _VALUE.pack(len(data) + 1, context) + data for context, data in primitive.presentation_data_value_list
        ]
        self._put(b"".join((_HEADER.pack(_P_DATA_TF, sum(map(len, values))), *values)))

    def _put(self, units: bytes) -> None:
        connection = self._dul.socket.socket
        if connection is None or self._dul.state_machine.current_state not in _DATA_MAY_GO:
            raise PeerUnavailable(f"{self._who} ended the association.")
        try:
            with self._writing:
                connection.sendall(units)
        except OSError as error:
            self._dul.event_queue.put(_CONNECTION_CLOSED)
            raise PeerUnavailable(f"{self._who} ended the connection.") from error


def wire_of(association: Association) -> Wire:
    """What carries the units of an association."""
    dul: Any = association.dul
    wire: Wire = dul.wire
    return wire


def _largest(association: Association) -> int:
    """The most data in a unit that the peer takes."""
    maximum = association.dimse.maximum_pdu_size
    return max(maximum - _AROUND, 2) if maximum else _MOST


def _data(body: memoryview) -> P_DATA:
    """The presentation data values of a P-DATA-TF, where they lie; ValueError for what is none."""
    primitive, at = P_DATA(), 0
    while at < len(body):
        length, context = _VALUE.unpack_from(body, at)
        end = at + 4 + length
        # At least the context, and the message control header (PS3.8 E.2).
        if length < 2 or end > len(body):
            raise ValueError("The length of a presentation data value is not true.")
        primitive.presentation_data_value_list.append((context, body[at + _VALUE.size : end]))
        at = end
    return primitive
