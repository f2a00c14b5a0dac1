"""The listener: modalities push to it over associations (PS3.4 A and B); what they send, `intake.py` keeps."""

import uuid
from collections.abc import Sequence

import structlog
from pynetdicom.presentation import PresentationContext

from config.listener import ListenerSettings
from dicom_node.audit import Action
from dicom_node.network.contexts import accepted_contexts
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest
from dicom_node.network.intake import Intake
from dicom_node.network.server import FurtherService, Rejection, StorageServer, Terms
from dicom_node.network.statuses import Status
from dicom_node.network.titles import Title
from dicom_node.network.tls import Credentials

log = structlog.get_logger()

_CALLED_AE_UNKNOWN = (1, 1, 7)

#: SOP classes that one audit row names.
_MOST_NAMED = 16


class Listener:
    """A C-STORE and C-ECHO SCP.

    further: what else is served over the same associations.
    credentials: for the port of associations over TLS, if the settings name one.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        intake: Intake,
        further: Sequence[FurtherService] = (),
        credentials: Credentials | None = None,
    ) -> None:
        self._settings = settings
        self._titles = {title.ae_title: Title(title) for title in settings.every_title}
        self._intake = intake
        self._server = StorageServer(
            self,
            ae_title=settings.ae_title,
            host=settings.host,
            port=settings.port or None,
            contexts=accepted_contexts(),
            receiving=intake.receiving,
            further=further,
            tls_port=settings.tls_port,
            credentials=credentials,
        )

    @property
    def contexts(self) -> tuple[PresentationContext, ...]:
        """What peers can negotiate here."""
        return self._server.contexts

    @property
    def open_associations(self) -> int:
        """How many associations peers have open."""
        return self._server.open_associations

    @property
    def port(self) -> int:
        """The TCP port that is listened on; that for TLS if there is no other."""
        return self._server.port

    @property
    def tls_port(self) -> int | None:
        """The TCP port for associations over TLS."""
        return self._settings.tls_port

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if the address cannot be listened on."""
        self._server.start()
        settings = self._settings
        tls = {"tls_port": settings.tls_port} if settings.tls_port is not None else {}
        log.info("listening", ae_titles=list(self._titles), host=settings.host, port=settings.port, **tls)

    def stop(self, grace_seconds: float = 10) -> None:
        """Accept no more associations, and abort those that have not ended when the time is over."""
        self._server.stop(grace_seconds)
        self._intake.write_late_entries()

    # What the server asks, as a StorageService.

    def not_secured(self, address: str, reason: str) -> None:
        """Account for a connection that did not become one over TLS."""
        log.warning("connection not secured", address=address, reason=reason)
        peer = Peer(calling_ae="", called_ae="", address=address, association_id=uuid.uuid4().hex[:16])
        self._intake.account(Action.CONNECTION_NOT_SECURED, peer, "refused", reason=reason)

    def admit(self, peer: Peer) -> Terms | Rejection:
        """Whether a peer may come in: by the title it calls, its own title, its address, and our room."""
        answer = self._answer(peer)
        if isinstance(answer, Rejection):
            log.warning("association refused", calling_ae=peer.calling_ae, reason=answer.reason)
            self._intake.account(Action.ASSOCIATION_REFUSED, peer, "refused", reason=answer.reason)
        return answer

    def contexts_refused(self, peer: Peer, sop_classes: list[str]) -> None:
        """Account for the SOP classes that a peer proposed and will not be able to send."""
        self._intake.account(
            Action.CONTEXTS_REFUSED,
            peer,
            "refused",
            reason=f"{len(sop_classes)} of the SOP classes proposed are not received here.",
            sop_class_uids=sop_classes[:_MOST_NAMED],
        )

    def has_room(self) -> bool:
        """Whether more may be received."""
        return self._intake.has_room()

    def store(self, request: StoreRequest, file: IncomingFile) -> int:
        """Keep an object when it is its turn and answer success, or say why not."""
        self._titles[request.peer.called_ae].wait_for_turn(request.peer)
        return self._intake.store(request, file)

    def refuse(self, request: StoreRequest) -> int:
        """Refuse an object of another SOP class than that which was negotiated."""
        reason = "The SOP class is not that of the presentation context."
        return self._intake.refuse(request, Status.SOP_CLASS_NOT_SUPPORTED, reason)

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """Pass on which series an association brought objects of, whether it was released or lost."""
        self._titles[peer.called_ae].left(peer)
        self._intake.ended(peer, released=released, incomplete=incomplete)

    def _answer(self, peer: Peer) -> Terms | Rejection:
        title = self._titles.get(peer.called_ae)
        if title is None:
            return Rejection(*_CALLED_AE_UNKNOWN, f"It called {peer.called_ae!r}, which is not our AE title.")
        return title.admit(peer)
