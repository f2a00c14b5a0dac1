"""What comes out of a job: its originals worked out one by one, and all of it entered in one transaction."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset
from sqlalchemy.orm import Session

from config.errors import Declined
from config.routes import QueuedRoute
from dicom_node.audit import Action, record
from dicom_node.objects.report import ReportDraft, Unmade
from dicom_node.objects.source_faults import faults
from dicom_node.sop_classes import PASSED_ON
from dicom_node.workflow.reconstruction import objects_of, read_image, reconstruction_of, seed_of
from storage.faultpoint import faultpoint
from storage.files import ObjectStore
from storage.objects import ReceivedObject, find_object, keep_object
from storage.outbox import add_delivery
from storage.queue import Lease, finish
from storage.schema import Job, StoredObject
from storage.states import ObjectKind
from storage.transitions import JobState

if TYPE_CHECKING:
    from inference.reconstruct import Reconstructor

ACTOR = "worker"


@dataclass(frozen=True, kw_only=True)
class Made:
    """The results of one original; their files are in the object store, the database does not know them."""

    original: StoredObject
    #: With each the destinations that get it.
    results: list[tuple[ReceivedObject, list[str]]]
    seed: int
    #: What is wrong with the original's header, in sentences.
    faults: list[str]
    #: Where the networks ran, such as ``cpu``: where a GPU's memory gives out they go on there.
    device: str


@dataclass(frozen=True)
class Refused:
    """An original that is not to be reconstructed, and why."""

    original: StoredObject
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of each original of a job, and what made the results."""

    made: list[Made]
    refused: list[Refused]
    #: Originals that go to the destinations as they came.
    passed_on: list[StoredObject]
    #: Profile and version of the model.
    model: str
    #: SHA-256 of its weights.
    digest: str

    @property
    def reason(self) -> str | None:
        """Why some were refused, in one sentence; None if none was."""
        if self.count == 1:
            return self.refused[0].reason if self.refused else None
        counted = Counter(refused.reason for refused in self.refused)
        return "; ".join(f"{count} of {self.count} objects: {why}" for why, count in counted.items()) or None

    @property
    def count(self) -> int:
        """How many originals there were."""
        return len(self.made) + len(self.refused) + len(self.passed_on)


def work_out(
    originals: Sequence[StoredObject],
    route: QueuedRoute,
    store: ObjectStore,
    reconstructor: "Reconstructor",
    progress: Callable[[float], None],
    *,
    created: datetime,
) -> Outcome:
    """Reconstruct each original and keep its results' files; what goes with pictures needs no work.

    progress: told the share of the job done, in (0, 1]; what it raises ends the work.
    created: by which the results are dated. The same for each attempt, so that an attempt after a crash makes the
        same files again, and none is left in the store that no row names.
    Raises DamagedObject for an original that is missing or changed, StorageFull or StorageUnavailable.
    """
    weights = reconstructor.weights
    model = f"{weights.profile} {weights.version}"
    outcome = Outcome([], [], [], model=model, digest=weights.digest)
    drafts: list[_Draft] = []
    for number, original in enumerate(originals):

        def share(done: float, number: int = number) -> None:
            progress((number + done) / len(originals))

        share(0)
        if original.sop_class_uid in PASSED_ON:
            store.verify(original.digest)
            outcome.passed_on.append(original)
            continue
        try:
            outcome.made.append(_made(original, route, store, reconstructor, share, created, drafts))
        except Declined as error:
            outcome.refused.append(Refused(original, str(error)))
    for draft in drafts:
        report = draft.report.finished([_unmade(refused) for refused in outcome.refused])
        draft.results.append((_keep(store, report), draft.destinations))
    return outcome


@dataclass(frozen=True)
class _Draft:
    """A report that waits for what becomes of the other originals, and the results that it is to be one of."""

    report: ReportDraft
    results: list[tuple[ReceivedObject, list[str]]]
    destinations: list[str]


def _made(
    original: StoredObject,
    route: QueuedRoute,
    store: ObjectStore,
    reconstructor: "Reconstructor",
    progress: Callable[[float], None],
    created: datetime,
    drafts: list[_Draft],
) -> Made:
    """Reconstruct one original and keep its results' files; nothing of its pixels outlives this. Adds to `drafts`."""
    source = _read(store, original)
    reconstruction = reconstruction_of(source, reconstructor, mode=route.mode, progress=progress)
    results: list[tuple[ReceivedObject, list[str]]] = []
    for profile, destinations in route.by_objects.items():
        carried = objects_of(
            source,
            reconstruction,
            route=route.name,
            mark=route.mark,
            profile=profile,
            beside=route.beside,
            private_creators=route.private_creators,
            created=created,
        )
        results += [(_keep(store, dataset), destinations) for dataset in carried.objects]
        if carried.report is not None:
            drafts.append(_Draft(carried.report, results, destinations))
    return Made(
        original=original,
        results=results,
        seed=seed_of(source),
        faults=faults(source),
        device=reconstructor.device,
    )


