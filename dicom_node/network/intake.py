"""What peers send is kept or refused, whichever service brings it, and both are accounted for.

An object is acknowledged when its file is durable in the object store and one transaction has entered the
object, what is to happen next, and the audit row. Whatever goes wrong becomes a status and an audit row.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from config.errors import DamagedObject, StorageFull, StorageUnavailable
from dicom_node.audit import Action, step
from dicom_node.logs import hashed
from dicom_node.network import reception_audit
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest
from dicom_node.network.receiving import Receiving
from dicom_node.network.reception import Arrival, examine
from dicom_node.network.refetched import keep_again
from dicom_node.network.statuses import Status, Unacceptable
from storage.audit_trail import AuditEntry, append
from storage.database import Database
from storage.faultpoint import faultpoint
from storage.fetches import fetch_behind
from storage.files import ObjectStore
from storage.objects import Kept, ReceivedObject, keep_object
from storage.schema import Fetch, StoredObject
from storage.states import ObjectKind

log = structlog.get_logger()

#: Called in the transaction that keeps a new object, with its header up to the pixel data.
OnKept = Callable[[Session, StoredObject, Dataset], None]
#: Called in a transaction when an association is over, with the series that it brought objects of, and the
#: calling AE title.
OnRelease = Callable[[Session, list[str], str], None]
#: Called with the seconds that an object has waited for its answer since its last byte came.
OnAnswer = Callable[[float], None]

#: Seconds to wait before each attempt to pass on the end of an association, while the database is away.
_WAITS = (0.0, 1.0, 5.0, 20.0)
#: Audit rows that wait for the database to come back; older ones are given up for newer.
_MOST_LATE_ENTRIES = 1000


class Intake:
    """Where objects come in, over an object store and a database.

    full_below_bytes: free space below which objects are refused as out of resources (0xA700).
    archives: gives the AE titles of those who may send what this node has asked for without telling so.
    """

    def __init__(
        self,
        store: ObjectStore,
        database: Database,
        on_kept: OnKept,
        on_release: OnRelease,
        full_below_bytes: int,
        archives: Callable[[], Collection[str]] = tuple,
    ) -> None:
        #: What is being received.
        self.receiving = Receiving(store.incoming)
        #: For who watches; set before anything is received.
        self.on_answer: OnAnswer = lambda _: None
        self._store = store
        self._database = database
        self._on_kept = on_kept
        self._on_release = on_release
        self._full_below_bytes = full_below_bytes
        self._archives = archives
        self._series: dict[str, dict[str, None]] = {}
        self._late: list[AuditEntry] = []
        self._late_lock = threading.Lock()

    def has_room(self, size: int = 0) -> bool:
        """Whether more may be received, or so many bytes more, by the free space of the object store."""
        return self._store.free_bytes() - size >= self._full_below_bytes

    def store(self, request: StoreRequest, file: IncomingFile) -> Status:
        """Keep an object and answer success, or say why not."""
        try:
            return self._store_or_refuse(request, file)
        finally:
            self.on_answer(time.monotonic() - file.came_at)

    def _store_or_refuse(self, request: StoreRequest, file: IncomingFile) -> Status:
        faultpoint("intake.received")
        try:
            arrival, header = examine(file.path, file.complete(), file.size, request)
            kept = self._keep(arrival, header)
        except Unacceptable as error:
            return self.refuse(request, error.status, str(error))
        except (StorageFull, DamagedObject) as error:
            return self.refuse(request, Status.OUT_OF_RESOURCES, str(error))
        except StorageUnavailable as error:
            # The peer has waited once for the database, and is not to wait for it again.
            return self.refuse(request, Status.OUT_OF_RESOURCES, str(error), later=True)
        except Exception:
            # A fault of ours. The sender has the object still, and is to send it again.
            log.exception("an object could not be kept", sop_instance=hashed(request.sop_instance_uid))
            return self.refuse(request, Status.OUT_OF_RESOURCES, "An internal error; the log has it.")
        self._tell(arrival, kept)
        return Status.SUCCESS

    def refuse(self, request: StoreRequest, status: Status, reason: str, *, later: bool = False) -> Status:
        """Account for an object that is not kept.

        later: whether the database is known to be away, and is not to be waited for.
        """
        calling_ae = request.peer.calling_ae
        log.warning("object refused", status=f"0x{status:04X}", reason=reason, calling_ae=calling_ae)
        self.account(
            Action.OBJECT_REFUSED,
            request.peer,
            "refused",
            sop_instance_uid=request.sop_instance_uid or None,
            later=later,
            reason=reason,
            status=f"0x{status:04X}",
            sop_class_uid=request.sop_class_uid,
        )
        return status

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """Pass on which series an association brought objects of, whether it was released or lost."""
        series = list(self._series.pop(peer.association_id, {}))
        faultpoint("intake.association_ended")
        if not released:
            reason = f"It ended before its release; {incomplete} objects underway were not acknowledged."
            log.warning("association lost", calling_ae=peer.calling_ae, incomplete=incomplete)
            self.account(Action.ASSOCIATION_LOST, peer, "failed", reason=reason)
        if series:
            self._release(series, peer)
        self.write_late_entries()

    def account(
        self,
        action: Action,
        peer: Peer,
        outcome: Literal["refused", "failed"],
        *,
        sop_instance_uid: str | None = None,
        later: bool = False,
        **details: Any,
    ) -> None:
        """Write an audit row of its own; when the database is away, with the next transaction."""
        happened_at = datetime.now(UTC).isoformat(timespec="seconds")
        told = {**details, "called_ae": peer.called_ae, "association": peer.association_id}
        entry = step(
            action,
            actor=peer.actor,
            outcome=outcome,
            peer_ae=peer.calling_ae,
            peer_address=peer.address,
            sop_instance_uid=sop_instance_uid,
            details=told,
        )
        try:
            if not later:
                with self._transaction() as tx:
                    append(tx, entry)
                return
        except (StorageFull, StorageUnavailable):
            pass
        except Exception:
            log.exception("an audit row could not be written", action=action.value)
            return
        self._put_off([replace(entry, details={**told, "happened_at": happened_at})])

    def write_late_entries(self) -> None:
        """Write the audit rows that could not be written when it happened, if the database is back."""
        if self._late:
            with suppress(StorageFull, StorageUnavailable), self._transaction():
                pass

    def _keep(self, arrival: Arrival, header: Dataset) -> Kept:
        """Promise 1: durable file, then one committed transaction; only then may it be acknowledged."""
        self._store.keep(arrival.path, arrival.digest)
        with self._transaction() as tx:
            fetch = self._fetch_behind(tx, arrival)
            received = _received(arrival, header, ObjectKind.FETCHED if fetch else ObjectKind.ORIGINAL)
            if fetch is not None and fetch.sop_instance_uid is not None:
                kept, told = keep_again(tx, fetch, received)
            else:
                kept, told = keep_object(tx, received), {}
            # Retention may have removed an equal file since; now that the row is entered it does so no more.
            self._store.open(arrival.digest).close()
            append(tx, reception_audit.reception(arrival, kept, fetch, told))
            if kept.outcome == "new":
                self._on_kept(tx, kept.object, header)
            elif kept.is_result:
                reason = "its UID is that of a result of this node"
                append(tx, reception_audit.generated(arrival, reason))
            faultpoint("intake.before_commit")
        faultpoint("intake.before_acknowledgement")
        return kept

    def _fetch_behind(self, tx: Session, arrival: Arrival) -> Fetch | None:
        """The fetch for which an object arrives; who sends of its own accord is not looked up."""
        if arrival.mover is None and arrival.calling_ae not in self._archives():
            return None
        return fetch_behind(
            tx,
            study_instance_uid=arrival.study_instance_uid,
            series_instance_uid=arrival.series_instance_uid,
            sop_instance_uid=arrival.sop_instance_uid,
            mover=arrival.mover,
            calling_ae=arrival.calling_ae,
        )

    def _tell(self, arrival: Arrival, kept: Kept) -> None:
        event = {
            "new": "object kept",
            "repeated": "object repeated",
            "aside": "object kept aside",
            "mended": "damaged object fetched again",
        }
        facts = {
            "sop_instance": hashed(arrival.sop_instance_uid),
            "series": hashed(arrival.series_instance_uid),
            "calling_ae": arrival.calling_ae,
            "bytes": arrival.size,
        }
        if kept.outcome == "aside" and not kept.is_result:
            log.warning(event[kept.outcome], **facts)
            return
        log.info(event[kept.outcome], **facts)
        # A peer that repeats a series may have been cut off before its release: it counts as brought again.
        self._series.setdefault(arrival.association_id, {})[arrival.series_instance_uid] = None

    def _release(self, series: list[str], peer: Peer) -> None:
        for wait in _WAITS:
            time.sleep(wait)
            try:
                with self._transaction() as tx:
                    self._on_release(tx, series, peer.calling_ae)
                return
            except (StorageFull, StorageUnavailable) as error:
                log.warning("the end of an association could not be noted", reason=str(error))
            except Exception:
                log.exception("the end of an association could not be noted")
                return

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """A transaction that takes along the audit rows that could not be written before."""
        with self._late_lock:
            late, self._late = self._late, []
        try:
            with self._database.transaction() as tx:
                yield tx
                for entry in late:
                    append(tx, entry)
        except BaseException:
            self._put_off(late)
            raise

    def _put_off(self, entries: list[AuditEntry]) -> None:
        with self._late_lock:
            self._late = [*entries, *self._late][-_MOST_LATE_ENTRIES:]


def _received(arrival: Arrival, header: Dataset, kind: ObjectKind) -> ReceivedObject:
    return ReceivedObject(
        sop_instance_uid=arrival.sop_instance_uid,
        sop_class_uid=arrival.sop_class_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        study_instance_uid=arrival.study_instance_uid,
        series_instance_uid=arrival.series_instance_uid,
        modality=arrival.modality,
        frames=arrival.frames,
        digest=arrival.digest,
        size=arrival.size,
        kind=kind,
        calling_ae=arrival.calling_ae,
        called_ae=arrival.called_ae,
        peer_address=arrival.peer_address,
        header=header,
    )
