"""Who was sent what on request, study by study: before the first object goes, and after (PS3.15 A.5.3.3, A.5.3.7)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import structlog

from config.errors import FullfieldError
from dicom_node.audit import Action, record
from dicom_node.network.incoming import Peer
from dicom_node.network.statuses import Status
from dicom_node.network.suboperations import Suboperations
from storage.answers import HeldObject
from storage.database import Database

log = structlog.get_logger()

_ACTOR = "retrieve"


def account_for_start(database: Database, peer: Peer, objects: Sequence[HeldObject], to: str) -> None:
    """Objects are about to be sent; StorageFull or StorageUnavailable where that cannot be told."""
    told = {study: {"objects": count} for study, count in Counter(_studies(objects)).items()}
    _tell(database, Action.RETRIEVAL_STARTED, "success", peer, to, told)
    log.info("retrieval started", calling_ae=peer.calling_ae, destination=to, objects=len(objects))


def account_for_end(
    database: Database, peer: Peer, objects: Sequence[HeldObject], operations: Suboperations, to: str
) -> None:
    """Objects have been sent, or not."""
    fates = Counter((object.study_instance_uid, operations.fate(object.sop_instance_uid)) for object in objects)
    told = {
        study: {
            "objects": fates[study, "completed"] + fates[study, "warned"],
            "not_sent": fates[study, "failed"] + fates[study, "remaining"],
        }
        for study in dict.fromkeys(_studies(objects))
    }
    not_sent = sum(counts["not_sent"] for counts in told.values())
    log.info("retrieval ended", calling_ae=peer.calling_ae, destination=to, not_sent=not_sent)
    try:
        _tell(database, Action.RETRIEVED, "failed" if not_sent else "success", peer, to, told)
    except FullfieldError as error:
        log.warning("an audit row could not be written", reason=str(error))


def account_for_refusal(database: Database, peer: Peer, to: str, status: Status, reason: str) -> None:
    """Nothing will be sent."""
    told = {"status": f"0x{status:04X}", "reason": reason}
    log.warning("retrieval refused", calling_ae=peer.calling_ae, destination=to, **told)
    try:
        _tell(database, Action.RETRIEVAL_REFUSED, "refused", peer, to, {None: told})
    except FullfieldError as error:
        log.warning("an audit row could not be written", reason=str(error))


def _studies(objects: Sequence[HeldObject]) -> list[str]:
    return [object.study_instance_uid for object in objects]


def _tell(
    database: Database,
    action: Action,
    outcome: Literal["success", "refused", "failed"],
    peer: Peer,
    to: str,
    told: Mapping[Any, Mapping[str, Any]],
) -> None:
    with database.transaction() as tx:
        for study, details in told.items():
            record(
                tx,
                action,
                actor=_ACTOR,
                outcome=outcome,
                peer_ae=peer.calling_ae,
                peer_address=peer.address,
                study_instance_uid=study,
                details={
                    **details,
                    "destination": to,
                    "called_ae": peer.called_ae,
                    "association": peer.association_id,
                },
            )
