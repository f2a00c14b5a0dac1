"""An association server for the storage service (PS3.4 B), on which the listener and the archive stand.

pynetdicom speaks the protocol; here is what a node needs beyond it: data sets that go straight to the disk,
admission by more than AE titles, an end of each association that is told once, and no waiting for ever.
"""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socketserver import BaseServer
from typing import Any, Protocol

import structlog
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from config.errors import StorageUnavailable
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.network.contexts import in_the_order_of
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest, StreamedMessages, file_of, printable

log = structlog.get_logger()

#: Seconds without a byte after which a peer counts as gone.
IDLE_SECONDS = 60.0

#: A larger protocol data unit than this is no mistake about the maximum, it is an attack or garbage.
_LARGEST_PDU = 16 << 20

#: The state machine's event of an unrecognised or invalid PDU (PS3.8 table 9-10).
_INVALID_PDU = "Evt19"

#: Rejected for now by the service user (PS3.8 9.3.4).
_NO_REASON_GIVEN = (2, 1, 1)


@dataclass(frozen=True)
class Rejection:
    """Why an association is not accepted (PS3.8 9.3.4)."""

    result: int
    source: int
    diagnostic: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FurtherService:
    """A service beside storage: what is negotiated for it, and what serves it."""

    contexts: tuple[PresentationContext, ...]
    #: Of pynetdicom: an event and what is called for it, in the thread of the association.
    handlers: tuple[tuple[Any, Callable[[evt.Event], Any]], ...]


class StorageService(Protocol):
    """What a server does with associations and objects; called in the thread of the association."""

    def admit(self, peer: Peer, open_associations: int) -> Rejection | None:
        """Whether the peer may open an association, beside those that are open."""

    def contexts_refused(self, peer: Peer, sop_classes: list[str]) -> None:
        """The association has begun without these SOP classes, which the peer proposed."""

    def has_room(self) -> bool:
        """Whether there is room for a data set."""

    def store(self, request: StoreRequest, file: IncomingFile) -> int:
        """Keep an object; the status to be answered. The file is deleted afterwards if it is still there."""

    def refuse(self, request: StoreRequest) -> int:
        """Refuse an object of a SOP class that its presentation context is not for; the status."""

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """The association is over; `incomplete` objects were underway and are dropped."""


class StorageServer:
    """Listens on a port and serves associations, each in threads of its own."""

    def __init__(
        self,
        service: StorageService,
        *,
        ae_title: str,
        host: str,
        port: int,
        contexts: list[PresentationContext],
        incoming: Path,
        max_pdu: int,
        further: Sequence[FurtherService] = (),
    ) -> None:
        self._service = service
        self._address = (host, port)
        self._contexts = [*contexts, *(context for service in further for context in service.contexts)]
        self._further = further
        self._incoming = incoming
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._ae.maximum_pdu_size = max_pdu
        # The service decides on the number of associations, so that a refusal is accounted for.
        self._ae.maximum_associations = 1 << 20
        self._ae.network_timeout = IDLE_SECONDS
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port that is listened on; the system's choice if it was to be 0."""
        return int(self._server.server_address[1]) if self._server is not None else self._address[1]

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if the address cannot be listened on."""
        quiet_library()
        handlers = [
            (evt.EVT_REQUESTED, partial(_requested, self._service)),
            (evt.EVT_ACCEPTED, partial(_accepted, self._service)),
            (evt.EVT_C_STORE, partial(_store, self._service)),
            *(handler for service in self._further for handler in service.handlers),
        ]
        try:
            self._server = self._ae.make_server(
                self._address,
                contexts=self._contexts,
                evt_handlers=handlers,
                server_class=_Server,
                request_handler=_Connection,
                service=self._service,
                incoming=self._incoming,
            )
        except OSError as error:
            host, port = self._address
            raise StorageUnavailable(f"Cannot listen on {host}, port {port}: {error.strerror}.") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="listener", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float = 10) -> None:
        """Listen no more, let open associations come to their end for a while, then abort them."""
        if self._server is None or self._thread is None:
            return
        server, self._server = self._server, None
        BaseServer.shutdown(server)
        server.server_close()
        self._thread.join()
        end = time.monotonic() + grace_seconds
        for association in server.active_associations:
            if not association.is_established:
                association.dul.socket.close()
                continue
            association.join(max(0.0, end - time.monotonic()))
        aborted = [association for association in server.active_associations if association.is_established]
        for association in aborted:
            association.abort()
        end = time.monotonic() + grace_seconds
        for association in aborted:
            association.join(max(0.0, end - time.monotonic()))


def quiet_library() -> None:
    """Tell pynetdicom not to format each message for its log, and to send files as they are."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_SEND_CHUNKED_DATASET = True


