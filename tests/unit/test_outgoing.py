"""A C-STORE request as it goes out: its command set, its units, and files that change under it."""

import os
from errno import EIO
from io import BytesIO, FileIO
from types import SimpleNamespace

import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dsutils import decode, encode

from config.errors import DamagedObject
from dicom_node.network import outgoing
from dicom_node.network.outgoing import OutgoingRequest, write_request

REQUEST = OutgoingRequest(message_id=513, sop_class_uid=SecondaryCaptureImageStorage, sop_instance_uid="1.2.840.1")
HEADER = b"\0" * 132


@pytest.mark.parametrize("moved_for", [None, ("ASKER", 70), ("ASKERS", 65535)])
@pytest.mark.parametrize("uid", ["1.2.840.1", "1.2.840.12"])
def test_the_command_set_is_as_the_library_has_it(moved_for, uid):
    request = OutgoingRequest(
        message_id=513, sop_class_uid=SecondaryCaptureImageStorage, sop_instance_uid=uid, moved_for=moved_for
    )
    written = decode_command(request.command_set())

    message = C_STORE_RQ().command_set
    message.AffectedSOPClassUID, message.AffectedSOPInstanceUID = SecondaryCaptureImageStorage, uid
    message.CommandField, message.MessageID, message.Priority, message.CommandDataSetType = 1, 513, 0, 1
    if moved_for is None:
        del message.MoveOriginatorApplicationEntityTitle, message.MoveOriginatorMessageID
    else:
        message.MoveOriginatorApplicationEntityTitle, message.MoveOriginatorMessageID = moved_for
    del message.CommandGroupLength
    encoded = encode(message, True, True)
    assert written.CommandGroupLength == len(encoded)
    assert request.command_set()[12:] == encoded


def decode_command(data):

    return decode(BytesIO(data), True, True)


class Wire:
    """Keeps what is written; units of three bytes each."""

    def __init__(self, meanwhile=lambda: None):
        self.written, self.meanwhile = [], meanwhile

    def whole_units(self, length):
        return length // 3 * 3

    def write_data(self, context, data, *, is_command, ends):
        self.written.append((context, bytes(data), is_command, ends))
        if not is_command:
            self.meanwhile()


def association_over(wire):
    aborted = []
    return SimpleNamespace(dul=SimpleNamespace(wire=wire), abort=lambda: aborted.append(True), aborted=aborted)


@pytest.fixture
def ten_at_once(monkeypatch):
    monkeypatch.setattr(outgoing, "_TOGETHER", 10)


@pytest.mark.usefixtures("ten_at_once")
@pytest.mark.parametrize("length", [1, 8, 9, 10, 18, 25])
@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_a_data_set_goes_out_in_parts_the_last_of_which_says_so(tmp_path, length, padding):
    path = tmp_path / "file"
    data = bytes(range(1, length + 1))
    path.write_bytes(HEADER + data)
    wire = Wire()

    write_request(association_over(wire), 5, REQUEST, path, len(HEADER), padding)

    command, *parts = wire.written
    assert command == (5, REQUEST.command_set(), True, True)
    assert b"".join(part for _, part, _, _ in parts) == data + padding
    assert all(len(part) == 9 for _, part, _, _ in parts[:-1])
    assert [ends for *_, ends in parts] == [False] * (len(parts) - 1) + [True]


def test_a_file_that_is_gone_is_told_before_anything_is_written(tmp_path):
    wire = Wire()
    association = association_over(wire)
    with pytest.raises(DamagedObject, match="cannot be read: No such file"):
        write_request(association, 5, REQUEST, tmp_path / "file", 0)
    assert (wire.written, association.aborted) == ([], [])


@pytest.mark.usefixtures("ten_at_once")
@pytest.mark.parametrize("padding", [b"", b"\0"])
def test_a_file_that_becomes_shorter_on_the_way_ends_the_association(tmp_path, padding):
    path = tmp_path / "file"
    path.write_bytes(HEADER + b"x" * 100)
    association = association_over(Wire(lambda: os.truncate(path, len(HEADER) + 12)))
    with pytest.raises(DamagedObject, match="changed its length while it was sent"):
        write_request(association, 5, REQUEST, path, len(HEADER), padding)
    assert association.aborted


@pytest.mark.usefixtures("ten_at_once")
def test_a_file_that_cannot_be_read_further_ends_the_association(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(HEADER + b"x" * 100)
    opened = []

    class Failing(FileIO):
        def read(self, size=-1):
            opened.append(size)
            if len(opened) > 2:
                raise OSError(EIO, "Input/output error")
            return super().read(size)

    monkeypatch.setattr(type(path), "open", lambda self, *_, **__: Failing(self))
    association = association_over(Wire())
    with pytest.raises(DamagedObject, match="cannot be read: Input/output error"):
        write_request(association, 5, REQUEST, path, len(HEADER))
    assert association.aborted
