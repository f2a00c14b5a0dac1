"""The ways by which a report on storage commitment reaches a peer (PS3.4 J.3.3).

It goes over the association that asked while that is open, else over another that the peer has open, else over a new
one to the peer's port, else it waits for the peer to call again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pynetdicom import evt
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import StorageCommitmentPushModel

from config.errors import FullfieldError, PeerUnavailable
from config.listener import ListenerSettings
from dicom_node.network.commitment_requests import peer_of
from dicom_node.network.contexts import commitment_contexts
from dicom_node.network.incoming import StreamedMessages
from dicom_node.network.notifications import Notification
from dicom_node.network.sender import Address, associated, status_of
from dicom_node.network.titles import may_call_from
from dicom_node.network.tls import Credentials
from storage.schema import Commitment


class ReportWays:
    """Knows which associations peers have open, and where they can be called.

    timeout_seconds: how long to wait for a connection, and for an answer.
    credentials: for peers that are called over TLS.
    """

    def __init__(self, listener: ListenerSettings, timeout_seconds: float, credentials: Credentials | None) -> None:
        self._listener = listener
        self._timeout = timeout_seconds
        self._credentials = credentials
        self._lock = threading.Lock()
        #: What a report can be sent over, newest last.
        self._associations: list[StreamedMessages] = []
        #: Who has called which title since this was last looked at.
        self._callers: set[tuple[str, str]] = set()

    def accepted(self, event: evt.Event) -> None:
        """An association has begun: if reports can go over it, they do."""
        if any(context.abstract_syntax == StorageCommitmentPushModel for context in event.assoc.accepted_contexts):
            messages: StreamedMessages = event.assoc.dimse
            peer = peer_of(messages)
            with self._lock:
                self._associations.append(messages)
                self._callers.add((peer.calling_ae, peer.called_ae))

    @contextmanager
    def callers(self) -> Iterator[set[tuple[str, str]]]:
        """Calling and called title of who has called since this was last asked, or told anew after an error."""
        with self._lock:
            self._associations = [messages for messages in self._associations if not messages.notifications.ended]
            callers, self._callers = self._callers, set()
        try:
            yield callers
        except FullfieldError:
            with self._lock:
                self._callers |= callers
            raise

    def lead_to(self, commitment: Commitment) -> bool:
        """Whether there is a way to the peer now; without a port there is none while it has no association open."""
        return self._address(commitment) is not None or bool(self._open(commitment))

    def send(self, commitment: Commitment, notification: Notification) -> tuple[int, str]:
        """Send a report by the first way that leads to the peer; its answer, and the way.

        Raises PeerUnavailable or PeerRefused.
        """
        unavailable = PeerUnavailable("The peer has no association open any more.")
        for messages in self._open(commitment):
            same = peer_of(messages).association_id == commitment.association_id
            try:
                status = messages.notifications.send(notification, self._timeout)
                return status, "the same association" if same else "another association of the peer's"
            except PeerUnavailable as error:
                unavailable = error
        address = self._address(commitment)
        if address is None:
            raise unavailable
        return self._send_anew(commitment, address, notification), "a new association"

    def _send_anew(self, commitment: Commitment, address: Address, notification: Notification) -> int:
        """Open an association to the peer, as its SCP (PS3.4 J.3.3, PS3.7 D.3.3.4).

        A peer that accepts the context and passes over the role gets the report all the same: it has asked for
        it, and older ones know no role selection.
        """
        roles = [build_role(StorageCommitmentPushModel, scp_role=True)]
        with associated(
            address, commitment.called_ae, commitment_contexts(), self._timeout, roles, self._credentials
        ) as association:
            answer, _ = association.send_n_event_report(
                notification.information,
                notification.event_type,
                notification.sop_class_uid,
                notification.sop_instance_uid,
            )
            return status_of(answer, address)

    def _open(self, commitment: Commitment) -> list[StreamedMessages]:
        """The peer's associations over which a report can go now: the one that asked first, then the newest.

        The report is of the title that was asked, so only associations with that title count.
        """
        between = (commitment.calling_ae, commitment.called_ae)
        with self._lock:
            found = [
                messages
                for messages in reversed(self._associations)
                if messages.notifications.open
                and (peer_of(messages).calling_ae, peer_of(messages).called_ae) == between
            ]
        return sorted(found, key=lambda messages: peer_of(messages).association_id != commitment.association_id)

    def _address(self, commitment: Commitment) -> Address | None:
        """The port of the peer's entry in the settings, at the address that it asked from; over TLS if it calls so."""
        title = self._listener.title(commitment.called_ae)
        for allowed in title.allow if title is not None else ():
            if (
                allowed.port is not None
                and allowed.ae_title == commitment.calling_ae
                and may_call_from(allowed, commitment.peer_address)
            ):
                return Address(
                    allowed.ae_title,
                    commitment.peer_address,
                    allowed.port,
                    tls=allowed.certificate is not None,
                    certificate=allowed.certificate or "",
                )
        return None
