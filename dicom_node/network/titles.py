"""An AE title of the listener: who is let in to it, and how much it takes of them (PS3.8 9.3.4)."""

import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import structlog
from pydicom.uid import UID

from config.listener import AllowedPeer, TitleSettings
from dicom_node.network.contexts import TRANSFER_SYNTAXES
from dicom_node.network.incoming import Peer
from dicom_node.network.pace import Pace
from dicom_node.network.server import Rejection, Terms
from dicom_node.network.tls import bears

log = structlog.get_logger()

_CALLING_AE_UNKNOWN = (1, 1, 3)
_TOO_MANY = (2, 3, 2)

#: Peers give up an answer after half a minute or so. When answers are held back for longer than this, nobody else
#: is let in to wait for one.
_LONGEST_WAIT = 10.0

_BY_KEYWORD: dict[str, UID] = {syntax.keyword: syntax for syntax in TRANSFER_SYNTAXES}


class Title:
    """What holds for one title, and the associations that are open with it."""

    def __init__(self, settings: TitleSettings) -> None:
        self._settings = settings
        self._pace = Pace(settings.max_objects_per_second)
        self._open: set[str] = set()
        self._lock = threading.Lock()

    def admit(self, peer: Peer) -> Terms | Rejection:
        """The terms on which a peer comes in, from now to `left`; or why it does not."""
        settings = self._settings
        entry = _entry_of(settings.allow, peer)
        if isinstance(entry, Rejection):
            return entry
        if self._pace.behind > _LONGEST_WAIT:
            return Rejection(*_TOO_MANY, "More objects come than are acknowledged in time (`max_objects_per_second`).")
        with self._lock:
            if len(self._open) >= settings.max_associations:
                return Rejection(*_TOO_MANY, f"{len(self._open)} associations are open already.")
            self._open.add(peer.association_id)
        return Terms(
            max_pdu=settings.max_pdu,
            largest_object=settings.max_object_mb << 20 if settings.max_object_mb is not None else None,
            preferred=tuple(_BY_KEYWORD[keyword] for keyword in entry.transfer_syntaxes) if entry is not None else (),
        )

    def left(self, peer: Peer) -> None:
        """The association of a peer has ended."""
        with self._lock:
            self._open.discard(peer.association_id)

    def wait_for_turn(self, peer: Peer) -> None:
        """Hold a peer back until another object of its may be kept."""
        wait = self._pace.take_turn()
        if wait > 0:
            log.info("a peer is held back", calling_ae=peer.calling_ae, seconds=round(wait, 1))
            time.sleep(wait)


def may_call_from(allowed: AllowedPeer, address: str) -> bool:
    """Whether a system may call from an address, by its entry in the settings."""
    if not allowed.addresses:
        return True
    called_from = ip_address(address.partition("%")[0])
    return any(called_from in ip_network(network, strict=False) for network in allowed.addresses)


def _entry_of(allow: Sequence[AllowedPeer], peer: Peer) -> AllowedPeer | Rejection | None:
    """The entry by which a peer may call, None where anybody may; or why it may not."""
    if not allow:
        return None
    titled = [allowed for allowed in allow if allowed.ae_title == peer.calling_ae]
    if not titled:
        return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not in the list of allowed systems.")
    here = [allowed for allowed in titled if may_call_from(allowed, peer.address)]
    if not here:
        return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not allowed from its address.")
    shown = [
        allowed for allowed in here if allowed.certificate is None or bears(peer.certificate or (), allowed.certificate)
    ]
    return shown[0] if shown else Rejection(*_CALLING_AE_UNKNOWN, _not_shown(here, peer))


def _not_shown(titled: Sequence[AllowedPeer], peer: Peer) -> str:
    asked = " or ".join(allowed.certificate for allowed in titled if allowed.certificate is not None)
    if peer.certificate is None:
        return f"Its AE title is allowed over TLS only, with the certificate of {asked}."
    return f"Its AE title is allowed with the certificate of {asked}, not with that of {' or '.join(peer.certificate)}."
