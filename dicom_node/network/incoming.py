"""Data sets on their way from the network to the disk, fragment by fragment, never whole in memory.

pynetdicom can write data sets to temporary files itself, but wherever the system keeps those, with a header
that names its own version, and a full disk ends its thread. Here the file lies where it will be moved from,
two transfers of one object are one file, and an error becomes a status for the peer.
"""

import errno
import hashlib
import os
import queue
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import structlog
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import (
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_EVENT_REPORT_RQ,
    N_SET_RQ,
    DIMSEMessage,
)
from pynetdicom.dimse_primitives import C_STORE, N_EVENT_REPORT

from config.errors import FullfieldError, PeerUnavailable, StorageFull, StorageUnavailable
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.network.notifications import Notifications
from dicom_node.network.quiet import Quiet
from dicom_node.network.receiving import Receiving
from dicom_node.network.statuses import Status, Unacceptable
from storage.faultpoint import faultpoint
from storage.files import hold

log = structlog.get_logger()

#: After so many bytes they are pushed to the disk, so that the last fsync is short, and room is looked for.
_STRETCH = 64 << 20

#: Seconds that the association's thread waits for a message before it looks whether the peer has released it, while
#: messages come.
_ROUND = 0.003

#: Requests whose data set is read in memory, and the largest that is: 20,000 references and more.
_IN_MEMORY = (C_FIND_RQ, C_GET_RQ, C_MOVE_RQ, N_ACTION_RQ, N_CREATE_RQ, N_EVENT_REPORT_RQ, N_SET_RQ)
_LARGEST_INFORMATION = 4 << 20

_PREAMBLE = b"\0" * 128 + b"DICM"


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of an association."""

    calling_ae: str
    called_ae: str
    address: str
    #: The same for all that happens in one association, or HTTP request, and for no other.
    association_id: str
    #: What of this node it talks to.
    actor: str = "listener"
    #: The names in the certificate that it showed; None without TLS.
    certificate: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoreRequest:
    """What a C-STORE request says beside its data set (PS3.7 9.1.1)."""

    peer: Peer
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    #: Whose C-MOVE it answers, by the Move Originator's AE title; None without one.
    mover: str | None = None
    #: The study that it is to be of, where the request says so.
    study_instance_uid: str | None = None


class IncomingFile:
    """One data set being received, as a part-10 file.

    Nothing is raised while fragments arrive, for nobody there could answer the peer; `complete` raises what
    went wrong, and after it the file is whole.

    largest: bytes that it may have, None for any.
    """

    def __init__(
        self,
        receiving: Receiving,
        part_10_header: Callable[[], bytes],
        has_room: Callable[[], bool],
        largest: int | None = None,
    ) -> None:
        self.path = receiving.folder / f"{uuid.uuid4().hex}.dcm"
        self.size = 0
        #: When the last fragment came, by a clock that is never set.
        self.came_at = time.monotonic()
        self._receiving = receiving
        self._part_10_header = part_10_header
        self._has_room = has_room
        self._largest = largest
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None
        self._error: FullfieldError | None = None
        self._next_look = 0

    def write(self, fragment: bytes | memoryview) -> None:
        """Add the next fragment of the data set, or drop it if the file cannot be written."""
        self.came_at = time.monotonic()
        if self._error is not None:
            return
        try:
            file = self._file or self._begin()
            self._append(file, fragment)
            if self._largest is not None and self.size > self._largest:
                # 0xA900 is for a data set that is not of its SOP class, and no more (PS3.4 B.2.3).
                said = f"The object is larger than {self._largest >> 20} MB, the largest that is taken here."
                raise Unacceptable(Status.OUT_OF_RESOURCES, said)
            if self.size >= self._next_look:
                file.flush()
                os.fdatasync(file.fileno())
                self._look_for_room()
        except OSError as error:
            self._fail(_in_words(error))
        except FullfieldError as error:
            self._fail(error)

    def complete(self) -> str:
        """The SHA-256 of the whole file, which stays held until `discard`.

        Raises StorageFull, StorageUnavailable or Unacceptable.
        """
        try:
            if self._file is None and self._error is None:
                raise Unacceptable(Status.CANNOT_UNDERSTAND, "The request came without a data set.")
            if self._file is not None and self._error is None:
                self._file.flush()
        except OSError as error:
            self._fail(_in_words(error))
        if self._error is not None:
            raise self._error
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Let go of the file, and delete it if it is still where it was received."""
        if self._file is not None:
            # What is left in the buffer may not be writable, and is not wanted.
            with suppress(OSError):
                self._file.close()
        self.path.unlink(missing_ok=True)
        self._receiving.ends(self.path)

    # What pynetdicom asks of the file that it writes a data set to.

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def file(self) -> "IncomingFile":
        """Itself: pynetdicom flushes what `NamedTemporaryFile` wraps."""
        return self

    def flush(self) -> None:
        """Nothing: it is flushed where that has a purpose."""

    def close(self) -> None:
        """Nothing: who has the file decides what becomes of it."""

    def _begin(self) -> BinaryIO:
        self._look_for_room()
        header = self._part_10_header()
        # Patient data: for the owner only.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(handle, "wb")
        self._receiving.begins(self.path)
        hold(self._file)
        self._append(self._file, header)
        return self._file

    def _append(self, file: BinaryIO, data: bytes | memoryview) -> None:
        faultpoint("incoming.write")
        file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def _look_for_room(self) -> None:
        if not self._has_room():
            raise StorageFull("The disk is nearly full.")
        self._next_look = self.size + _STRETCH

    def _fail(self, error: FullfieldError) -> None:
        self._error = error
        self.discard()


