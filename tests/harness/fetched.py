"""Whether what the PACS had of a study before is fetched, kept as it is, and taken for no input."""

from collections import Counter

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


def violations_of(tx: Session, store: ObjectStore, earlier: Sent) -> list[Violation]:
    """What is wrong with an object that the PACS has, and of whose study a cine was sent here."""
    name, study = earlier.file.name, next(iter(earlier.due))[0]
    fetches = list(tx.scalars(select(Fetch).where(Fetch.study_instance_uid == study)))
    if not fetches:
        return [Violation("lost", f"nothing of the study of {name} was fetched")]
    found = [
        Violation("lost", f"the fetch {fetch.id} is {fetch.state.value}: {fetch.reason}")
        for fetch in fetches
        if fetch.state != FetchState.FETCHED
    ]
    told = Counter(
        tx.execute(
            select(AuditRow.action, AuditRow.outcome).where(
                AuditRow.study_instance_uid == study,
                AuditRow.action.in_(["fetch_asked", "fetched", "object_fetched"]),
            )
        ).all()
    )
    ended = told["fetched", "success"] + told["fetched", "failed"]
    if ended != len(fetches) or not told["fetch_asked", "success"]:
        found.append(Violation("untold", f"{ended} ends of {len(fetches)} fetches for {name} are told"))
    kept = list(tx.scalars(select(StoredObject).where(StoredObject.sop_instance_uid == earlier.sop_instance_uid)))
    if len(kept) > 1 or any(row.kind != ObjectKind.FETCHED for row in kept):
        kinds = [row.kind.value for row in kept]
        found.append(Violation("twice", f"{name}, which was fetched, is kept as {kinds}"))
    if told["object_fetched", "success"] != len(kept):
        found.append(Violation("untold", f"{told['object_fetched', 'success']} receptions of {name} are told"))
    if not kept and not told["fetched", "failed"]:
        found.append(Violation("lost", f"{name} was not fetched, and nobody says so"))
    for row in kept:
        try:
            store.verify(row.digest)
            if data_set(store.path(row.digest).read_bytes()) != data_set(earlier.file.read_bytes()):
                found.append(Violation("lost", f"{name} was fetched and is kept with other bytes"))
        except DamagedObject as error:
            found.append(Violation("lost", f"{name} was fetched: {error}"))
    return found
