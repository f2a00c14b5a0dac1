"""Who was sent what on request, study by study: before the first object goes, and after (PS3.15 A.5.3.3, A.5.3.7)."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import structlog

from config.errors import FullfieldError
from dicom_node.audit import Action, record
from dicom_node.network.incoming import Peer
from storage.answers import HeldObject
from storage.database import Database

log = structlog.get_logger()


def account_for_start(database: Database, peer: Peer, objects: Sequence[HeldObject], to: str) -> None:
    """Objects are about to be sent; StorageFull or StorageUnavailable where that cannot be told."""
    told = {study: {"objects": count} for study, count in Counter(_studies(objects)).items()}
    _tell(database, Action.RETRIEVAL_STARTED, "success", peer, to, told)
    log.info("retrieval started", calling_ae=peer.calling_ae, destination=to, objects=len(objects))


def account_for_parts(database: Database, peer: Peer, objects: Sequence[HeldObject], to: str, parts: str) -> None:
    """Of objects a part is about to be shown, such as some frames; StorageFull or StorageUnavailable likewise."""
    told = {study: {"objects": count, "parts": parts} for study, count in Counter(_studies(objects)).items()}
    _tell(database, Action.RETRIEVED, "success", peer, to, told)
    log.info("parts retrieved", calling_ae=peer.calling_ae, parts=parts, objects=len(objects))


def account_for_end(
    database: Database, peer: Peer, objects: Sequence[HeldObject], sent: Collection[str], to: str
) -> None:
    """Objects have been sent, those with these UIDs, or not."""
    counts = Counter((object.study_instance_uid, object.sop_instance_uid in sent) for object in objects)
    told = {
        study: {"objects": counts[study, True], "not_sent": counts[study, False]}
        for study in dict.fromkeys(_studies(objects))
    }
    not_sent = sum(counts["not_sent"] for counts in told.values())
    log.info("retrieval ended", calling_ae=peer.calling_ae, destination=to, not_sent=not_sent)
    try:
        _tell(database, Action.RETRIEVED, "failed" if not_sent else "success", peer, to, told)
    except FullfieldError as error:
        log.warning("an audit row could not be written", reason=str(error))


def account_for_refusal(database: Database, peer: Peer, to: str, status: str | int, reason: str) -> None:
    """Nothing will be sent; status: as the peer is told it."""
    told = {"status": status, "reason": reason}
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
                actor=peer.actor,
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
