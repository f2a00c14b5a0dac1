"""A C-STORE request on its way from a file to the peer (PS3.7 9.3.1.1; PS3.8 9.3.5 and E).

The command set is written element by element and the data set as it lies in the file, since a small object would take
the library as long to encode as the peer to store.
"""

import struct
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path

from pynetdicom.association import Association

from config.errors import DamagedObject
from dicom_node.network.wire import wire_of

#: The group of an element of a command set, its number, and the length of its value, in implicit little endian.
_ELEMENT = struct.Struct("<HHI")
_COMMAND_GROUP_LENGTH = 0x0000
_C_STORE_RQ = 0x0001
_MEDIUM = 0x0000
#: Command Data Set Type: anything but 0x0101 says that a data set follows.
_DATA_SET_FOLLOWS = 0x0001
#: Bytes of a data set that are handed over to the connection together.
_TOGETHER = 1 << 18


@dataclass(frozen=True, kw_only=True)
class OutgoingRequest:
    """What a C-STORE request says beside the data set (PS3.7 table 9.3-1)."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    #: The AE title that asked for a C-MOVE, and its Message ID.
    moved_for: tuple[str, int] | None = None

    def command_set(self) -> bytes:
        """Encoded in implicit little endian, as command sets are (PS3.7 6.3.1)."""
        elements = [
            (0x0002, _uid(self.sop_class_uid)),
            (0x0100, _short(_C_STORE_RQ)),
            (0x0110, _short(self.message_id)),
            (0x0700, _short(_MEDIUM)),
            (0x0800, _short(_DATA_SET_FOLLOWS)),
            (0x1000, _uid(self.sop_instance_uid)),
        ]
        if self.moved_for is not None:
            title, number = self.moved_for
            padded = title + " " * (len(title) % 2)
            elements += [(0x1030, padded.encode("ascii", "replace")), (0x1031, _short(number))]
        body = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in elements)
        return _ELEMENT.pack(0, _COMMAND_GROUP_LENGTH, 4) + struct.pack("<I", len(body)) + body


def write_request(
    association: Association, context_id: int, request: OutgoingRequest, path: Path, begins: int, padding: bytes = b""
) -> None:
    """Write a request over an association: the command set, then the data set of a file and what pads it.

    begins: the bytes before the data set. Raises PeerUnavailable when the association has ended, DamagedObject for a
    file that is gone; where it fails on the way, or changes its length, the association ends too.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise DamagedObject(f"{path} cannot be read: {error.strerror}.") from error
    wire = wire_of(association)
    with file:
        wire.write_data(context_id, request.command_set(), is_command=True, ends=True)
        try:
            left = file.seek(0, SEEK_END) - begins + len(padding)
            file.seek(begins)
            while left > 0:
                wanted = min(left, wire.whole_units(_TOGETHER))
                part = file.read(wanted)
                if len(part) < wanted:
                    part += padding
                if len(part) != wanted:
                    raise DamagedObject(f"{path} changed its length while it was sent.")
                left -= wanted
                wire.write_data(context_id, part, is_command=False, ends=left == 0)
        except OSError as error:
            association.abort()
            raise DamagedObject(f"{path} cannot be read: {error.strerror}.") from error
        except DamagedObject:
            association.abort()
            raise


def _short(value: int) -> bytes:
    return struct.pack("<H", value)


def _uid(value: str) -> bytes:
    return (value + "\0" * (len(value) % 2)).encode("ascii", "replace")
