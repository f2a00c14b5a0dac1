"""An association server for the storage service (PS3.4 B), on which the listener and the archive stand.

pynetdicom speaks the protocol; here is what a node needs beyond it: data sets that go straight to the disk,
admission by more than AE titles, an end of each association that is told once, and no waiting for ever.
"""

import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from socketserver import BaseServer
from typing import Any, Protocol

import structlog
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from config.errors import StorageUnavailable
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.network.contexts import in_the_order_of, in_the_roles_of
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest, StreamedMessages, file_of, printable
from dicom_node.network.receiving import Receiving
from dicom_node.network.tls import Credentials, NotSecured, names_shown
from dicom_node.network.wire import Wire

log = structlog.get_logger()

#: Seconds without a byte after which a peer counts as gone.
IDLE_SECONDS = 60.0

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
class Terms:
    """On what terms an association is accepted."""

    #: Largest protocol data unit that the peer may send, in bytes.
    max_pdu: int = 131072
    #: Bytes of the largest object that it may send; None for any.
    largest_object: int | None = None
    #: Transfer syntaxes to be accepted before others, the most wanted first.
    preferred: tuple[UID, ...] = ()


#: Serves a request; called with the association, the primitive, and the presentation context.
Request = Callable[[Association, Any, PresentationContext], None]


@dataclass(frozen=True, kw_only=True)
class FurtherService:
    """A service beside storage: what is negotiated for it, and what serves it."""

    contexts: tuple[PresentationContext, ...]
    #: Of pynetdicom: an event and what is called for it, in the thread of the association.
    handlers: tuple[tuple[Any, Callable[[evt.Event], Any]], ...] = ()
    #: Requests that it answers by itself, by pynetdicom's type of their primitive, in the same thread.
    requests: Mapping[type[Any], Request] = field(default_factory=dict)


