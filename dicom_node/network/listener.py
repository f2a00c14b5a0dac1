"""The listener: modalities push to it over associations (PS3.4 A and B); what they send, `intake.py` keeps."""

import uuid
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import structlog
from pynetdicom.presentation import PresentationContext

from config.settings import AllowedPeer, ListenerSettings
from dicom_node.audit import Action
from dicom_node.network.contexts import accepted_contexts
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest
from dicom_node.network.intake import Intake
from dicom_node.network.server import FurtherService, Rejection, StorageServer
from dicom_node.network.statuses import Status
from dicom_node.network.tls import Credentials, bears

log = structlog.get_logger()

_CALLING_AE_UNKNOWN = (1, 1, 3)
_CALLED_AE_UNKNOWN = (1, 1, 7)
_TOO_MANY = (2, 3, 2)

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
        self._intake = intake
        self._server = StorageServer(
            self,
            ae_title=settings.ae_title,
            host=settings.host,
            port=settings.port or None,
            contexts=accepted_contexts(),
            incoming=intake.incoming,
            max_pdu=settings.max_pdu,
            further=further,
            tls_port=settings.tls_port,
            credentials=credentials,
        )

    @property
    def contexts(self) -> tuple[PresentationContext, ...]:
        """What peers can negotiate here."""
        return self._server.contexts

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
        log.info("listening", ae_title=settings.ae_title, host=settings.host, port=settings.port, **tls)

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

    def admit(self, peer: Peer, open_associations: int) -> Rejection | None:
        """Whether a peer may come in: by the title it calls, its own title, its address, and our room."""
        rejection = self._rejection(peer, open_associations)
        if rejection is not None:
            log.warning("association refused", calling_ae=peer.calling_ae, reason=rejection.reason)
            self._intake.account(Action.ASSOCIATION_REFUSED, peer, "refused", reason=rejection.reason)
        return rejection

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
        """Keep an object and answer success, or say why not."""
        return self._intake.store(request, file)

    def refuse(self, request: StoreRequest) -> int:
        """Refuse an object of another SOP class than that which was negotiated."""
        reason = "The SOP class is not that of the presentation context."
        return self._intake.refuse(request, Status.SOP_CLASS_NOT_SUPPORTED, reason)

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """Pass on which series an association brought objects of, whether it was released or lost."""
        self._intake.ended(peer, released=released, incomplete=incomplete)

    def _rejection(self, peer: Peer, open_associations: int) -> Rejection | None:
        settings = self._settings
        if peer.called_ae != settings.ae_title:
            return Rejection(*_CALLED_AE_UNKNOWN, f"It called {peer.called_ae!r}, which is not our AE title.")
        titled = [allowed for allowed in settings.allow if allowed.ae_title == peer.calling_ae]
        if settings.allow and not titled:
            return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not in the list of allowed systems.")
        here = [allowed for allowed in titled if may_call_from(allowed, peer.address)]
        if titled and not here:
            return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not allowed from its address.")
        if here and not any(shows_what_it_must(allowed, peer) for allowed in here):
            return Rejection(*_CALLING_AE_UNKNOWN, _not_shown(here, peer))
        if open_associations >= settings.max_associations:
            return Rejection(*_TOO_MANY, f"{open_associations} associations are open already.")
        return None


def may_call_from(allowed: AllowedPeer, address: str) -> bool:
    """Whether a system may call from an address, by its entry in the settings."""
    if not allowed.addresses:
        return True
    called_from = ip_address(address.partition("%")[0])
    return any(called_from in ip_network(network, strict=False) for network in allowed.addresses)


def shows_what_it_must(allowed: AllowedPeer, peer: Peer) -> bool:
    """Whether a peer has shown the certificate that its entry in the settings asks for, if it asks for one."""
    return allowed.certificate is None or bears(peer.certificate or (), allowed.certificate)


def _not_shown(titled: Sequence[AllowedPeer], peer: Peer) -> str:
    asked = " or ".join(allowed.certificate for allowed in titled if allowed.certificate is not None)
    if peer.certificate is None:
        return f"Its AE title is allowed over TLS only, with the certificate of {asked}."
    return f"Its AE title is allowed with the certificate of {asked}, not with that of {' or '.join(peer.certificate)}."
