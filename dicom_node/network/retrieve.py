"""The retrieval SCP: what the node holds is sent to a destination (C-MOVE) or back (C-GET) (PS3.4 C.4.2, C.4.3).

Files go out as they were kept, or without compression where the peer takes no other form; what cannot be sent so is
told as failed. pynetdicom's own way would read each object into memory and encode it anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import structlog
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import decode
from pynetdicom.presentation import PresentationContext

from config.errors import DamagedObject, FullfieldError, PeerRefused, PeerUnavailable, StorageFull, StorageUnavailable
from config.routes import Destination, RouteTable
from dicom_node.network.commitment_requests import peer_of
from dicom_node.network.contexts import retrieve_contexts
from dicom_node.network.identifier import check_named, read_identifier
from dicom_node.network.incoming import Peer
from dicom_node.network.retrieval_audit import account_for_end, account_for_refusal, account_for_start
from dicom_node.network.sender import STORED_WITH_WARNING, StoredPart10, associated, contexts_for, identified, store
from dicom_node.network.server import FurtherService
from dicom_node.network.statuses import Status, Unacceptable
from dicom_node.network.suboperations import Suboperations
from dicom_node.network.tls import Credentials
from storage.answers import HeldObject, objects_within
from storage.database import Database
from storage.files import ObjectStore
from storage.levels import UNIQUE_KEY, Level
from storage.search import search

log = structlog.get_logger()

#: The numbers of suboperations are of the value representation US.
_MOST = 65535
_DUPLICATE = 0x0111
_ACTOR = "retrieve"


class Retrievals:
    """Serves retrievals, in the thread of the association. `service` is what a listener serves.

    table: gives the route table in force; a C-MOVE goes to one of its destinations.
    timeout_seconds: how long to wait for a destination to connect or to answer.
    credentials: for destinations that are called over TLS.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        table: Callable[[], RouteTable],
        *,
        timeout_seconds: float,
        credentials: Credentials | None = None,
    ) -> None:
        self.service = FurtherService(
            contexts=tuple(retrieve_contexts()), requests={C_MOVE: self._serve, C_GET: self._serve}
        )
        self._database = database
        self._store = store
        self._table = table
        self._timeout_seconds = timeout_seconds
        self._credentials = credentials

    def _serve(self, association: Association, request: C_MOVE | C_GET, context: PresentationContext) -> None:
        """Find what is asked for, account for it, send it, and tell what has become of it."""
        peer = replace(peer_of(association.dimse), actor=_ACTOR)
        operations = Suboperations(association, request, context)
        to = str(request.MoveDestination or "").strip() if isinstance(request, C_MOVE) else peer.calling_ae
        try:
            objects, destination = self._begin(request, context, peer, to)
        except Unacceptable as error:
            account_for_refusal(self._database, peer, to, f"0x{error.status:04X}", str(error))
            operations.refuse(error.status)
            return
        operations.begin([object.sop_instance_uid for object in objects])
        self._send(objects, operations, destination)
        account_for_end(self._database, peer, objects, operations.sent, to)
        operations.end()

    def _begin(
        self, request: C_MOVE | C_GET, context: PresentationContext, peer: Peer, to: str
    ) -> tuple[Sequence[HeldObject], Destination | None]:
        """What is asked for, accounted for, and where it goes; no destination for a C-GET. Raises Unacceptable."""
        try:
            objects = self._asked_for(request, context)
            destination = self._destination(to) if isinstance(request, C_MOVE) else None
            account_for_start(self._database, peer, objects, to)
        except (StorageFull, StorageUnavailable) as error:
            raise Unacceptable(Status.UNABLE_TO_CALCULATE_MATCHES, str(error)) from error
        return objects, destination

    def _asked_for(self, request: C_MOVE | C_GET, context: PresentationContext) -> Sequence[HeldObject]:
        syntax = context.transfer_syntax[0]
        asked = read_identifier(
            str(context.abstract_syntax),
            lambda: decode(request.Identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated),
            relational=True,  # Unique keys are enough to find what they name.
        )
        check_named(asked)
        level = Level.STUDY if asked.level == Level.PATIENT else asked.level
        named = [key for key in asked.keys if key.keyword in UNIQUE_KEY.values()]
        with self._database.reading() as tx:
            objects = objects_within(tx, level, search(tx, level, named))
        if len(objects) > _MOST:
            said = f"More than {_MOST} objects are too many for one retrieval; ask in parts."
            raise Unacceptable(Status.UNABLE_TO_CALCULATE_MATCHES, said)
        return objects

    def _destination(self, ae_title: str) -> Destination:
        for destination in self._table().destinations:
            if destination.url is None and destination.ae_title == ae_title:
                return destination
        raise Unacceptable(Status.MOVE_DESTINATION_UNKNOWN, f"There is no destination with the AE title {ae_title!r}.")

    def _send(self, objects: Sequence[HeldObject], operations: Suboperations, destination: Destination | None) -> None:
        """Over an association to the destination, or without one over that which asks."""
        files = []
        for object in objects:
            try:
                files.append(identified(self._store.path(object.digest)))
            except DamagedObject as error:
                log.error("an object cannot be sent", reason=str(error))
                operations.failed(object.sop_instance_uid)
        if destination is None:
            _send_over(operations.association, "The peer", files, operations, self._store.incoming)
            return
        calling_ae = destination.calling_ae or operations.called_ae
        try:
            if files:
                with associated(
                    destination, calling_ae, contexts_for(files), self._timeout_seconds, credentials=self._credentials
                ) as association:
                    _send_over(association, destination.ae_title, files, operations, self._store.incoming)
        except FullfieldError as error:
            log.warning("objects could not be moved", reason=str(error))


def _send_over(
    association: Association, who: str, files: Sequence[StoredPart10], operations: Suboperations, scratch: Path
) -> None:
    """Send file after file, until all are sent, the peer cancels or is gone, or the receiver or the storage is."""
    for number, file in enumerate(files, start=1):
        if operations.cancelled or operations.abandoned:
            return
        uid = str(file.sop_instance_uid)
        try:
            status = store(association, file, number, who, operations.moved_for, scratch)
        except (PeerUnavailable, StorageUnavailable) as error:
            log.warning("objects could not be sent", reason=str(error))
            return
        except (PeerRefused, DamagedObject, ValueError) as error:
            # ValueError: a UID that pynetdicom cannot name in a request.
            log.warning("an object could not be sent", reason=str(error))
            operations.failed(uid)
        else:
            if status in (Status.SUCCESS, _DUPLICATE):
                operations.completed(uid)
            elif status in STORED_WITH_WARNING:
                operations.warned(uid)
            else:
                log.warning("an object was refused", status=f"0x{status:04X}", by=who)
                operations.failed(uid)
        operations.tell()