class StorageService(Protocol):
    """What a server does with associations and objects; called in the thread of the association."""

    def not_secured(self, address: str, reason: str) -> None:
        """A peer opened a connection for TLS, and the handshake failed; the connection is closed."""

    def admit(self, peer: Peer) -> Terms | Rejection:
        """Whether the peer may open an association, and on what terms; `ended` is called when it is over."""

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
    """Listens and serves associations, each in threads of its own.

    port: for associations without TLS, 0 for one of the system's choice, None for none.
    tls_port, credentials: for associations over TLS; None for none.
    """

    def __init__(
        self,
        service: StorageService,
        *,
        ae_title: str,
        host: str,
        port: int | None,
        contexts: list[PresentationContext],
        receiving: Receiving,
        further: Sequence[FurtherService] = (),
        tls_port: int | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._service = service
        self._host = host
        self._ports: dict[int, Credentials | None] = {} if port is None else {port: None}
        if tls_port is not None and credentials is not None:
            self._ports[tls_port] = credentials
        self._contexts = [*contexts, *(context for service in further for context in service.contexts)]
        self._further = further
        self._receiving = receiving
        self._ae = AE(ae_title)
        self._ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # The service decides on the number of associations, so that a refusal is accounted for.
        self._ae.maximum_associations = 1 << 20
        self._ae.network_timeout = IDLE_SECONDS
        #: The ids of the associations that were admitted and have not ended, over all ports.
        self._open: set[str] = set()
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []

    @property
    def contexts(self) -> tuple[PresentationContext, ...]:
        """What peers can negotiate here."""
        return tuple(self._contexts)

    @property
    def open_associations(self) -> int:
        """How many associations were admitted and have not ended, over all ports."""
        return len(self._open)

    @property
    def port(self) -> int:
        """The first TCP port that is listened on; the system's choice if it was to be 0."""
        return int(self._servers[0].server_address[1]) if self._servers else next(iter(self._ports))

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if an address cannot be listened on."""
        quiet_library()
        try:
            for port, credentials in self._ports.items():
                self._servers.append(self._listening_on(port, credentials))
        except StorageUnavailable:
            while self._servers:
                self._servers.pop().server_close()
            raise
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="listener", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _listening_on(self, port: int, credentials: Credentials | None) -> "_Server":
        handlers = [
            (evt.EVT_REQUESTED, partial(_requested, self._service)),
            (evt.EVT_ACCEPTED, partial(_accepted, self._service)),
            (evt.EVT_C_STORE, partial(_store, self._service)),
            *(handler for service in self._further for handler in service.handlers),
        ]
        try:
            server: _Server = self._ae.make_server(
                (self._host, port),
                contexts=self._contexts,
                evt_handlers=handlers,
                server_class=_Server,
                request_handler=_Connection,
                service=self._service,
                receiving=self._receiving,
                still_open=self._open,
                credentials=credentials,
                requests={kind: serve for service in self._further for kind, serve in service.requests.items()},
            )
        except OSError as error:
            raise StorageUnavailable(f"Cannot listen on {self._host}, port {port}: {error.strerror}.") from error
        return server

    def stop(self, grace_seconds: float = 10) -> None:
        """Listen no more, let open associations come to their end for a while, then abort them."""
        servers, self._servers = self._servers, []
        threads, self._threads = self._threads, []
        for server, thread in zip(servers, threads, strict=True):
            BaseServer.shutdown(server)
            server.server_close()
            thread.join()
        end = time.monotonic() + grace_seconds
        active = [association for server in servers for association in server.active_associations]
        for association in active:
            if not association.is_established:
                association.dul.socket.close()
                continue
            association.join(max(0.0, end - time.monotonic()))
        aborted = [association for association in active if association.is_established]
        for association in aborted:
            association.abort()
        end = time.monotonic() + grace_seconds
        for association in aborted:
            association.join(max(0.0, end - time.monotonic()))


def quiet_library() -> None:
    """Tell pynetdicom not to format each message for its log, and to send files as they are."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.STORE_SEND_CHUNKED_DATASET = True


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    request_queue_size = 128
    #: A handshake that is under way holds up no end of the process.
    daemon_threads = True

    def __init__(
        self,
        *args: Any,
        service: StorageService,
        receiving: Receiving,
        requests: Mapping[type[Any], Request],
        still_open: set[str],
        credentials: Credentials | None,
        **more: Any,
    ) -> None:
        self.service = service
        self.receiving = receiving
        self.requests = requests
        self.open = still_open
        self.credentials = credentials
        super().__init__(*args, **more)
        self.contexts: list[PresentationContext] = _Shared(vars(self)["contexts"])


class _Shared(list[PresentationContext]):
    """What nobody changes: pynetdicom would copy some hundred contexts for each association."""

    def __deepcopy__(self, _: object) -> list[PresentationContext]:
        return list(self)


class _Connection(RequestHandler):  # type: ignore[misc]
    """Makes the association of a connection, with our reader in it, in a thread of its own."""

    request: socket.socket

    def handle(self) -> None:
        """Secure the connection if it is to be, and begin to serve it."""
        if self.server.credentials is not None:
            try:
                self.request = self.server.credentials.accept(self.request)
            except NotSecured as error:
                self.server.service.not_secured(self.client_address[0], str(error))
                return
        super().handle()

    def _create_association(self) -> Association:
        association = super()._create_association()
        service: StorageService = self.server.service
        # A peer that stops in the middle of a data unit would hold its thread for ever. And the answer to a
        # request is not to wait until the peer's system has acknowledged what was sent before.
        self.request.settimeout(IDLE_SECONDS)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Wire(association, "The peer")
        association.dimse = StreamedMessages(association, self.server.receiving, service.has_room, service.refuse)
        association._serve_request = partial(_serve, association, association._serve_request, self.server.requests)
        association.run = partial(_run_to_the_end, association, association.run, service, self.server.open)
        return association


def _serve(
    association: Association,
    serve_usually: Callable[[Any, int], None],
    requests: Mapping[type[Any], Request],
    message: Any,
    context_id: int,
) -> None:
    """Serve a request as pynetdicom does, or have the service that answers it by itself do so."""
    serve, context = requests.get(type(message)), association._accepted_cx.get(context_id)
    if serve is None or context is None or not message.is_valid_request:
        serve_usually(message, context_id)
        return
    association.dimse.cancel_req = {}
    # Says that requests may be sent meanwhile.
    association._is_paused = True
    try:
        serve(association, message, context)
    except Exception:
        log.exception("a request could not be served")
        association.abort()
    finally:
        association._is_paused = False
        association.dimse.cancel_req = {}


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
        certificate=names_shown(association.dul.socket.socket),
    )
    association.dimse.peer = peer
    still_open = association._server.open
    try:
        answer = service.admit(peer)
    except Exception:
        # pynetdicom would log the error and let the peer in.
        log.exception("an association could not be judged")
        answer = Rejection(*_NO_REASON_GIVEN, "An internal error; the log has it.")
    if isinstance(answer, Rejection):
        association.acse.send_reject(answer.result, answer.source, answer.diagnostic)
        association.kill()
        return
    still_open.add(peer.association_id)
    association.acceptor.maximum_length = answer.max_pdu
    association.dimse.largest_object = answer.largest_object
    offered = {uid for uid, role in association.requestor.role_selection.items() if role.scp_role}
    association.acceptor.supported_contexts = in_the_order_of(
        request.presentation_context_definition_list,
        in_the_roles_of(offered, association.acceptor.supported_contexts),
        answer.preferred,
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
