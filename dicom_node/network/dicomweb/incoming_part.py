"""An object on its way from an HTTP request to the disk, as a file like that of a C-STORE.

What stands before the data set is written anew, so that the same object is the same file whichever way it came
(PS3.10 7.1); the data set's bytes are the received ones.
"""

from collections.abc import Callable
from io import BytesIO

from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import UID

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest, part_10_header, printable
from dicom_node.network.receiving import Receiving
from dicom_node.network.statuses import Status, Unacceptable
from dicom_node.sop_classes import RECEIVED

#: Within so many bytes the File Meta Information has ended.
_HEAD = 1 << 16
#: Characters of a UID (PS3.5 9.1); no answer could name a longer one.
_LONGEST_UID = 64


class IncomingPart:
    """One object being received. Nothing is raised while it arrives; `complete` raises what is wrong."""

    def __init__(
        self,
        receiving: Receiving,
        peer: Peer,
        study_instance_uid: str | None,
        has_room: Callable[[], bool],
        largest: int | None = None,
    ) -> None:
        self._head: bytearray | None = bytearray()
        self._error: Unacceptable | None = None
        self._header = b""
        self._file = IncomingFile(receiving, lambda: self._header, has_room, largest)
        self._largest = largest
        #: What the part says that it is; of a part that says nothing, or more than a UID holds, the UIDs are empty.
        self.request = StoreRequest(
            peer=peer,
            sop_class_uid="",
            sop_instance_uid="",
            transfer_syntax_uid="",
            study_instance_uid=study_instance_uid,
        )

    @property
    def is_too_large(self) -> bool:
        """Whether it is larger than objects may be."""
        return self._largest is not None and self._file.size > self._largest

    def write(self, data: bytes) -> None:
        """More of the part."""
        if self._error is not None:
            return
        if self._head is None:
            self._file.write(data)
            return
        self._head += data
        if len(self._head) >= _HEAD:
            self._begin()

    def complete(self) -> IncomingFile:
        """The file, when all has arrived. Raises Unacceptable for a part that is no object received here."""
        if self._head is not None:
            self._begin()
        if self._error is not None:
            raise self._error
        return self._file

    def discard(self) -> None:
        """Delete the file, if it is still where it was received."""
        self._file.discard()

    def _begin(self) -> None:
        head, self._head = bytes(self._head or b""), None
        try:
            meta, length = _read_meta(head)
            request = _request(meta, self.request)
            _check_lengths(request)
            self.request = request
            self._header = _header(request)
            _check(request)
        except Unacceptable as error:
            self._error = error
            return
        self._file.write(head[length:])


def _read_meta(head: bytes) -> tuple[FileMetaDataset, int]:
    """The File Meta Information, and how many bytes stand before the data set."""
    file = BytesIO(head)
    try:
        read_preamble(file, force=False)
        meta = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group != 2
        )
        return FileMetaDataset(meta), file.tell()
    except Exception as error:
        # Whatever it is that a foreign byte does to the parser, the file cannot be understood.
        raise Unacceptable(Status.CANNOT_UNDERSTAND, "The part is not a DICOM file (PS3.10 7.1).") from error


def _request(meta: FileMetaDataset, request: StoreRequest) -> StoreRequest:
    def uid(keyword: str) -> str:
        try:
            return printable(str(meta.get(keyword) or ""))
        except Exception:
            # A value is decoded when it is asked for, and foreign bytes can raise anything; it counts as missing.
            return ""

    return StoreRequest(
        peer=request.peer,
        sop_class_uid=uid("MediaStorageSOPClassUID"),
        sop_instance_uid=uid("MediaStorageSOPInstanceUID"),
        transfer_syntax_uid=uid("TransferSyntaxUID"),
        study_instance_uid=request.study_instance_uid,
    )


def _check_lengths(request: StoreRequest) -> None:
    for what, uid in (
        ("SOP Instance UID", request.sop_instance_uid),
        ("SOP Class UID", request.sop_class_uid),
        ("Transfer Syntax UID", request.transfer_syntax_uid),
    ):
        if len(uid) > _LONGEST_UID:
            said = f"The part's {what} has {len(uid)} characters; {_LONGEST_UID} are the most (PS3.5 9.1)."
            raise Unacceptable(Status.CANNOT_UNDERSTAND, said)


def _header(request: StoreRequest) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(request.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(request.sop_instance_uid)
    meta.TransferSyntaxUID = UID(request.transfer_syntax_uid)
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    try:
        return part_10_header(meta)
    except (TypeError, ValueError) as error:
        raise Unacceptable(Status.CANNOT_UNDERSTAND, "The part names UIDs that are none.") from error


def _check(request: StoreRequest) -> None:
    if request.sop_class_uid not in RECEIVED:
        raise Unacceptable(Status.SOP_CLASS_NOT_SUPPORTED, "Objects of its SOP class are not received here.")
    if request.transfer_syntax_uid not in TRANSFER_SYNTAXES:
        said = "Objects in its transfer syntax are not received here."
        raise Unacceptable(Status.TRANSFER_SYNTAX_NOT_SUPPORTED, said)
