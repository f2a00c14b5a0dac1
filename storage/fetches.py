"""What this node fetches from archives: a row for each time a job's route asks for the other series of its study, or
for an original again whose file is damaged (refetches.py).

The row says what was asked for before it is asked, so that what then arrives is known for it in whatever process it
does, and a fetch is taken up again after a crash.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.schema import Fetch, Job, StoredObject
from storage.states import FetchState, ObjectKind

#: Something is to become of a fetch in these states.
OPEN = (FetchState.WAITING, FetchState.ASKED)


@dataclass(frozen=True)
class HeldStudy:
    """What is held of a study, by Series Instance UID."""

    #: Series of which something was sent here, or made here.
    own: frozenset[str]
    #: How many objects were fetched of each series.
    fetched: Counter[str]


def add_fetch(tx: Session, job: Job, *, archive: str, modalities: Sequence[str]) -> Fetch | None:
    """Enter a fetch for the study of a job; None where one that has not begun will do for it too."""
    waiting = select(Fetch.id).where(
        Fetch.study_instance_uid == job.study_instance_uid,
        Fetch.archive == archive,
        Fetch.sop_instance_uid.is_(None),
        Fetch.state == FetchState.WAITING,
        Fetch.lease_until.is_(None),
    )
    if tx.scalars(waiting.limit(1)).first() is not None:
        return None
    fetch = new_fetch(job.id, job.study_instance_uid, archive, current_time(tx), modalities=modalities)
    tx.add(fetch)
    tx.flush()
    return fetch


def new_fetch(
    job_id: int | None,
    study_instance_uid: str,
    archive: str,
    now: datetime,
    *,
    modalities: Sequence[str] = (),
    sop_instance_uid: str | None = None,
) -> Fetch:
    """A fetch that nobody has begun: of a study, or of one object of it."""
    return Fetch(
        job_id=job_id,
        study_instance_uid=study_instance_uid,
        archive=archive,
        modalities=list(modalities),
        sop_instance_uid=sop_instance_uid,
        archive_ae="",
        calling_ae="",
        series=[],
        state=FetchState.WAITING,
        attempts=0,
        not_before=now,
        since=now,
    )


def due_fetches(tx: Session) -> list[str]:
    """Names of the archives from which something is to be fetched now."""
    return list(tx.scalars(select(Fetch.archive).distinct().where(*_due(current_time(tx)))))


def claim_fetch(tx: Session, archive: str, *, owner: str, lease_seconds: float) -> Fetch | None:
    """Take the fetch that is longest due from an archive; None if there is none."""
    now = current_time(tx)
    query = (
        select(Fetch)
        .where(Fetch.archive == archive, *_due(now))
        .order_by(Fetch.not_before, Fetch.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    fetch = tx.scalars(query).one_or_none()
    if fetch is not None:
        fetch.attempts += 1
        fetch.lease_owner, fetch.lease_until = owner, now + timedelta(seconds=lease_seconds)
        tx.flush()
    return fetch


def renew_fetch(tx: Session, fetch_id: int, *, lease_seconds: float) -> None:
    """Hold a fetch that is under way for so much longer."""
    until = current_time(tx) + timedelta(seconds=lease_seconds)
    tx.execute(update(Fetch).where(Fetch.id == fetch_id).values(lease_until=until))


def note_asked(tx: Session, fetch_id: int, *, archive_ae: str, calling_ae: str, series: Sequence[str]) -> Fetch:
    """Note what is about to be asked for, of whom and by which AE title."""
    fetch = _locked(tx, fetch_id)
    fetch.state, fetch.reason = FetchState.ASKED, None
    fetch.archive_ae, fetch.calling_ae = archive_ae, calling_ae
    fetch.series = [*fetch.series, *(uid for uid in series if uid not in fetch.series)]
    tx.flush()
    return fetch


def settle_fetch(
    tx: Session,
    fetch_id: int,
    state: FetchState,
    *,
    reason: str | None = None,
    status: int | None = None,
    wait_seconds: float = 0,
) -> Fetch:
    """Note what became of a fetch; wait_seconds: until it is tried again, where it is."""
    fetch, now = _locked(tx, fetch_id), current_time(tx)
    fetch.state, fetch.reason, fetch.last_status = state, reason, status
    fetch.not_before = now + timedelta(seconds=wait_seconds)
    fetch.ended_at = None if state in OPEN else now
    fetch.lease_owner = fetch.lease_until = None
    tx.flush()
    return fetch


def fetch_behind(
    tx: Session,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    sop_instance_uid: str,
    mover: str | None,
    calling_ae: str,
) -> Fetch | None:
    """The fetch for which an object arrives; None for one that nobody here has asked for.

    mover: the Move Originator that its request names (PS3.7 9.1.1.1.8), to whom it is due whatever it is. An archive
    that names none, or itself as pynetdicom's does, is believed by what it was asked for, while it is.
    """
    query = select(Fetch).where(or_(Fetch.study_instance_uid == study_instance_uid, Fetch.state == FetchState.ASKED))

    def farness(fetch: Fetch) -> tuple[int, bool, int]:
        """Fetches of this very object first, then those of whole series, each of its own study, the newest first."""
        of_object = {sop_instance_uid: 0, None: 1}.get(fetch.sop_instance_uid, 2)
        return of_object, fetch.study_instance_uid != study_instance_uid, -fetch.id

    for fetch in sorted(tx.scalars(query), key=farness):
        if mover is not None and mover == fetch.calling_ae:
            return fetch
        asked_now = fetch.state == FetchState.ASKED and is_asked_for(fetch, series_instance_uid, sop_instance_uid)
        if mover in (None, fetch.archive_ae) and asked_now and calling_ae == fetch.archive_ae:
            return fetch
    return None


def is_asked_for(fetch: Fetch, series_instance_uid: str, sop_instance_uid: str) -> bool:
    """Whether an object is one that a fetch has asked for."""
    return series_instance_uid in fetch.series and fetch.sop_instance_uid in (None, sop_instance_uid)


def fetches_of(tx: Session, job_id: int) -> list[Fetch]:
    """All fetches that a job has caused, oldest first."""
    return list(tx.scalars(select(Fetch).where(Fetch.job_id == job_id).order_by(Fetch.id)))


def held_of_study(tx: Session, study_instance_uid: str) -> HeldStudy:
    """What is held of a study."""
    query = (
        select(StoredObject.series_instance_uid, StoredObject.kind, func.count())
        .where(StoredObject.study_instance_uid == study_instance_uid, StoredObject.kind != ObjectKind.ASIDE)
        .group_by(StoredObject.series_instance_uid, StoredObject.kind)
    )
    rows = list(tx.execute(query))
    return HeldStudy(
        own=frozenset(uid for uid, kind, _ in rows if kind != ObjectKind.FETCHED),
        fetched=Counter({uid: count for uid, kind, count in rows if kind == ObjectKind.FETCHED}),
    )


def _locked(tx: Session, fetch_id: int) -> Fetch:
    return tx.get_one(Fetch, fetch_id, with_for_update=True, populate_existing=True)


def _due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    free = or_(Fetch.lease_until.is_(None), Fetch.lease_until < now)
    return Fetch.state.in_(OPEN), Fetch.not_before <= now, free
