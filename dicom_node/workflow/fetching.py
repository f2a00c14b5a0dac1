"""Fetching from archives, where a route says so: the other series of a job's study, and originals that are damaged.

What is fetched lies beside the results for whoever looks at the study here; no job waits for it, and none takes it in.
An original that comes again takes the place of the damaged one (network/refetched.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Literal

import structlog
from pynetdicom.association import Association
from sqlalchemy.orm import Session

from config.errors import FullfieldError, PeerRefused, PeerUnavailable
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.audit import Action, record
from dicom_node.backoff import wait_seconds
from dicom_node.logs import hashed
from dicom_node.network.fetch_scu import (
    FetchPostponed,
    FoundSeries,
    Moved,
    fetch_contexts,
    find_series,
    has_object,
    move,
)
from dicom_node.network.sender import associated
from dicom_node.network.tls import Credentials
from dicom_node.rounds import Rounds
from dicom_node.workflow.breaker import Breakers
from storage.database import Database, current_time
from storage.faultpoint import faultpoint
from storage.fetches import (
    HeldStudy,
    claim_fetch,
    due_fetches,
    held_of_study,
    note_asked,
    renew_fetch,
    settle_fetch,
)
from storage.refetches import ask_for_damaged, damaged_original
from storage.schema import Fetch, StoredObject
from storage.states import FetchState

log = structlog.get_logger()

_ACTOR = "fetcher"
#: What one fetch asks for at most: a study of more is an archive's to show.
_MOST_SERIES = 32
_MOST_OBJECTS = 2000
#: An archive that could send a part is asked for the rest in so many attempts; it sends whole series.
_MOST_ATTEMPTS = 10
#: For so long other nodes keep away from what this one is about; it is renewed for each series.
_LEASE_SECONDS = 1200.0
#: Between two looks for damaged originals that are to be fetched again.
_LOOK_SECONDS = 10.0


class Fetcher(Rounds):
    """Fetches what routes ask for; stopped, it breaks off what an archive is at, and the next start takes it up again.

    table: gives the routes in force, which name the archives among their destinations.
    ae_title: of this node, to which archives send.
    credentials: for archives that are called over TLS.
    """

    def __init__(
        self,
        database: Database,
        settings: DeliverySettings,
        *,
        table: Callable[[], RouteTable],
        ae_title: str,
        name: str,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__("fetching from archives", database, Fetch, name=name, every_seconds=settings.poll_seconds)
        self._settings = settings
        self._table = table
        self._ae_title = ae_title
        self._credentials = credentials
        self._breakers = Breakers(settings)
        #: By a clock that is never set.
        self._next_look = 0.0

    def due(self) -> list[str]:
        """Archives from which something is to be fetched, damaged originals too, and that are not left alone."""
        self._look_for_damaged()
        with self._database.reading() as tx:
            due = due_fetches(tx)
        return [name for name in due if not self._breakers.is_open(name)]

    def _look_for_damaged(self) -> None:
        archives = {route.name: route.refetch for route in self._table().routes if route.refetch}
        if not archives or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        with self._database.transaction() as tx:
            for fetch in ask_for_damaged(tx, archives):
                log.info("a damaged original is to be fetched again", sop_instance=hashed(fetch.sop_instance_uid or ""))

    def serve(self, peer: str, owner: str) -> bool:
        """Make the next fetch that is due from an archive."""
        if self._breakers.is_open(peer):
            return False
        archive = self._table().destination(peer)
        with self._database.transaction() as tx:
            fetch = claim_fetch(tx, peer, owner=owner, lease_seconds=_LEASE_SECONDS)
        if fetch is None:
            return False
        if archive is None:
            self._end(fetch, None, FetchState.REFUSED, f"destination {peer!r} is no longer in the routes file")
            return True
        try:
            if fetch.sop_instance_uid is None:
                self._fetch_series(fetch, archive)
            else:
                self._fetch_again(fetch, archive, fetch.sop_instance_uid)
        except PeerRefused as error:
            self._end(fetch, archive, FetchState.REFUSED, str(error), getattr(error, "status", None))
        except PeerUnavailable as error:
            if self.stopping.is_set():
                return False
            self._postpone(fetch, archive, str(error), getattr(error, "status", None))
        except FullfieldError:
            raise  # The storage is away.
        except Exception as error:
            log.exception("a fetch failed", archive=peer)
            self._postpone(fetch, archive, f"an internal error ({type(error).__name__}); the node's log says where")
        return True

    @contextmanager
    def _associated(self, fetch: Fetch, archive: Destination, calling_ae: str) -> Iterator[Association]:
        """An association to an archive. One that gives none is left alone; what it then answers is of this fetch."""
        with ExitStack() as stack:
            timeout, credentials = self._settings.timeout_seconds, self._credentials
            try:
                association = stack.enter_context(
                    associated(archive, calling_ae, fetch_contexts(), timeout, credentials=credentials)
                )
            except PeerUnavailable:
                self._breakers.failed(archive.name, fetch.attempts)
                raise
            self._breakers.succeeded(archive.name)
            yield association

    def _fetch_series(self, fetch: Fetch, archive: Destination) -> None:
        calling_ae = archive.calling_ae or self._ae_title
        study = fetch.study_instance_uid
        with self._associated(fetch, archive, calling_ae) as association:
            found = find_series(association, archive, study)
            with self._database.transaction() as tx:
                wanted = _wanted(found, held_of_study(tx, study), fetch.modalities)
                chosen = _bounded(wanted)
                # Before it is asked for: what arrives is known by this row.
                uids = [series.series_instance_uid for series in chosen]
                note_asked(tx, fetch.id, archive_ae=archive.ae_title, calling_ae=calling_ae, series=uids)
                told: dict[str, Any] = {"found": len(found), "series": len(chosen)}
                if len(chosen) < len(wanted):
                    told["left_out"] = len(wanted) - len(chosen)
                _tell(tx, fetch, archive, Action.FETCH_ASKED, **told)
            moved, why = [], None
            for number, series in enumerate(chosen, start=1):
                with self._database.transaction() as tx:
                    renew_fetch(tx, fetch.id, lease_seconds=_LEASE_SECONDS)
                faultpoint("fetch.asking")
                try:
                    moved.append(self._move(association, archive, study, series.series_instance_uid, number=number))
                except FetchPostponed as error:
                    # Of one that it cannot send the others do not suffer.
                    moved.append(Moved(sent=0, failed=series.objects or 1))
                    why = error
        faultpoint("fetch.moved")
        if why is not None and not any(one.sent for one in moved):
            raise why
        if (reason := _failure(archive, moved)) and fetch.attempts < _MOST_ATTEMPTS:
            raise PeerUnavailable(reason)
        self._done(fetch, archive, moved)

    def _fetch_again(self, fetch: Fetch, archive: Destination, uid: str) -> None:
        """Have an archive send an original that is damaged; whether that has mended it, its row says."""
        damaged = self._damaged(uid)
        if damaged is None:
            with self._database.transaction() as tx:
                settle_fetch(tx, fetch.id, FetchState.FETCHED, reason="it is damaged no more")
            return
        calling_ae = archive.calling_ae or self._ae_title
        study, series = damaged.study_instance_uid, damaged.series_instance_uid
        with self._associated(fetch, archive, calling_ae) as association:
            if not has_object(association, archive, study, series, uid):
                raise PeerRefused(f"{archive.name} does not have the object")
            with self._database.transaction() as tx:
                note_asked(tx, fetch.id, archive_ae=archive.ae_title, calling_ae=calling_ae, series=[series])
                _tell(tx, fetch, archive, Action.FETCH_ASKED, digest=damaged.digest)
            moved = self._move(association, archive, study, series, uid)
        if self._damaged(uid) is None:
            self._done(fetch, archive, [moved])
        elif moved.failed:
            raise PeerUnavailable(f"{archive.name} could not send the object")
        else:
            with self._database.reading() as tx:
                reason = tx.get_one(Fetch, fetch.id).reason
            raise PeerRefused(reason or f"{archive.name} says to have sent the object, and it has not come")

    def _move(self, association: Association, archive: Destination, *uids: str, number: int = 1) -> Moved:
        """Have a series, or one object of it, sent here: its study's UID, its own, and the object's if it is one."""
        there = self._ae_title
        return move(association, archive, *uids, to=there, message_id=number, going_on=self._going_on)

    def _damaged(self, sop_instance_uid: str) -> StoredObject | None:
        with self._database.reading() as tx:
            return damaged_original(tx, sop_instance_uid)

    def _going_on(self) -> bool:
        return not self.stopping.is_set()

    def _done(self, fetch: Fetch, archive: Destination, moved: Sequence[Moved]) -> None:
        sent, failed = sum(one.sent for one in moved), sum(one.failed for one in moved)
        if failed and self.stopping.is_set():
            return  # The listener may have ended before; the next start takes it up again.
        reason = _failure(archive, moved)
        with self._database.transaction() as tx:
            settle_fetch(tx, fetch.id, FetchState.FETCHED, reason=reason, status=0x0000)
            told: dict[str, Any] = {"objects": sent}
            if fetch.sop_instance_uid is None:
                told = {"series": len(moved)} | told
            if failed:
                told |= {"failed": failed, "reason": reason}
            _tell(tx, fetch, archive, Action.FETCHED, "failed" if failed else "success", **told)
        log.info("fetched", study=hashed(fetch.study_instance_uid), archive=archive.name, objects=sent, failed=failed)

    def _postpone(self, fetch: Fetch, archive: Destination, reason: str, status: int | None = None) -> None:
        give_up_after = timedelta(hours=self._settings.give_up_after_hours)
        with self._database.transaction() as tx:
            overdue = current_time(tx) - fetch.since >= give_up_after
            if not overdue:
                wait = max(self._breakers.rest(archive.name), wait_seconds(self._settings, fetch.attempts))
                settle_fetch(tx, fetch.id, FetchState.WAITING, reason=reason, status=status, wait_seconds=wait)
                told = {"reason": reason, "attempt": fetch.attempts, "wait_seconds": round(wait, 1)}
                _tell(tx, fetch, archive, Action.FETCH_POSTPONED, "failed", **told)
        if overdue:
            self._end(fetch, archive, FetchState.ABANDONED, reason, status)
        else:
            log.warning("a fetch is postponed", archive=archive.name, reason=reason)

    def _end(
        self, fetch: Fetch, archive: Destination | None, state: FetchState, reason: str, status: int | None = None
    ) -> None:
        action = Action.FETCH_REFUSED if state == FetchState.REFUSED else Action.FETCH_ABANDONED
        outcome: Literal["refused", "failed"] = "refused" if state == FetchState.REFUSED else "failed"
        with self._database.transaction() as tx:
            settle_fetch(tx, fetch.id, state, reason=reason, status=status)
            _tell(tx, fetch, archive, action, outcome, reason=reason)
        log.warning("a fetch came to nothing", archive=fetch.archive, reason=reason)


def _failure(archive: Destination, moved: Sequence[Moved]) -> str | None:
    """What an archive could not send of what it has; None if it could."""
    sent, failed = sum(one.sent for one in moved), sum(one.failed for one in moved)
    return f"{archive.name} could not send {failed} of {sent + failed} objects" if failed else None


def _wanted(found: Sequence[FoundSeries], held: HeldStudy, modalities: Sequence[str]) -> list[FoundSeries]:
    """The series to ask for: of these modalities, not sent or made here, and not fetched whole before."""
    return [
        series
        for series in found
        if series.modality in modalities
        and series.series_instance_uid not in held.own
        and not (series.objects is not None and held.fetched[series.series_instance_uid] >= series.objects)
    ]


def _bounded(wanted: Sequence[FoundSeries]) -> list[FoundSeries]:
    """The first of them, as many as one fetch asks for."""
    chosen: list[FoundSeries] = []
    objects = 0
    for series in wanted[:_MOST_SERIES]:
        objects += series.objects or 1
        if objects > _MOST_OBJECTS:
            break
        chosen.append(series)
    return chosen


def _tell(
    tx: Session,
    fetch: Fetch,
    archive: Destination | None,
    action: Action,
    outcome: Literal["success", "refused", "failed"] = "success",
    **details: Any,
) -> None:
    record(
        tx,
        action,
        actor=_ACTOR,
        outcome=outcome,
        peer_ae=archive.ae_title if archive is not None else None,
        peer_address=f"{archive.host}:{archive.port}" if archive is not None else None,
        study_instance_uid=fetch.study_instance_uid,
        sop_instance_uid=fetch.sop_instance_uid,
        job_id=fetch.job_id,
        details={"archive": fetch.archive, **details},
    )