def _read_exactly(dul: Any, connection: socket.socket, length: int) -> bytearray:
    """Read from a connection into one buffer; fewer bytes if it ends before (PS3.8 9.3.1).

    A PDU that claims to be far too long is invalid, and the peer is told so by an A-ABORT (PS3.8 9.2.3).
    """
    if length > _LARGEST_PDU:
        dul.event_queue.put(_INVALID_PDU)
        raise OSError(f"A protocol data unit of {length} bytes is too large.")
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = connection.recv_into(view[filled:])
        if count == 0:
            break
        filled += count
    view.release()
    del data[filled:]
    return data


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 128

    def __init__(self, *args: Any, service: StorageService, incoming: Path, **more: Any) -> None:
        self.service = service
        self.incoming = incoming
        #: The ids of the associations that were admitted and have not ended.
        self.open: set[str] = set()
        super().__init__(*args, **more)


class _Connection(RequestHandler):  # type: ignore[misc]
    """Makes the association of a connection, with our reader in it."""

    def _create_association(self) -> Association:
        association = super()._create_association()
        service: StorageService = self.server.service
        # A peer that stops in the middle of a data unit would hold its thread for ever. And the answer to a
        # request is not to wait until the peer's system has acknowledged what was sent before.
        self.request.settimeout(IDLE_SECONDS)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        association.dul.socket.recv = partial(_read_exactly, association.dul, self.request)
        association.dimse = StreamedMessages(association, self.server.incoming, service.has_room, service.refuse)
        association.run = partial(_run_to_the_end, association, association.run, service, self.server.open)
        return association


def _run_to_the_end(
    association: Association, run: Callable[[], None], service: StorageService, still_open: set[str]
) -> None:
    try:
        run()
    finally:
        messages: StreamedMessages = association.dimse
        incomplete = messages.discard_unserved()
        peer = messages.peer
        if peer is not None and peer.association_id in still_open:
            still_open.discard(peer.association_id)
            service.ended(peer, released=association.is_released, incomplete=incomplete)


def _requested(service: StorageService, event: evt.Event) -> None:
    association = event.assoc
    request = association.requestor.primitive
    peer = Peer(
        calling_ae=printable(request.calling_ae_title),
        called_ae=printable(request.called_ae_title),
        address=str(association.requestor.address),
        association_id=uuid.uuid4().hex[:16],
    )
    association.dimse.peer = peer
    still_open = association._server.open
    try:
        rejection = service.admit(peer, len(still_open))
    except Exception:
        # pynetdicom would log the error and let the peer in.
        log.exception("an association could not be judged")
        rejection = Rejection(*_NO_REASON_GIVEN, "An internal error; the log has it.")
    if rejection is not None:
        association.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        association.kill()
        return
    still_open.add(peer.association_id)
    association.acceptor.supported_contexts = in_the_order_of(
        request.presentation_context_definition_list, association.acceptor.supported_contexts
    )


def _accepted(service: StorageService, event: evt.Event) -> None:
    association = event.assoc
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    refused = {context.abstract_syntax for context in association.rejected_contexts} - accepted
    if refused:
        service.contexts_refused(association.dimse.peer, sorted(str(uid) for uid in refused))


def _store(service: StorageService, event: evt.Event) -> int:
    file = file_of(event.request)
    try:
        return service.store(event.assoc.dimse.request_of(event.request, event.context.transfer_syntax), file)
    finally:
        file.discard()
