"""The C-STORE and C-ECHO SCU: sends objects to a destination, and says what it acknowledged (PS3.4 B)."""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import split_dataset
from pynetdicom.pdu_primitives import A_ASSOCIATE, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification

from config.errors import DamagedObject, PeerRefused, PeerUnavailable, StorageUnavailable, UnsupportedImage
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.network.contexts import UNCOMPRESSED
from dicom_node.network.outgoing import OutgoingRequest, write_request
from dicom_node.network.server import quiet_library
from dicom_node.network.tls import Credentials, NotSecured
from dicom_node.network.wire import Wire
from dicom_node.uncompressed import write_uncompressed
from storage.faultpoint import faultpoint

#: Coercion, elements discarded, data set does not match SOP class: the object is stored (PS3.4 B.2.3).
STORED_WITH_WARNING = {0xB000, 0xB006, 0xB007}
#: Duplicate SOP instance (PS3.7 C.5.5): the peer has it from an earlier attempt, for no other object of
#: ours has the same UID.
STORED_BEFORE = 0x0111

_TRANSIENT = 2
#: Results of a rejected association: for good, and for now (PS3.8 9.3.4).
_REJECTED = (1, _TRANSIENT)


class Destination(Protocol):
    """Where to send."""

    @property
    def ae_title(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def tls(self) -> bool: ...
    @property
    def certificate(self) -> str: ...


@dataclass(frozen=True)
class Address:
    """Where to send, where no route says it."""

    ae_title: str
    host: str
    port: int
    tls: bool = False
    #: With TLS: the name that the peer's certificate must bear; empty: the host.
    certificate: str = ""


@dataclass(frozen=True)
class Sent:
    """An object that the destination has acknowledged."""

    sop_instance_uid: str
    #: The DIMSE status: 0x0000, or a warning under which the object is stored all the same.
    status: int


class ObjectPostponed(PeerUnavailable):
    """The peer is out of resources and cannot store the object now (0xA7xx)."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ObjectRefused(PeerRefused):
    """The peer will not store the object, and says so with a status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def send(
    destination: Destination,
    calling_ae: str,
    paths: Sequence[Path],
    timeout_seconds: float,
    credentials: Credentials | None = None,
    scratch: Path | None = None,
) -> Iterator[Sent]:
    """Send part-10 files over one association, and yield each object when it is acknowledged.

    credentials: for a destination that is called over TLS.
    timeout_seconds: how long to wait for the connection, for each answer, and for any progress.
    scratch: as of `store`.
    A file goes out as it is, or in little endian without compression if the peer takes no other form.
    Raises PeerUnavailable (unreachable, aborted, silent, out of resources) or PeerRefused (rejected, no
    presentation context, any other failure) at the first object that was not acknowledged; those before it
    were. DamagedObject for a file that cannot be sent at all.
    """
    files = [identified(path) for path in paths]
    contexts = contexts_for(files)
    with associated(destination, calling_ae, contexts, timeout_seconds, credentials=credentials) as association:
        for number, file in enumerate(files, start=1):
            faultpoint("delivery.sending")
            status = store(association, file, number, _address(destination), scratch=scratch)
            if status in STORED_WITH_WARNING or status in (0x0000, STORED_BEFORE):
                yield Sent(file.sop_instance_uid, status)
            elif status & 0xFF00 == 0xA700:
                raise ObjectPostponed(f"{destination.ae_title} is out of resources (0x{status:04X}).", status)
            else:
                raise ObjectRefused(f"{destination.ae_title} refused the object with status 0x{status:04X}.", status)


def echo(
    destination: Destination, calling_ae: str, timeout_seconds: float, credentials: Credentials | None = None
) -> None:
    """Verify that a peer answers (C-ECHO, PS3.4 A); raises PeerUnavailable or PeerRefused."""
    contexts = [build_context(Verification, list(UNCOMPRESSED))]
    with associated(destination, calling_ae, contexts, timeout_seconds, credentials=credentials) as association:
        status = status_of(association.send_c_echo(), destination)
        if status != 0x0000:
            raise PeerRefused(f"{destination.ae_title} answered the C-ECHO with status 0x{status:04X}.")


@contextmanager
def associated(
    destination: Destination,
    calling_ae: str,
    contexts: list[PresentationContext],
    timeout_seconds: float,
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
    credentials: Credentials | None = None,
) -> Iterator[Association]:
    """An association that this node opens and in the end releases, or aborts after an error.

    roles: what is proposed where the node is not the SCU (PS3.7 D.3.3.4).
    credentials: for a destination that is called over TLS; without them nothing goes there.
    Raises PeerUnavailable (unreachable, not secured, silent) or PeerRefused (rejected, no presentation context).
    """
    if destination.tls and credentials is None:
        # Not for good: what waits goes out when the settings name a certificate.
        raise PeerUnavailable(
            f"{_address(destination)} is called over TLS, and the settings have no `tls.certificate`."
        )
    quiet_library()
    faults: list[NotSecured] = []
    ae = AE(calling_ae)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = timeout_seconds
    # Each answer has its time; that of a large object begins when all of it is sent.
    ae.network_timeout = None
    try:
        association = ae.associate(
            destination.host,
            destination.port,
            contexts=contexts,
            ae_title=destination.ae_title,
            ext_neg=list(roles),
            evt_handlers=[(evt.EVT_CONN_OPEN, partial(_opened, destination, timeout_seconds, credentials, faults))],
        )
    except OSError as error:
        raise PeerUnavailable(f"{_address(destination)} cannot be found: {error.strerror}.") from error
    try:
        if not association.is_established:
            raise _why_not(association, destination, faults)
        association.dimse.get_msg = partial(_answer, association.dimse.get_msg)
        yield association
        association.release()
    finally:
        if association.is_established:
            association.abort()
        association.kill()


def status_of(answer: Dataset, destination: Destination) -> int:
    """The status that a peer answered; PeerUnavailable without an answer."""
    return _status(answer, _address(destination))


@dataclass(frozen=True)
class StoredPart10:
    """A file that can be sent, by its File Meta Information."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    #: Bytes of preamble and File Meta Information before the data set.
    data_set_begins: int


def identified(path: Path) -> StoredPart10:
    """What a file is; DamagedObject for one that says nothing of it."""
    try:
        meta, begins = split_dataset(path)
        return StoredPart10(
            path,
            UID(meta.MediaStorageSOPClassUID),
            UID(meta.MediaStorageSOPInstanceUID),
            UID(meta.TransferSyntaxUID),
            begins,
        )
    except Exception as error:
        # Foreign bytes can do anything to the parser; the file cannot be sent.
        raise DamagedObject(f"{path} is not a DICOM file with a header.") from error


def contexts_for(files: Sequence[StoredPart10]) -> list[PresentationContext]:
    """For each SOP class a context of its own for each transfer syntax, so that the peer cannot choose one
    of them and thereby decline the others."""
    wanted: dict[tuple[UID, UID], None] = {}
    for file in files:
        for syntax in (file.transfer_syntax_uid, *UNCOMPRESSED):
            wanted[file.sop_class_uid, syntax] = None
    return [build_context(sop_class, syntax) for sop_class, syntax in wanted]


def store(
    association: Association,
    file: StoredPart10,
    number: int,
    who: str,
    moved_for: tuple[str, int] | None = None,
    scratch: Path | None = None,
) -> int:
    """Send a file over an association; the status that the peer answers.

    number: counts the requests of the association. who: the peer, in words. moved_for: the AE title that asked for a
        C-MOVE, and its Message ID (PS3.7 9.1.1.1.8). scratch: the folder for what has to be written anew; unset: the
        system's for temporary files.
    The file goes out as it is, or in little endian without compression if the peer takes no other form.
    Raises PeerUnavailable without an answer, PeerRefused if the peer takes the object in no form, DamagedObject for a
    file that is gone, StorageUnavailable where it cannot be written anew.
    """
    contexts = {
        UID(context.transfer_syntax[0]): context.context_id
        for context in association.accepted_contexts
        if context.abstract_syntax == file.sop_class_uid and context.as_scu
    }
    request = OutgoingRequest(
        message_id=(number - 1) % 65535 + 1,
        sop_class_uid=file.sop_class_uid,
        sop_instance_uid=file.sop_instance_uid,
        moved_for=moved_for,
    )
    syntax: UID | None = file.transfer_syntax_uid
    source, padding = (file.path, file.data_set_begins), b""
    with ExitStack() as copies:
        if syntax in contexts:
            # Of an odd length a deflated stream is padded by a null (PS3.5 A.5); some writers do not, and peers abort.
            padding = b"\0" if _is_odd(file) else b""
        else:
            syntax = next((each for each in contexts if each in UNCOMPRESSED), None)
            if syntax is None:
                form = f"{file.sop_class_uid.name} in {file.transfer_syntax_uid.name}"
                raise PeerRefused(f"{who} does not take {form}.")
            source = copies.enter_context(_decompressed(file, syntax, scratch))
        if not association.is_established:
            raise PeerUnavailable(f"{who} ended the association.")
        # Not pynetdicom's `send_c_store`: it reads the header once more, and stops the association's thread first.
        write_request(association, contexts[syntax], request, *source, padding)
    _, answer = association.dimse.get_msg(block=True)
    if not isinstance(answer, C_STORE) or not answer.is_valid_response:
        association.abort()
        raise PeerUnavailable(f"{who} ended the association or did not answer in time.")
    return int(answer.Status)


def _opened(
    destination: Destination,
    timeout_seconds: float,
    credentials: Credentials | None,
    faults: list[NotSecured],
    event: evt.Event,
) -> None:
    """Set up a connection before anything goes over it, and secure it if it is to be.

    One that cannot be secured is closed, and left to pynetdicom to be found so.
    """
    wrapper = event.assoc.dul.socket
    # A small unit is not to wait for the acknowledgement of the one before, nor a dead peer to hold us.
    wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if destination.tls and credentials is not None:
        name = destination.certificate or destination.host
        try:
            wrapper.socket = credentials.connect(wrapper.socket, destination.host, name)
        except NotSecured as error:
            faults.append(error)
            return
    wrapper.socket.settimeout(timeout_seconds)
    Wire(event.assoc, _address(destination))


def _answer(get_msg: Callable[[bool], tuple[Any, Any]], block: bool = False) -> tuple[Any, Any]:
    """What the peer sends, for whoever waits for an answer.

    The association's own thread, which does not wait, would now and then take the answer away (what it may be asked
    for, N-EVENT-REPORT, pynetdicom serves elsewhere).
    """
    return get_msg(True) if block else (None, None)


def _why_not(
    association: Association, destination: Destination, faults: list[NotSecured]
) -> PeerUnavailable | PeerRefused:
    if faults:
        # An administrator may mend it within the day.
        return PeerUnavailable(f"{_address(destination)} cannot be called over TLS: {faults[0]}")
    answer = association.acceptor.primitive or _unread(association)
    if answer is not None and answer.result in _REJECTED:
        said = f"{_address(destination)} rejected the association: {answer.reason_str}."
        return PeerUnavailable(said) if answer.result == _TRANSIENT else PeerRefused(said)
    if answer is not None and answer.result == 0x00:
        return PeerRefused(f"{_address(destination)} accepts none of the presentation contexts proposed.")
    return PeerUnavailable(f"{_address(destination)} cannot be reached, or does not answer.")


def _unread(association: Association) -> A_ASSOCIATE | None:
    """What the peer has answered where it has closed the connection at once: pynetdicom sees that first, at times."""
    try:
        left = association.dul.to_user_queue.get_nowait()
    except Empty:
        return None
    return left if isinstance(left, A_ASSOCIATE) else None


def _is_odd(file: StoredPart10) -> bool:
    """Whether it is deflated, and of an odd length."""
    deflated = file.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    return deflated and (file.path.stat().st_size - file.data_set_begins) % 2 == 1


@contextmanager
def _decompressed(file: StoredPart10, syntax: UID, scratch: Path | None) -> Iterator[tuple[Path, int]]:
    """A copy for now in little endian without compression, with implicit or explicit VR as was accepted.

    Its path, and where in it the data set begins.
    """
    with ExitStack() as stack:
        try:
            plain = Path(stack.enter_context(NamedTemporaryFile(dir=scratch, prefix="plain-")).name)
            write_uncompressed(file.path, plain, syntax)
        except UnsupportedImage as error:
            form = file.transfer_syntax_uid.name
            raise PeerRefused(f"The peer does not take the object in {form}. {error}") from error
        except OSError as error:
            raise StorageUnavailable(f"A copy cannot be written to the disk: {error.strerror}.") from error
        yield plain, identified(plain).data_set_begins


def _status(answer: Dataset, who: str) -> int:
    if "Status" not in answer:
        raise PeerUnavailable(f"{who} ended the association or did not answer in time.")
    return int(answer.Status)


def _address(destination: Destination) -> str:
    return f"{destination.ae_title} at {destination.host}:{destination.port}"
