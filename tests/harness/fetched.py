"""Whether what the PACS had of a study before is fetched, kept as it is, and taken for no input."""

from collections.abc import Iterator

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from config.errors import DamagedObject
from storage.fetches import OPEN
from storage.files import ObjectStore
from storage.schema import AuditRow, Fetch, StoredObject
from storage.states import FetchState, ObjectKind
from tests.harness.destinations import Sent
from tests.harness.part10 import data_set
from tests.harness.violations import Violation


def open_fetches(tx: Session) -> int:
    """How many are still under way."""
    return tx.scalars(select(func.count()).where(Fetch.state.in_(OPEN))).one()


def count_fetched(tx: Session) -> int:
    """How many objects were fetched."""
    return tx.scalars(select(func.count()).where(StoredObject.kind == ObjectKind.FETCHED)).one()


def of_fetches(tx: Session, after: int) -> Iterator[Violation]:
    """What is wrong with fetches of higher numbers: each is to come to its end, and that to be told once."""
    for fetch in tx.scalars(select(Fetch).where(Fetch.id > after).order_by(Fetch.id)):
        if fetch.state != FetchState.FETCHED:
            yield Violation("lost", f"the fetch {fetch.id} is {fetch.state.value}: {fetch.reason}")
        ends = _count(tx, AuditRow.job_id == fetch.job_id, AuditRow.action == "fetched")
        if ends != (due := tx.scalars(select(func.count()).where(Fetch.job_id == fetch.job_id)).one()):
            yield Violation("untold", f"{ends} ends of {due} fetches of the job {fetch.job_id} are told")


def of_earlier(tx: Session, store: ObjectStore, earlier: Sent) -> Iterator[Violation]:
    """What is wrong with an object that the PACS has, and of whose study a cine was sent here."""
    name, uid = earlier.file.name, earlier.sop_instance_uid
    kept = list(tx.scalars(select(StoredObject).where(StoredObject.sop_instance_uid == uid)))
    if not kept:
        yield Violation("lost", f"{name} was not fetched")
    if len(kept) > 1 or any(row.kind != ObjectKind.FETCHED for row in kept):
        yield Violation("twice", f"{name}, which was fetched, is kept as {[row.kind.value for row in kept]}")
    told = _count(
        tx, AuditRow.sop_instance_uid == uid, AuditRow.action == "object_fetched", AuditRow.outcome == "success"
    )
    if told != len(kept):
        yield Violation("untold", f"{told} receptions of {name} are told")
    for row in kept:
        try:
            store.verify(row.digest)
            if data_set(store.path(row.digest).read_bytes()) != data_set(earlier.file.read_bytes()):
                yield Violation("lost", f"{name} was fetched and is kept with other bytes")
        except DamagedObject as error:
            yield Violation("lost", f"{name} was fetched: {error}")


def _count(tx: Session, *conditions: object) -> int:
    return tx.scalars(select(func.count()).select_from(AuditRow).where(*conditions)).one()  # type: ignore[arg-type]
