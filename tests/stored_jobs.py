"""Jobs on real objects in an object store, for the tests of workers and of delivery."""

from pydicom.dataset import Dataset
from sqlalchemy import select

from config.objects import ObjectProfile
from config.routes import QueuedRoute
from storage.audit_trail import trail
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import ReceivedObject, keep_object
from storage.outbox import add_delivery
from storage.queue import claim, enqueue, finish, get_job
from storage.schema import AuditRow, Delivery, Job
from storage.states import ObjectKind
from storage.transitions import JobState
from tests.factory import write, xa
from tests.peers import wait_until


def queue_job(
    database: Database,
    store: ObjectStore,
    *datasets: Dataset,
    destinations: tuple[str, ...] = ("pacs",),
    profile: str = "fullfield",
    max_attempts: int = 3,
    pictures: dict[str, ObjectProfile] | None = None,
    private_creators: tuple[str, ...] = (),
) -> int:
    """Keep the data sets, queue a job that takes them in, and return its number."""
    objects = [received(store, dataset) for dataset in datasets]
    return queue_received(
        database,
        *objects,
        destinations=destinations,
        profile=profile,
        max_attempts=max_attempts,
        pictures=pictures,
        private_creators=private_creators,
    )


def queue_received(
    database: Database,
    *objects: ReceivedObject,
    destinations: tuple[str, ...] = ("pacs",),
    profile: str = "fullfield",
    max_attempts: int = 3,
    pictures: dict[str, ObjectProfile] | None = None,
    private_creators: tuple[str, ...] = (),
    uncertainty: bool = False,
) -> int:
    """Queue a job that takes in what the store has received, and return its number.

    pictures: of which class a destination gets them, by its name.
    """
    route = QueuedRoute(
        name="all",
        destinations=destinations,
        profile=profile,
        objects=pictures or {},
        private_creators=private_creators,
        uncertainty=uncertainty,
    )
    with database.transaction() as tx:
        originals = [keep_object(tx, each).object for each in objects]
        job = enqueue(
            tx,
            objects=originals,
            route=route.name,
            profile=route.profile,
            mode=route.mode,
            priority=route.priority,
            max_attempts=max_attempts,
            settings=route.model_dump(mode="json"),
        )
    return job.id


def received(
    store: ObjectStore, dataset: Dataset, kind: ObjectKind = ObjectKind.ORIGINAL, job: int | None = None
) -> ReceivedObject:
    """A data set that has been put into the store, before the database knows of it."""
    file = store.keep(write(dataset, store.incoming / f"{dataset.SOPInstanceUID}.dcm"))
    return ReceivedObject(
        sop_instance_uid=dataset.SOPInstanceUID,
        sop_class_uid=dataset.SOPClassUID,
        transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
        study_instance_uid=dataset.StudyInstanceUID,
        series_instance_uid=dataset.SeriesInstanceUID,
        modality="XA",
        frames=int(dataset.get("NumberOfFrames", 1)),
        digest=file.digest,
        size=file.size,
        kind=kind,
        job_id=job,
    )


def reconstructed(database: Database, store: ObjectStore, *destinations: str, objects: int = 2) -> int:
    """A job with so many results in the outbox; its number."""
    number = queue_job(database, store, xa(frames=1, rows=16, columns=16), destinations=destinations)
    with database.transaction() as tx:
        job, lease = claim(tx, owner="worker", lease_seconds=60)
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        for _ in range(objects):
            dataset = xa(frames=1, rows=16, columns=16)
            result = keep_object(tx, received(store, dataset, ObjectKind.RESULT, number)).object
            for destination in destinations:
                add_delivery(tx, job=job, object=result, destination=destination)
    return number


def wait_for(database: Database, job: int, state: JobState) -> None:
    """Wait until the job is in a state."""
    wait_until(lambda: job_of(database, job).state == state, what=f"job {job} to be {state}")


def job_of(database: Database, job: int) -> Job:
    """The job as it is now."""
    with database.reading() as tx:
        return get_job(tx, job)


def deliveries(database: Database, job: int) -> list[Delivery]:
    """The deliveries of a job, in the order in which they were asked for."""
    with database.reading() as tx:
        return list(tx.scalars(select(Delivery).where(Delivery.job_id == job).order_by(Delivery.id)))


def story(database: Database, job: int) -> list[AuditRow]:
    """The audit rows of a job, oldest first."""
    with database.reading() as tx:
        return trail(tx, job=job)


def steps(database: Database, job: int) -> list[str]:
    """The actions in the audit rows of a job, oldest first."""
    return [row.action for row in story(database, job)]
