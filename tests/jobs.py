"""Jobs for the tests of what becomes of them, without files and pixels."""

from datetime import timedelta

from sqlalchemy.orm import Session

from storage.database import current_time
from storage.objects import ReceivedObject, keep_object
from storage.outbox import add_delivery
from storage.queue import Lease, claim, enqueue
from storage.schema import Delivery, Job
from storage.states import ObjectKind


def queued(
    tx: Session,
    number: int = 1,
    *,
    priority: int = 50,
    max_attempts: int = 3,
    sender: str = "CARM",
    route: str = "thorax",
    frames: int = 16,
    study: str = "1.2",
) -> Job:
    """A queued job on an object of its own."""
    received = ReceivedObject(
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.12.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=study,
        series_instance_uid=f"1.2.{number}",
        modality="XA",
        frames=frames,
        digest=f"{number:064x}",
        size=1,
        calling_ae=sender,
    )
    return enqueue(
        tx,
        objects=[keep_object(tx, received).object],
        route=route,
        profile="fullfield",
        mode="mean",
        priority=priority,
        max_attempts=max_attempts,
        settings={"mark": {"label": "generated"}},
    )


def result(tx: Session, job: Job, destination: str = "pacs") -> Delivery:
    """The result object of the job, waiting for its delivery to a destination."""
    made = ReceivedObject(
        sop_instance_uid=f"2.25.{job.id}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        study_instance_uid=job.study_instance_uid,
        series_instance_uid="2.25",
        modality="XA",
        frames=16,
        digest=f"{job.id + 1000:064x}",
        size=1,
        kind=ObjectKind.RESULT,
        job_id=job.id,
    )
    return add_delivery(tx, job=job, object=keep_object(tx, made).object, destination=destination)


def take(tx: Session, owner: str = "one") -> tuple[Job, Lease]:
    """Claim the next job, which there has to be."""
    taken = claim(tx, owner=owner, lease_seconds=60)
    assert taken is not None
    return taken


def let_lease_run_out(tx: Session, job: Job) -> None:
    """What happens to a worker that has died."""
    job.lease_until = current_time(tx) - timedelta(seconds=1)
    tx.flush()
