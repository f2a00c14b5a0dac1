"""The storage commitment SCP's requests: in the database before they are acknowledged (PS3.4 J.3.2).

So their reports outlive the node; commitment_reports.py makes them.
"""

import structlog
from pynetdicom import evt

from config.errors import FullfieldError, StorageFull, StorageUnavailable
from dicom_node.audit import Action, record
from dicom_node.logs import hashed
from dicom_node.network.commitment import read_request
from dicom_node.network.incoming import Peer, StreamedMessages, file_of
from dicom_node.network.statuses import Status, Unacceptable
from storage.commitments import CommitmentRequest, add_commitment
from storage.database import Database

log = structlog.get_logger()

ACTOR = "commitment"
#: For so long other nodes keep away from what this one is about.
LEASE_SECONDS = 600.0
#: A peer that releases its association as soon as it is answered has the time to do so.
_MOMENT_SECONDS = 0.5


class CommitmentRequests:
    """Takes requests; pynetdicom calls it in the thread of an association.

    name: of the node, which is first to report on what it took.
    """

    def __init__(self, database: Database, *, name: str) -> None:
        self._database = database
        self._name = name

    def requested(self, event: evt.Event) -> tuple[int, None]:
        """Enter a request, and answer the N-ACTION."""
        peer = peer_of(event.assoc.dimse)
        try:
            too_large = file_of(event.request).size > 0 and not event.request.ActionInformation.getvalue()
            asked = read_request(event.request, lambda: event.action_information, too_large=too_large)
            self._enter(
                CommitmentRequest(
                    transaction_uid=asked.transaction_uid,
                    items=asked.items,
                    calling_ae=peer.calling_ae,
                    called_ae=peer.called_ae,
                    peer_address=peer.address,
                    association_id=peer.association_id,
                )
            )
        except Unacceptable as error:
            return self._refused(peer, error.status, str(error)), None
        except (StorageFull, StorageUnavailable) as error:
            return self._refused(peer, Status.RESOURCE_LIMITATION, str(error)), None
        except Exception:
            log.exception("a request for storage commitment could not be entered")
            return self._refused(peer, Status.PROCESSING_FAILURE, "An internal error; the log has it."), None
        log.info(
            "storage commitment requested",
            transaction=hashed(asked.transaction_uid),
            objects=len(asked.items),
            calling_ae=peer.calling_ae,
        )
        return Status.SUCCESS, None

    def _enter(self, request: CommitmentRequest) -> None:
        with self._database.transaction() as tx:
            entered = add_commitment(
                tx, request, owner=self._name, lease_seconds=LEASE_SECONDS, wait_seconds=_MOMENT_SECONDS
            )
            if entered == "conflict":
                said = "The Transaction UID was used before, for other objects."
                raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, said)
            record(
                tx,
                Action.COMMITMENT_REQUESTED,
                actor=ACTOR,
                peer_ae=request.calling_ae,
                peer_address=request.peer_address,
                details={
                    "transaction_uid": request.transaction_uid,
                    "objects": len(request.items),
                    "called_ae": request.called_ae,
                    "association": request.association_id,
                }
                | ({"repeated": True} if entered == "repeated" else {}),
            )

    def _refused(self, peer: Peer, status: Status, reason: str) -> int:
        told = {"status": f"0x{status:04X}", "reason": reason}
        log.warning("storage commitment not taken on", calling_ae=peer.calling_ae, **told)
        try:
            with self._database.transaction() as tx:
                record(
                    tx,
                    Action.COMMITMENT_REFUSED,
                    actor=ACTOR,
                    outcome="refused",
                    peer_ae=peer.calling_ae,
                    peer_address=peer.address,
                    details={**told, "called_ae": peer.called_ae, "association": peer.association_id},
                )
        except FullfieldError as error:
            log.warning("an audit row could not be written", reason=str(error))
        return status


def peer_of(messages: StreamedMessages) -> Peer:
    """Who is at the other end of an association."""
    assert messages.peer is not None
    return messages.peer
