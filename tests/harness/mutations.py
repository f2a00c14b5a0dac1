"""Mistakes that a durable node must not make, each of which the harness has to catch."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from storage.states import ObjectKind
from tests.harness.violations import Kind


@dataclass(frozen=True)
class Mutation:
    """A mistake, made by patching the product in the processes that the harness starts."""

    #: What it is.
    sentence: str
    apply: Callable[[], None]
    #: The fault that brings it to light, as `tests.harness.faults.named` knows it.
    fault: str
    #: Of which kind the violation is that shows it.
    caught_as: Kind
    #: Another kind, where it depends on how far the senders were.
    or_as: Kind | None = None


def _no_folder_sync() -> None:
    from storage import files

    sync = files._fsync
    files._fsync = lambda path: None if path.is_dir() else sync(path)


def _no_file_sync() -> None:
    from storage import files

    sync = files._fsync
    files._fsync = lambda path: sync(path) if path.is_dir() else None


def _acknowledged_before_the_commit() -> None:
    from dicom_node.network.intake import Intake
    from storage.objects import Kept

    keep = Intake._keep

    def late(intake: Intake, *arguments: Any) -> Kept:
        in_its_place = SimpleNamespace(keep=lambda *_: None, open=intake._store.open)
        rest = SimpleNamespace(_store=in_its_place, _transaction=intake._transaction, _on_kept=intake._on_kept)

        def commit() -> None:
            time.sleep(1)
            keep(rest, *arguments)  # type: ignore[arg-type]

        intake._store.keep(arguments[0].path, arguments[0].digest)
        threading.Thread(target=commit, daemon=True).start()
        return Kept(None, "new")  # type: ignore[arg-type]

    Intake._keep = late  # type: ignore[method-assign]


def _no_lease_check() -> None:
    from dicom_node.workflow.worker import Worker
    from storage import queue
    from storage.schema import Job

    queue._held = lambda tx, lease: queue._locked(tx, lease.job_id)
    attempt = Worker._attempt

    def long(worker: Worker, job: Job, *arguments: Any) -> None:
        # Who has taken the job over is still at it when the first worker goes on.
        if job.attempts > 1:
            time.sleep(4)
        attempt(worker, job, *arguments)

    Worker._attempt = long  # type: ignore[method-assign]


def _forgotten_outbox_row() -> None:
    from dicom_node.workflow import outcome

    add = outcome.add_delivery

    def forgetful(tx: Any, *, job: Any, object: Any, destination: str) -> None:
        if object.modality != "SEG":
            add(tx, job=job, object=object, destination=destination)

    outcome.add_delivery = forgetful  # type: ignore[assignment]


def _forgotten_destination() -> None:
    from dicom_node.workflow import outcome

    add = outcome.add_delivery

    def forgetful(tx: Any, *, job: Any, object: Any, destination: str) -> None:
        if destination != "witness" or object.kind != ObjectKind.ORIGINAL:
            add(tx, job=job, object=object, destination=destination)

    outcome.add_delivery = forgetful  # type: ignore[assignment]


def _no_report() -> None:
    from dicom_node.workflow import worker

    work_out = worker.work_out

    def brief(*arguments: Any, **how: Any) -> Any:
        done = work_out(*arguments, **how)
        for made in done.made:
            made.results[:] = [kept for kept in made.results if kept[0].modality != "SR"]
        return done

    worker.work_out = brief


def _rows_before_files() -> None:
    from storage import files
    from storage.files import ObjectStore, StoredFile

    write_with = ObjectStore.write_with

    def late(store: ObjectStore, fill: Callable[[BinaryIO], None]) -> StoredFile:
        whole = BytesIO()
        fill(whole)
        data = whole.getvalue()

        def write_later() -> None:
            time.sleep(30)
            write_with(store, lambda file: _write_all(file, data))

        threading.Thread(target=write_later, daemon=True).start()
        return StoredFile(files.hashlib.sha256(data).hexdigest(), len(data))

    ObjectStore.write_with = late  # type: ignore[method-assign]


def _write_all(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _settled_before_it_is_sent() -> None:
    from pydicom import dcmread

    from dicom_node.network.sender import Sent
    from dicom_node.workflow import delivery

    send = delivery.send

    def hasty(destination: Any, calling_ae: str, paths: list[Path], *more: Any) -> Iterator[Sent]:
        for path in paths:
            yield Sent(str(dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID), 0)
        list(send(destination, calling_ae, paths, *more))

    delivery.send = hasty


def _settled_before_it_is_posted() -> None:
    from dicom_node.network.sender import Sent, identified
    from dicom_node.workflow import delivery

    send = delivery.send_by_http

    def hasty(destination: Any, paths: list[Path], *more: Any) -> Iterator[Sent]:
        for path in paths:
            yield Sent(str(identified(path).sop_instance_uid), 0)
        time.sleep(3)
        list(send(destination, paths, *more))

    delivery.send_by_http = hasty  # type: ignore[assignment]


def _copies_lose_a_bit() -> None:
    from dicom_node import lossless

    encoded = lossless._encoded

    def lossy(frame: bytes, *more: Any) -> bytes | None:
        return encoded(frame[:-2] + bytes([frame[-2] ^ 1]) + frame[-1:], *more)

    lossless._encoded = lossy


def _fetched_is_an_input() -> None:
    from dicom_node.network import intake

    intake.fetch_behind = lambda *_, **__: None  # type: ignore[assignment]


def _audit_rows_of_their_own() -> None:
    from dicom_node.network import intake

    append, late = intake.append, []
    keep = intake.Intake._keep

    def apart(here: intake.Intake, *arguments: Any) -> Any:
        kept = keep(here, *arguments)
        with here._database.transaction() as tx:
            while late:
                append(tx, late.pop(0))
        return kept

    intake.append = lambda _, entry: late.append(entry)  # type: ignore[assignment]
    intake.Intake._keep = apart  # type: ignore[method-assign]


def _jobs_of_the_dead_are_kept() -> None:
    from dicom_node import node
    from dicom_node.workflow import worker

    claim = worker.claim
    worker.claim = lambda tx, owner, lease_seconds: claim(tx, owner=owner, lease_seconds=1e6)  # noqa: ARG005
    worker.forsake = node.forsake = lambda *_: None


def _deliveries_of_the_dead_are_kept() -> None:
    from dicom_node.workflow.delivery import Courier

    Courier._free_namesakes = lambda _: None  # type: ignore[method-assign]


def _short_writes_are_overlooked() -> None:
    from dicom_node.network.incoming import IncomingFile

    append = IncomingFile._append

    def careless(file: IncomingFile, handle: Any, data: bytes) -> None:
        try:
            append(file, handle, data)
        except OSError:
            handle.write(data[:-16])
            file._digest.update(data)
            file.size += len(data)

    IncomingFile._append = careless  # type: ignore[method-assign]


def _results_tell_when_they_were_made() -> None:
    from dicom_node.workflow import outcome

    keep = outcome._keep

    def dated(store: Any, dataset: Any) -> Any:
        dataset.InstanceCreationTime = datetime.now().strftime("%H%M%S.%f")
        return keep(store, dataset)

    outcome._keep = dated


def _does_not_come_back() -> None:
    from config.errors import ConfigError
    from storage.database import Database

    migrate = Database.migrate

    def only_once(database: Database) -> None:
        if not database.is_new():
            raise ConfigError("This node starts once.")
        migrate(database)

    Database.migrate = only_once  # type: ignore[method-assign]


MUTATIONS: dict[str, Mutation] = {
    "no-folder-sync": Mutation(
        "The folder of a kept file is not synced.",
        _no_folder_sync,
        "power intake.association_ended 1",
        "lost",
        # Where all that was kept is gone the node does not start: its store is empty, and its database is not.
        or_as="stuck",
    ),
    "no-file-sync": Mutation("A kept file is not synced.", _no_file_sync, "power intake.association_ended 1", "lost"),
    "acknowledged-before-the-commit": Mutation(
        "A sender hears success a second before the row is committed.",
        _acknowledged_before_the_commit,
        "kill intake.association_ended 1",
        "lost",
    ),
    "short-writes-are-overlooked": Mutation(
        "What does not fit on the disk is left out.",
        _short_writes_are_overlooked,
        "ENOSPC incoming.write 2",
        "lost",
    ),
    "no-lease-check": Mutation("A worker that has lost its lease ends the job.", _no_lease_check, "frozen", "twice"),
    "jobs-of-the-dead-are-kept": Mutation(
        "No lease of a job runs out.",
        _jobs_of_the_dead_are_kept,
        "kill worker.claimed 1",
        "stuck",
    ),
    "forgotten-outbox-row": Mutation(
        "No delivery is entered for a Segmentation.",
        _forgotten_outbox_row,
        "kill worker.entered 1",
        "lost",
    ),
    "forgotten-destination": Mutation(
        "No delivery of a dose report is entered for one of the destinations.",
        _forgotten_destination,
        "kill worker.entered 1",
        "lost",
    ),
    "no-report": Mutation(
        "One of the results is made and not entered.", _no_report, "kill worker.entered 1", "lost", or_as="orphaned"
    ),
    "rows-before-files": Mutation(
        "Results are entered half a minute before their files are written.",
        _rows_before_files,
        "kill worker.entered 1",
        "stuck",
    ),
    "results-tell-when-they-were-made": Mutation(
        "Two attempts make two files of one result.",
        _results_tell_when_they_were_made,
        "kill worker.result_kept 3",
        "orphaned",
    ),
    "settled-before-it-is-sent": Mutation(
        "A delivery is settled before it is sent.",
        _settled_before_it_is_sent,
        "kill delivery.settled 1",
        "lost",
        # Where the PACS says what it lacks before it is asked for everything, it gets it, and the story tells it twice.
        or_as="untold",
    ),
    "settled-before-it-is-posted": Mutation(
        "A delivery by HTTP is settled before it is sent.",
        _settled_before_it_is_posted,
        "kill delivery.settled 13",
        "lost",
    ),
    "copies-lose-a-bit": Mutation(
        "The last pixel of a frame is another when it is compressed.",
        _copies_lose_a_bit,
        "kill delivery.sending 1",
        "twice",
    ),
    "fetched-is-an-input": Mutation(
        "What was fetched from an archive is taken for what a modality sent.",
        _fetched_is_an_input,
        "kill fetch.moved 1",
        "twice",
    ),
    "deliveries-of-the-dead-are-kept": Mutation(
        "What a dead node had under way stays its own.",
        _deliveries_of_the_dead_are_kept,
        "kill delivery.taken 1",
        "stuck",
    ),
    "does-not-come-back": Mutation("A node starts once, and no more.", _does_not_come_back, "node", "stuck"),
    "audit-rows-of-their-own": Mutation(
        "The audit row of an object is committed after the object.",
        _audit_rows_of_their_own,
        "kill intake.before_acknowledgement 1",
        "untold",
    ),
}
