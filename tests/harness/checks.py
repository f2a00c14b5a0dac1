"""What is judged when the node has come to rest: nothing lost, nothing twice, stuck, orphaned or untold."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from config.errors import DamagedObject, FullfieldError
from storage.audit_trail import verify
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import (
    AuditRow,
    CataloguedObject,
    Delivery,
    Fetch,
    FileToRemove,
    Job,
    Series,
    SoughtCommitment,
    StoredObject,
)
from storage.states import DeliveryState, ObjectKind, SeriesState
from storage.transitions import JobState
from tests.harness.destinations import Destinations, Sent
from tests.harness.fetched import count_fetched, of_earlier, of_fetches, open_fetches
from tests.harness.part10 import data_set
from tests.harness.place import Place
from tests.harness.violations import Violation
from tests.peers import wait_until

#: What a worker ends with when the job that it would end has gone on without it.
_ENDED_TWICE = re.compile(r"^fullfield: (A job that is .* cannot become .*)$", re.MULTILINE)

_FIRST_TOLD = {
    ObjectKind.ORIGINAL: "object_received",
    ObjectKind.RESULT: "reconstructed",
    ObjectKind.FETCHED: "object_fetched",
    ObjectKind.ASIDE: "object_received",
}


class Judge:
    """Looks at what is new since it looked last; at the end at everything again."""

    def __init__(self, here: Place) -> None:
        self._here = here
        self._store = ObjectStore(here.node.root)
        self._database: Database = here.node.database()
        #: Acknowledged, by SOP Instance UID.
        self.acknowledged: dict[str, Path] = {}
        self._destinations = Destinations(here, self._store)
        self._seen_object = self._seen_audit = self._seen_fetch = 0
        self._log_read = 0
        #: In the PACS before a cine of the same study was sent here, and not judged yet.
        self._earlier: list[Sent] = []
        #: Objects that were fetched, and rows of the audit trail.
        self.fetched = self.told = 0

    def acknowledge(self, files: list[Path]) -> None:
        """Note what senders saw acknowledged."""
        for sent in map(Sent.read, files):
            if sent.sop_instance_uid not in self.acknowledged:
                self.acknowledged[sent.sop_instance_uid] = sent.file
                self._destinations.expect(sent)

    def give_the_pacs(self, files: list[Path]) -> None:
        """Let the PACS have objects of the studies of cines that are about to be sent."""
        for sent in map(Sent.read, files):
            self._destinations.give_the_pacs(sent)
            self._earlier.append(sent)

    def why_unsettled(self) -> str | None:
        """What is still under way; None when all has come to rest."""
        try:
            with self._database.reading() as tx:
                waiting = select(func.count()).where(
                    StoredObject.kind == ObjectKind.ORIGINAL, StoredObject.job_id.is_(None)
                )
                if count := tx.scalars(waiting).one():
                    return f"{count} objects have no job"
                jobs = select(Job.state, func.count()).where(
                    Job.state.not_in([JobState.COMMITTED, JobState.FAILED, JobState.DECLINED])
                )
                if states := tx.execute(jobs.group_by(Job.state)).all():
                    return "jobs are " + ", ".join(f"{state.value} ({count})" for state, count in states)
                if count := open_fetches(tx):
                    return f"{count} fetches are under way"
        except FullfieldError as error:
            return str(error)
        return None

    def steps_told(self) -> int:
        """Rows of the audit trail so far."""
        try:
            with self._database.reading() as tx:
                return tx.scalars(select(func.max(AuditRow.id))).one() or 0
        except FullfieldError:
            return 0

    def is_at_work(self, pid: int) -> bool:
        """Whether the worker of this process has a job."""
        with self._database.reading() as tx:
            held = select(func.count()).where(Job.state == JobState.RUNNING, Job.lease_owner.like(f"%:{pid}/%"))
            return bool(tx.scalars(held).one())

    def violations(self) -> list[Violation]:
        """What is wrong with all that is new."""
        with self._database.reading() as tx:
            found = [
                *self._acknowledged_is_kept(tx),
                *self._files_and_rows_agree(tx),
                *self._no_row_is_left_over(tx),
                *self._jobs_are_committed(tx),
                *self._destinations.violations(tx, self._new_objects(tx)),
                *self._is_told(tx),
                *of_fetches(tx, self._seen_fetch),
                *(one for sent in self._earlier for one in of_earlier(tx, self._store, sent)),
            ]
            self._earlier.clear()
            self.fetched = count_fetched(tx)
            self._seen_object = tx.scalars(select(func.max(StoredObject.id))).one() or 0
            self._seen_audit = tx.scalars(select(func.max(AuditRow.id))).one() or 0
            self._seen_fetch = tx.scalars(select(func.max(Fetch.id))).one() or 0
        return [*found, *self._log_is_quiet()]

    def look_at_everything_again(self) -> list[Violation]:
        """As if nothing had been seen."""
        self._seen_object = self._seen_audit = self._seen_fetch = 0
        self._destinations.look_at_everything_again()
        self._earlier = list(self._destinations.earlier.values())
        return self.violations()

    def is_swept(self) -> list[Violation]:
        """Whether the node clears away what crashes have left of objects that were being received."""
        incoming = self._here.node.root / "incoming"
        for left in incoming.iterdir():
            os.utime(left, (0, 0))
        try:
            wait_until(lambda: not list(incoming.iterdir()), what="the sweep")
        except TimeoutError:
            return [Violation("orphaned", f"{len(list(incoming.iterdir()))} files that nobody receives are kept")]
        return []

    def close(self) -> None:
        """Look no more."""
        self._database.close()

    def _new_objects(self, tx: Session) -> list[StoredObject]:
        return list(tx.scalars(select(StoredObject).where(StoredObject.id > self._seen_object)))

    def _acknowledged_is_kept(self, tx: Session) -> list[Violation]:
        found = []
        everything = self._seen_object == 0
        rows = {row.sop_instance_uid: row for row in self._new_objects(tx) if row.kind == ObjectKind.ORIGINAL}
        for uid, file in self.acknowledged.items():
            row = rows.get(uid)
            if row is None:
                row = tx.scalars(
                    select(StoredObject).where(
                        StoredObject.sop_instance_uid == uid, StoredObject.kind == ObjectKind.ORIGINAL
                    )
                ).one_or_none()
                if row is not None and not everything:
                    continue
            if row is None:
                found.append(Violation("lost", f"{file.name} was acknowledged and is not in the database"))
                continue
            try:
                self._store.verify(row.digest)
                if data_set(self._store.path(row.digest).read_bytes()) != data_set(file.read_bytes()):
                    found.append(Violation("lost", f"{file.name} was acknowledged and is kept with other bytes"))
            except DamagedObject as error:
                found.append(Violation("lost", f"{file.name} was acknowledged: {error}"))
        return found

    def _files_and_rows_agree(self, tx: Session) -> list[Violation]:
        found = []
        for row in self._new_objects(tx):
            if row.kind == ObjectKind.ASIDE:
                found.append(Violation("twice", "an object was kept aside, for it came with two contents"))
            try:
                self._store.verify(row.digest)
            except DamagedObject as error:
                found.append(Violation("lost", f"a row of kind {row.kind.value} has no file: {error}"))
        named = set(tx.scalars(select(StoredObject.digest)))
        kept = {path.name for path in (self._here.node.root / "objects").glob("*/*/*")}
        if orphans := kept - named:
            found.append(Violation("orphaned", f"{len(orphans)} files of the store are in no row"))
        if aside := list(self._store.quarantined.glob("*")):
            found.append(Violation("orphaned", f"{len(aside)} files were moved aside"))
        return found

    def _no_row_is_left_over(self, tx: Session) -> list[Violation]:
        """Whether the database holds anything that is still to come to an end, or that belongs to nothing."""
        catalogued, of_a_job = select(CataloguedObject.object_id), select(StoredObject.job_id)
        left: dict[str, Select[Any]] = {
            "series are open": select(Series).where(Series.state != SeriesState.COMPLETE),
            "files wait to be removed": select(FileToRemove),
            "objects are not catalogued": select(StoredObject).where(StoredObject.id.not_in(catalogued)),
            "jobs have no objects": select(Job).where(Job.id.not_in(of_a_job.where(StoredObject.job_id.is_not(None)))),
            "requests for commitment go on": select(SoughtCommitment).where(SoughtCommitment.ended_at.is_(None)),
        }
        counts = {what: len(tx.execute(query).all()) for what, query in left.items()}
        return [Violation("orphaned", f"{count} {what}") for what, count in counts.items() if count]

    def _jobs_are_committed(self, tx: Session) -> list[Violation]:
        odd = select(Job).where(Job.state != JobState.COMMITTED)
        found = [Violation("stuck", f"job {job.id} is {job.state.value}: {job.reason}") for job in tx.scalars(odd)]
        undelivered = select(func.count()).where(Delivery.state != DeliveryState.ACKNOWLEDGED)
        if count := tx.scalars(undelivered).one():
            found.append(Violation("stuck", f"{count} deliveries are not acknowledged"))
        leased = select(func.count()).where(Delivery.lease_owner.is_not(None))
        if count := tx.scalars(leased).one():
            found.append(Violation("stuck", f"{count} deliveries are still leased"))
        return found

    def _is_told(self, tx: Session) -> list[Violation]:
        try:
            self.told = verify(tx)
        except DamagedObject as error:
            return [Violation("untold", str(error))]
        new = AuditRow.id > self._seen_audit
        by_object = Counter(
            tx.execute(
                select(AuditRow.action, AuditRow.sop_instance_uid).where(new, AuditRow.outcome == "success")
            ).all()
        )
        by_job = Counter(tx.execute(select(AuditRow.action, AuditRow.job_id).where(new)).all())
        found = []
        starts = tx.scalars(select(func.count()).where(AuditRow.action == "node_started")).one()
        if starts <= (deaths := len(self._here.node.recoveries)):
            found.append(Violation("untold", f"{starts} starts of the node are told, and it came back {deaths} times"))
        objects = self._new_objects(tx)
        jobs = {object.job_id for object in objects if object.job_id is not None}
        made = set(tx.scalars(select(Job.id).where(Job.id.in_(jobs))))

        def expect(action: str, what: str | int, told: Counter[Any], name: str, times: int = 1) -> None:
            if told[action, what] != times:
                found.append(Violation("untold", f"{name} is told {told[action, what]} times of as {action}"))

        for object in objects:
            expect(_FIRST_TOLD[object.kind], object.sop_instance_uid, by_object, f"object {object.id}")
        destinations = 1 + len(self._here.witnesses)
        for object in objects:
            is_due = object.kind == ObjectKind.RESULT or object.sop_instance_uid in self._destinations.passed_on
            expect(
                "delivered", object.sop_instance_uid, by_object, f"object {object.id}", destinations if is_due else 0
            )
        for job in made:
            expect("job_queued", job, by_job, f"job {job}")
            expect("job_delivered", job, by_job, f"job {job}")
            expect("job_committed", job, by_job, f"job {job}")
            if not by_job["job_started", job]:
                found.append(Violation("untold", f"nobody tells that job {job} was started"))
        return found

    def _log_is_quiet(self) -> list[Violation]:
        with self._here.node.log.open(errors="replace") as log:
            log.seek(self._log_read)
            said = log.read()
            self._log_read = log.tell()
        found = [Violation("twice", f"a job was ended twice: {line}") for line in _ENDED_TWICE.findall(said)]
        where = said.find("Traceback")
        if where >= 0:
            found.append(Violation("unsaid", f"the log holds a traceback: {said[where : where + 3000]}"))
        return found