def enter(tx: Session, lease: Lease, outcome: Outcome, route: QueuedRoute) -> Job:
    """End the job: its results, a delivery of each to each destination, its state, and the audit rows.

    Raises LeaseLost, and nothing of it is entered, when the job is another worker's by now.
    """
    state = JobState.RECONSTRUCTED if outcome.made or outcome.passed_on else JobState.DECLINED
    digest = outcome.digest if outcome.made or outcome.refused else None
    job = finish(tx, lease, state, reason=outcome.reason, model_digest=digest)
    for made in outcome.made:
        for received, destinations in made.results:
            result = _entered(tx, job, received)
            for destination in destinations:
                add_delivery(tx, job=job, object=result, destination=destination)
            _tell_of_result(tx, job, outcome, made, result)
    for original in outcome.passed_on:
        for destination in route.destinations:
            add_delivery(tx, job=job, object=original, destination=destination)
        _tell_of_passing_on(tx, job, original)
    for refused in outcome.refused:
        _tell_of_refusal(tx, job, refused)
    return job


def _read(store: ObjectStore, original: StoredObject) -> Dataset:
    store.verify(original.digest)
    with store.open(original.digest) as file:
        return read_image(file)


def _unmade(refused: Refused) -> Unmade:
    """How a report on the others names an original that was not reconstructed."""
    return Unmade(
        sop_class_uid=refused.original.sop_class_uid,
        sop_instance_uid=refused.original.sop_instance_uid,
        series_instance_uid=refused.original.series_instance_uid,
        reason=refused.reason,
    )


def _keep(store: ObjectStore, dataset: Dataset) -> ReceivedObject:
    """Write a result into the object store."""

    def fill(file: BinaryIO) -> None:
        try:
            dcmwrite(file, dataset, enforce_file_format=True)
        except OSError as error:  # pydicom puts another one, without a number, around that of a disk
            cause = error.__cause__ if error.errno is None else error
            if isinstance(cause, OSError) and cause.errno is not None:
                raise cause from None
            raise ValueError("A result has a value that cannot be written.") from error

    kept = store.write_with(fill)
    faultpoint("worker.result_kept")
    return ReceivedObject(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        modality=str(dataset.Modality),
        frames=int(dataset.get("NumberOfFrames") or 1),
        digest=kept.digest,
        size=kept.size,
        kind=ObjectKind.RESULT,
        header=Dataset({element.tag: element for element in dataset if element.keyword != "PixelData"}),
    )


def _entered(tx: Session, job: Job, received: ReceivedObject) -> StoredObject:
    """The row of a result; that of an earlier version where there is one, for PACS is to see no other."""
    earlier = find_object(tx, received.sop_instance_uid)
    return earlier or keep_object(tx, replace(received, job_id=job.id)).object


def _tell_of_result(tx: Session, job: Job, outcome: Outcome, made: Made, result: StoredObject) -> None:
    record(
        tx,
        Action.RECONSTRUCTED,
        actor=ACTOR,
        study_instance_uid=result.study_instance_uid,
        series_instance_uid=result.series_instance_uid,
        sop_instance_uid=result.sop_instance_uid,
        job_id=job.id,
        model_digest=outcome.digest,
        details={
            "source": made.original.sop_instance_uid,
            "digest": result.digest,
            "frames": result.frames,
            "model": outcome.model,
            "mode": job.mode,
            "seed": made.seed,
            "device": made.device,
            "route": job.route,
        }
        | ({"source_faults": made.faults} if made.faults else {}),
    )


def _tell_of_passing_on(tx: Session, job: Job, original: StoredObject) -> None:
    record(
        tx,
        Action.PASSED_ON,
        actor=ACTOR,
        study_instance_uid=original.study_instance_uid,
        series_instance_uid=original.series_instance_uid,
        sop_instance_uid=original.sop_instance_uid,
        job_id=job.id,
        details={"digest": original.digest, "sop_class_uid": original.sop_class_uid, "route": job.route},
    )


def _tell_of_refusal(tx: Session, job: Job, refused: Refused) -> None:
    record(
        tx,
        Action.JOB_DECLINED,
        actor=ACTOR,
        outcome="refused",
        study_instance_uid=refused.original.study_instance_uid,
        series_instance_uid=refused.original.series_instance_uid,
        sop_instance_uid=refused.original.sop_instance_uid,
        job_id=job.id,
        details={"reason": refused.reason},
    )
