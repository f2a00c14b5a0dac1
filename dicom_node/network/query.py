"""The query SCP: what the node holds, originals and results, by study or patient (C-FIND, PS3.4 C.4.1).

What fits is found and accounted for before the first answer goes out; then it is told page by page, each in a short
transaction of its own, so that a peer that reads slowly holds up neither the memory nor anybody else.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import structlog
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt

from config.errors import FullfieldError, StorageFull, StorageUnavailable
from dicom_node.audit import Action, record
from dicom_node.network.commitment_requests import peer_of
from dicom_node.network.contexts import FIND, query_contexts
from dicom_node.network.identifier import TOLD_BY_THE_NODE, Asked, read_identifier
from dicom_node.network.incoming import Peer
from dicom_node.network.server import FurtherService
from dicom_node.network.statuses import Status, Unacceptable
from storage.answers import tell
from storage.database import Database
from storage.search import search, unsupported

log = structlog.get_logger()

_ACTOR = "query"
#: Answers that are read at once.
_PAGE = 200
#: Characters of a key's value that the audit trail has.
_LONGEST_TOLD = 64

#: Of the extended negotiation (PS3.4 C.5.1.1): relational queries, and date and time matched as one.
_RELATIONAL, _COMBINED = 0, 1


class Queries:
    """Answers queries; pynetdicom calls it in the thread of an association. `service` is what a listener serves."""

    def __init__(self, database: Database) -> None:
        self.service = FurtherService(
            contexts=tuple(query_contexts()),
            handlers=((evt.EVT_C_FIND, self._asked), (evt.EVT_SOP_EXTENDED, _agreed)),
        )
        self._database = database

    def _asked(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        """The answers to a query, one at a time."""
        peer = peer_of(event.assoc.dimse)
        model = UID(event.request.AffectedSOPClassUID)
        agreed = event.assoc.requestor.sop_class_extended.get(model, b"")
        try:
            asked = read_identifier(model, lambda: event.identifier, relational=_has(agreed, _RELATIONAL))
            numbers = self._search(asked, peer, combined=_has(agreed, _COMBINED))
        except Unacceptable as error:
            yield self._refused(peer, error.status, str(error)), None
            return
        except (StorageFull, StorageUnavailable) as error:
            yield self._refused(peer, Status.OUT_OF_RESOURCES, str(error)), None
            return
        except Exception:
            log.exception("a query could not be answered")
            yield self._refused(peer, Status.CANNOT_UNDERSTAND, "An internal error; the log has it."), None
            return
        left_out = asked.has_strange_keys or set(unsupported(asked.level, asked.keys)) - TOLD_BY_THE_NODE
        status = Status.PENDING_WITHOUT_SOME_KEYS if left_out else Status.PENDING
        for start in range(0, len(numbers), _PAGE):
            try:
                with self._database.reading() as tx:
                    answers = tell(tx, asked.level, numbers[start : start + _PAGE], asked.keys)
            except (StorageFull, StorageUnavailable) as error:
                yield self._refused(peer, Status.OUT_OF_RESOURCES, str(error)), None
                return
            for answer in answers:
                if event.is_cancelled:
                    yield Status.CANCELLED, None
                    return
                yield status, _completed(answer, asked, peer)

    def _search(self, asked: Asked, peer: Peer, *, combined: bool) -> list[int]:
        """What fits, accounted for (PS3.15 A.5.3.10)."""
        with self._database.reading() as tx:
            numbers = search(tx, asked.level, asked.keys, combined=combined)
        studies = asked.value("StudyInstanceUID")
        with self._database.transaction() as tx:
            record(
                tx,
                Action.QUERIED,
                actor=_ACTOR,
                peer_ae=peer.calling_ae,
                peer_address=peer.address,
                study_instance_uid=studies[0] if len(studies) == 1 else None,
                details={
                    "level": asked.level.value,
                    "keys": {
                        key.keyword: "\\".join(key.values)[:_LONGEST_TOLD] for key in asked.keys if not key.is_universal
                    },
                    "matches": len(numbers),
                    "called_ae": peer.called_ae,
                    "association": peer.association_id,
                },
            )
        log.info("queried", level=asked.level.value, matches=len(numbers), calling_ae=peer.calling_ae)
        return numbers

    def _refused(self, peer: Peer, status: Status, reason: str) -> int:
        told = {"status": f"0x{status:04X}", "reason": reason}
        log.warning("query refused", calling_ae=peer.calling_ae, **told)
        try:
            with self._database.transaction() as tx:
                record(
                    tx,
                    Action.QUERY_REFUSED,
                    actor=_ACTOR,
                    outcome="refused",
                    peer_ae=peer.calling_ae,
                    peer_address=peer.address,
                    details={**told, "called_ae": peer.called_ae, "association": peer.association_id},
                )
        except FullfieldError as error:
            log.warning("an audit row could not be written", reason=str(error))
        return status


def _agreed(event: evt.Event) -> Mapping[UID, bytes]:
    """What is agreed on of that which a peer proposes for its queries (PS3.4 C.5.1.1)."""
    return {
        model: bytes(proposed[at] if at in (_RELATIONAL, _COMBINED) else 0 for at in range(len(proposed)))
        for model, proposed in event.app_info.items()
        if model in FIND
    }


def _has(agreed: bytes, at: int) -> bool:
    return agreed[at : at + 1] == b"\x01"


def _completed(answer: Dataset, asked: Asked, peer: Peer) -> Dataset:
    """An answer as it goes out: where the thing is to be had, and its characters (PS3.4 C.4.1.1.3.2)."""
    answer.QueryRetrieveLevel = asked.level.value
    answer.RetrieveAETitle = peer.called_ae
    if any(key.keyword == "InstanceAvailability" for key in asked.keys):
        answer.InstanceAvailability = "ONLINE"
    character_set = _character_set(answer, asked.character_set)
    if character_set:
        answer.SpecificCharacterSet = character_set
    return answer


def _character_set(answer: Dataset, wanted: str) -> str:
    """That of the query where it has all characters, else the first that has (PS3.3 C.12.1.1.2); none for ASCII."""
    text = "".join(str(element.value) for element in answer)
    if text.isascii():
        return ""
    for name in (wanted, "ISO_IR 100"):
        if name:
            with suppress(UnicodeEncodeError):
                text.encode(python_encoding[name])
                return name
    return "ISO_IR 192"
