"""The listener: modalities push to it, and what it acknowledges is kept (PS3.4 A and B).

An object is acknowledged when its file is durable in the object store and one transaction has entered the
object, what is to happen next, and the audit row. Whatever goes wrong becomes a status and an audit row.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any, Literal

import structlog
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from config.errors import StorageFull, StorageUnavailable
from config.settings import AllowedPeer, ListenerSettings
from dicom_node.audit import Action, step
from dicom_node.logs import hashed
from dicom_node.network.contexts import accepted_contexts
from dicom_node.network.incoming import IncomingFile, Peer, StoreRequest
from dicom_node.network.reception import Arrival, examine
from dicom_node.network.server import FurtherService, Rejection, StorageServer
from dicom_node.network.statuses import Status, Unacceptable
from storage.audit_trail import AuditEntry, append
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import Kept, ReceivedObject, keep_object
from storage.schema import StoredObject

log = structlog.get_logger()

#: Called in the transaction that keeps a new object, with its header up to the pixel data.
OnKept = Callable[[Session, StoredObject, Dataset], None]
#: Called in a transaction when an association is over, with the series that it brought objects of, and the
#: calling AE title.
OnRelease = Callable[[Session, list[str], str], None]

_CALLING_AE_UNKNOWN = (1, 1, 3)
_CALLED_AE_UNKNOWN = (1, 1, 7)
_TOO_MANY = (2, 3, 2)

#: Seconds to wait before each attempt to pass on the end of an association, while the database is away.
_WAITS = (0.0, 1.0, 5.0, 20.0)
#: Audit rows that wait for the database to come back; older ones are given up for newer.
_MOST_LATE_ENTRIES = 1000
#: SOP classes that one audit row names.
_MOST_NAMED = 16


class Listener:
    """A C-STORE and C-ECHO SCP over an object store and a database.

    full_below_bytes: free space below which objects are refused as out of resources (0xA700).
    further: what else is served over the same associations.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        store: ObjectStore,
        database: Database,
        on_kept: OnKept,
        on_release: OnRelease,
        full_below_bytes: int,
        further: Sequence[FurtherService] = (),
    ) -> None:
        self._settings = settings
        self._store = store
        self._database = database
        self._on_kept = on_kept
        self._on_release = on_release
        self._full_below_bytes = full_below_bytes
        self._series: dict[str, dict[str, None]] = {}
        self._late: list[AuditEntry] = []
        self._late_lock = threading.Lock()
        self._server = StorageServer(
            self,
            ae_title=settings.ae_title,
            host=settings.host,
            port=settings.port,
            contexts=accepted_contexts(),
            incoming=store.incoming,
            max_pdu=settings.max_pdu,
            further=further,
        )

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._server.port

    def start(self) -> None:
        """Begin to listen; raises StorageUnavailable if the address cannot be listened on."""
        self._server.start()
        log.info("listening", ae_title=self._settings.ae_title, host=self._settings.host, port=self.port)

    def stop(self, grace_seconds: float = 10) -> None:
        """Accept no more associations, and abort those that have not ended when the time is over."""
        self._server.stop(grace_seconds)
        self._write_late_entries()

    # What the server asks, as a StorageService.

    def admit(self, peer: Peer, open_associations: int) -> Rejection | None:
        """Whether a peer may come in: by the title it calls, its own title, its address, and our room."""
        rejection = self._rejection(peer, open_associations)
        if rejection is not None:
            log.warning("association refused", calling_ae=peer.calling_ae, reason=rejection.reason)
            self._account(Action.ASSOCIATION_REFUSED, peer, "refused", reason=rejection.reason)
        return rejection

    def contexts_refused(self, peer: Peer, sop_classes: list[str]) -> None:
        """Account for the SOP classes that a peer proposed and will not be able to send."""
        self._account(
            Action.CONTEXTS_REFUSED,
            peer,
            "refused",
            reason=f"{len(sop_classes)} of the SOP classes proposed are not received here.",
            sop_class_uids=sop_classes[:_MOST_NAMED],
        )

    def has_room(self) -> bool:
        """Whether more may be received, by the free space of the object store."""
        return self._store.free_bytes() >= self._full_below_bytes

    def store(self, request: StoreRequest, file: IncomingFile) -> int:
        """Keep an object and answer success, or say why not."""
        try:
            arrival, header = examine(file.path, file.complete(), file.size, request)
            kept = self._keep(arrival, header)
        except Unacceptable as error:
            return self._refused(request, error.status, str(error))
        except StorageFull as error:
            return self._refused(request, Status.OUT_OF_RESOURCES, str(error))
        except StorageUnavailable as error:
            # The peer has waited once for the database, and is not to wait for it again.
            return self._refused(request, Status.OUT_OF_RESOURCES, str(error), account_later=True)
        except Exception:
            # A fault of ours. The sender has the object still, and is to send it again.
            log.exception("an object could not be kept", sop_instance=hashed(request.sop_instance_uid))
            return self._refused(request, Status.OUT_OF_RESOURCES, "An internal error; the log has it.")
        self._tell(arrival, kept)
        return Status.SUCCESS

    def refuse(self, request: StoreRequest) -> int:
        """Refuse an object of another SOP class than that which was negotiated."""
        reason = "The SOP class is not that of the presentation context."
        return self._refused(request, Status.SOP_CLASS_NOT_SUPPORTED, reason)

    def ended(self, peer: Peer, *, released: bool, incomplete: int) -> None:
        """Pass on which series an association brought objects of, whether it was released or lost."""
        series = list(self._series.pop(peer.association_id, {}))
        if not released:
            reason = f"It ended before its release; {incomplete} objects underway were not acknowledged."
            log.warning("association lost", calling_ae=peer.calling_ae, incomplete=incomplete)
            self._account(Action.ASSOCIATION_LOST, peer, "failed", reason=reason)
        if series:
            self._release(series, peer)
        self._write_late_entries()

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

    def _rejection(self, peer: Peer, open_associations: int) -> Rejection | None:
        settings = self._settings
        if peer.called_ae != settings.ae_title:
            return Rejection(*_CALLED_AE_UNKNOWN, f"It called {peer.called_ae!r}, which is not our AE title.")
        titled = [allowed for allowed in settings.allow if allowed.ae_title == peer.calling_ae]
        if settings.allow and not titled:
            return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not in the list of allowed systems.")
        if titled and not any(may_call_from(allowed, peer.address) for allowed in titled):
            return Rejection(*_CALLING_AE_UNKNOWN, "Its AE title is not allowed from its address.")
        if open_associations >= settings.max_associations:
            return Rejection(*_TOO_MANY, f"{open_associations} associations are open already.")
        return None

    def _keep(self, arrival: Arrival, header: Dataset) -> Kept:
        """Promise 1: durable file, then one committed transaction; only then may it be acknowledged."""
        self._store.keep(arrival.path, arrival.digest)
        with self._transaction() as tx:
            kept = keep_object(tx, _received(arrival))
            append(tx, _told(arrival, kept))
            if kept.outcome == "new":
                self._on_kept(tx, kept.object, header)
        return kept

    def _tell(self, arrival: Arrival, kept: Kept) -> None:
        event = {"new": "object kept", "repeated": "object repeated", "aside": "object kept aside"}
        facts = {
            "sop_instance": hashed(arrival.sop_instance_uid),
            "series": hashed(arrival.series_instance_uid),
            "calling_ae": arrival.calling_ae,
            "bytes": arrival.size,
        }
        if kept.outcome == "aside":
            log.warning(event[kept.outcome], **facts)
            return
        log.info(event[kept.outcome], **facts)
        # A peer that repeats a series may have been cut off before its release: it counts as brought again.
        self._series.setdefault(arrival.association_id, {})[arrival.series_instance_uid] = None

    def _refused(self, request: StoreRequest, status: Status, reason: str, *, account_later: bool = False) -> int:
        calling_ae = request.peer.calling_ae
        log.warning("object refused", status=f"0x{status:04X}", reason=reason, calling_ae=calling_ae)
        self._account(
            Action.OBJECT_REFUSED,
            request.peer,
            "refused",
            sop_instance_uid=request.sop_instance_uid,
            later=account_later,
            reason=reason,
            status=f"0x{status:04X}",
            sop_class_uid=request.sop_class_uid,
        )
        return status

    def _account(
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
            actor="listener",
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

    def _write_late_entries(self) -> None:
        if self._late:
            with suppress(StorageFull, StorageUnavailable), self._transaction():
                pass

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


def may_call_from(allowed: AllowedPeer, address: str) -> bool:
    """Whether a system may call from an address, by its entry in the settings."""
    if not allowed.addresses:
        return True
    called_from = ip_address(address.partition("%")[0])
    return any(called_from in ip_network(network, strict=False) for network in allowed.addresses)


def _received(arrival: Arrival) -> ReceivedObject:
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
        calling_ae=arrival.calling_ae,
        called_ae=arrival.called_ae,
        peer_address=arrival.peer_address,
    )


def _told(arrival: Arrival, kept: Kept) -> AuditEntry:
    action = {
        "new": Action.OBJECT_RECEIVED,
        "repeated": Action.OBJECT_REPEATED,
        "aside": Action.OBJECT_KEPT_ASIDE,
    }[kept.outcome]
    return step(
        action,
        actor="listener",
        peer_ae=arrival.calling_ae,
        peer_address=arrival.peer_address,
        study_instance_uid=arrival.study_instance_uid,
        series_instance_uid=arrival.series_instance_uid,
        sop_instance_uid=arrival.sop_instance_uid,
        details={
            "digest": arrival.digest,
            "bytes": arrival.size,
            "sop_class_uid": arrival.sop_class_uid,
            "transfer_syntax_uid": arrival.transfer_syntax_uid,
            "called_ae": arrival.called_ae,
            "association": arrival.association_id,
        },
    )