class _DataSet(IncomingFile):
    """The data set of whatever message comes: of a C-STORE request to a file, of other requests to memory."""

    message: DIMSEMessage

    def write(self, fragment: bytes | memoryview) -> None:
        """Add the next fragment. What gets too large for the memory is dropped whole: half a list would lie."""
        if not isinstance(self.message, _IN_MEMORY):
            super().write(fragment)
            return
        self.size += len(fragment)
        if self.size <= _LARGEST_INFORMATION:
            self.message.data_set.write(fragment)
        else:
            self.message.data_set.truncate(0)


class StreamedMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """pynetdicom's reader of messages, with the data sets of C-STORE requests going to files, and notifications.

    refuse: called with a request of another SOP class than its context's; returns the status.
    """

    message: Any

    def __init__(
        self,
        association: Association,
        receiving: Receiving,
        has_room: Callable[[], bool],
        refuse: Callable[[StoreRequest], int],
    ) -> None:
        super().__init__(association)
        self._receiving = receiving
        self._has_room = has_room
        self._refuse = refuse
        self._quiet = Quiet(_ROUND)
        #: Known once the association is requested.
        self.peer: Peer | None = None
        #: Bytes of the largest object that the peer may send; None for any.
        self.largest_object: int | None = None
        #: What this node has to report over the association.
        self.notifications = Notifications()

    def receive_primitive(self, primitive: Any) -> None:
        """Take in the next fragments, of the command or of the data set."""
        if self.message is None:
            message = DIMSEMessage()
            data_set = _DataSet(
                self._receiving, lambda: self._part_10_header(message), self._has_room, self.largest_object
            )
            data_set.message = message
            message._data_set_file = data_set
            self.message = message
        try:
            super().receive_primitive(primitive)
        except Exception as error:
            # A command set that is none (PS3.7 6.3). pynetdicom's thread would end, and the peer hear nothing.
            log.warning("a message that cannot be read", error=type(error).__name__)
            self.dul.event_queue.put("Evt19")

    def get_msg(self, block: bool = False) -> tuple[Any, Any]:
        """The next message to be served; and when the association's thread asks for it, notifications go out.

        A C-STORE request of another SOP class than its context's is answered here: pynetdicom would abort
        the association, or serve it. Who blocks waits for the answer to a request of this node's: until then no
        other request goes out (PS3.7 D.3.3.3), and an answer to an earlier one is not what is waited for.
        """
        if not block:
            self.notifications.flush(self.assoc)
        context_id, message = self._next(block)
        while isinstance(message, N_EVENT_REPORT) and not message.is_valid_request:
            self.notifications.answered(message)
            context_id, message = self._next(True) if block else (None, None)
        if message is not None and not (message.is_valid_request or message.is_valid_response):
            # It lacks what a response would have to name; pynetdicom would let the peer wait for one.
            if isinstance(message, C_STORE):
                file_of(message).discard()
            self.assoc.abort()
            return None, None
        if not isinstance(message, C_STORE) or not message.is_valid_request:
            return context_id, message
        context = self.assoc._accepted_cx.get(context_id)
        if context is None or message.AffectedSOPClassUID == context.abstract_syntax:
            return context_id, message
        file_of(message).discard()
        answer = C_STORE()
        answer.MessageIDBeingRespondedTo = message.MessageID
        answer.AffectedSOPInstanceUID = message.AffectedSOPInstanceUID
        answer.AffectedSOPClassUID = message.AffectedSOPClassUID
        answer.Status = self._refuse(self.request_of(message, context.transfer_syntax[0]))
        self.send_msg(answer, context_id)
        return None, None

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send a message. One to a peer that is gone is passed over: the association's end is told elsewhere."""
        with suppress(PeerUnavailable):
            super().send_msg(primitive, context_id)

    def request_of(self, message: C_STORE, transfer_syntax_uid: str) -> StoreRequest:
        """What a C-STORE request says."""
        assert self.peer is not None
        return StoreRequest(
            peer=self.peer,
            sop_class_uid=str(message.AffectedSOPClassUID),
            sop_instance_uid=str(message.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(transfer_syntax_uid),
            mover=printable(message.MoveOriginatorApplicationEntityTitle or "") or None,
        )

    def discard_unserved(self) -> int:
        """At the end of an association: delete what was not received whole or not served; how many."""
        self.notifications.end()
        files = [self.message._data_set_file] if isinstance(self.message, C_STORE_RQ) else []
        while not self.msg_queue.empty():
            _, message = self.msg_queue.get_nowait()
            files += [file_of(message)] if isinstance(message, C_STORE) else []
        for file in files:
            file.discard()
        return sum(file.size > 0 for file in files)

    def _next(self, block: bool) -> tuple[Any, Any]:
        """The next message. The association's thread waits for it a little: else it would by the clock."""
        try:
            context_id, message = self.msg_queue.get(timeout=self.dimse_timeout if block else self._quiet.rest)
        except queue.Empty:
            return None, None
        self._quiet.ends()
        return context_id, message

    def _part_10_header(self, message: DIMSEMessage) -> bytes:
        """Preamble and File Meta Information (PS3.10 7.1), the same for every transfer of one object."""
        if not isinstance(message, C_STORE_RQ):
            raise Unacceptable(Status.CANNOT_UNDERSTAND, "The message is no C-STORE request.")
        context = self.assoc._accepted_cx.get(message.context_id)
        if context is None:
            raise Unacceptable(Status.SOP_CLASS_NOT_SUPPORTED, "The presentation context was not accepted.")
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = message.command_set.get("AffectedSOPClassUID", "")
        meta.MediaStorageSOPInstanceUID = message.command_set.get("AffectedSOPInstanceUID", "")
        meta.TransferSyntaxUID = context.transfer_syntax[0]
        meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        try:
            return part_10_header(meta)
        except (TypeError, ValueError) as error:
            raise Unacceptable(Status.CANNOT_UNDERSTAND, "The request names UIDs that are none.") from error


def part_10_header(meta: FileMetaDataset) -> bytes:
    """What stands before the data set in a file; version and group length are set here."""
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.FileMetaInformationGroupLength = 0
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta, enforce_standard=False)
    return _PREAMBLE + buffer.getvalue()


def printable(text: str) -> str:
    """A short text of a peer's, without the control characters that databases and terminals mind."""
    return "".join(character for character in text if character.isprintable()).strip()


def file_of(message: C_STORE) -> IncomingFile:
    """The file to which the data set of a request was written."""
    file: IncomingFile = message._dataset_file
    return file


def _in_words(error: OSError) -> FullfieldError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The disk is full.")
    return StorageUnavailable(f"The disk cannot be used: {error.strerror}.")
