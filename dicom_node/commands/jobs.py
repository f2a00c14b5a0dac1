"""`fullfield jobs`: list jobs, show one, retry or cancel it."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom_node.commands.options import SettingsFile
from dicom_node.commands.records import as_json, database_of, local, person, print_table
from storage.transitions import JobState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dicom_node.audit import Action
    from storage.schema import Delivery, Job, StoredObject

app = typer.Typer(help="List jobs, show one, retry a failed one or cancel one that is not done yet.")

Numbers = Annotated[list[int], typer.Argument(metavar="JOB...", help="Numbers of jobs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list")
def list_(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    json_: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """List the newest jobs, newest first.

    Example: fullfield jobs list --state failed
    """
    from storage.queue import list_jobs

    with database_of(settings) as database, database.reading() as tx:
        jobs = list_jobs(tx, state=state, limit=limit)
    if json_:
        typer.echo(json.dumps([as_json(job) for job in jobs], indent=1))
    elif not jobs:
        typer.echo(f"There are no jobs{f' that are {state}' if state else ''}.")
    else:
        _print_jobs(jobs)


@app.command()
def show(
    job: Annotated[int, typer.Argument(metavar="JOB", help="Number of a job.")],
    json_: AsJson = False,
    settings: SettingsFile = None,
) -> None:
    """Show a job with the objects it took in and made, and where they went.

    Example: fullfield jobs show 12
    """
    from storage.objects import objects_of_job
    from storage.queue import get_job

    with database_of(settings) as database, database.reading() as tx:
        shown = get_job(tx, job)
        objects = objects_of_job(tx, job, "original") + objects_of_job(tx, job, "result")
        deliveries = _deliveries(tx, job)
    if json_:
        told: dict[str, Any] = as_json(shown)
        told["objects"] = [as_json(object) for object in objects]
        told["deliveries"] = [as_json(delivery) for delivery in deliveries]
        typer.echo(json.dumps(told, indent=1))
    else:
        _print_job(shown, objects, deliveries)


@app.command()
def retry(
    jobs: Annotated[list[int] | None, typer.Argument(metavar="[JOB...]", help="Numbers of jobs.")] = None,
    destination: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="All failed jobs of which this destination lacks something, in their place."),
    ] = None,
    settings: SettingsFile = None,
) -> None:
    """Let failed jobs go on from where they stopped; all of those named, or none.

    Example: fullfield jobs retry 12 13

    Example: fullfield jobs retry --destination pacs
    """
    from dicom_node.audit import Action
    from dicom_node.workflow.commitment import end_if_committed
    from storage import queue

    if bool(jobs) == (destination is not None):
        raise typer.BadParameter("name jobs by their numbers, or a destination")
    with database_of(settings) as database, database.transaction() as tx:
        numbers = queue.failed_towards(tx, destination) if destination is not None else _once(jobs or [])
        retried = [queue.retry(tx, number) for number in numbers]
        _tell(tx, Action.JOB_RETRIED, retried)
        for job in retried:
            # What was acknowledged and committed to after a job was cancelled is asked for no more.
            end_if_committed(tx, job)
    for job in retried:
        typer.echo(f"Job {job.id} is {job.state}.")
    if not retried:
        typer.echo(f"No job failed on its way to {destination}.")


@app.command()
def cancel(jobs: Numbers, settings: SettingsFile = None) -> None:
    """End jobs that are not done yet as failed, and send nothing more of them; all of those named, or none.

    What a destination has acknowledged stays there. A job that was cancelled can be retried.

    Example: fullfield jobs cancel 12
    """
    from dicom_node.audit import Action
    from storage import queue

    with database_of(settings) as database, database.transaction() as tx:
        cancelled = [queue.cancel(tx, number, person()) for number in _once(jobs)]
        _tell(tx, Action.JOB_CANCELLED, cancelled)
    for job in cancelled:
        typer.echo(f"Job {job.id} is cancelled.")


def _once(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def _tell(tx: "Session", action: "Action", jobs: list["Job"]) -> None:
    from dicom_node.audit import record

    for job in jobs:
        record(
            tx,
            action,
            actor=person(),
            job_id=job.id,
            study_instance_uid=job.study_instance_uid,
            series_instance_uid=job.series_instance_uid,
            details={"state": job.state.value},
        )


def _deliveries(tx: "Session", job_id: int) -> list["Delivery"]:
    from sqlalchemy import select

    from storage.schema import Delivery

    return list(tx.scalars(select(Delivery).where(Delivery.job_id == job_id).order_by(Delivery.id)))


def _print_jobs(jobs: list["Job"]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("job", "state", "route", "queued", box=None, pad_edge=False, header_style="bold")
    table.add_column("attempts", justify="right")
    table.add_column("priority", justify="right")
    table.add_column("why", overflow="fold")
    for job in jobs:
        state = f"{job.state} {job.progress:.0%}" if job.state == JobState.RUNNING else job.state.value
        attempts = f"{job.attempts} of {job.max_attempts}"
        table.add_row(
            str(job.id),
            Text(state, style="red" if job.state == JobState.FAILED else ""),
            Text(job.route),
            local(job.created_at),
            attempts,
            str(job.priority),
            Text(job.reason or ""),
        )
    print_table(table)


def _print_job(job: "Job", objects: list["StoredObject"], deliveries: list["Delivery"]) -> None:
    from pydicom.uid import UID
    from rich.table import Table
    from rich.text import Text

    facts = {
        "job": str(job.id),
        "state": f"{job.state} {job.progress:.0%}" if job.state == JobState.RUNNING else job.state.value,
        "why": job.reason or "",
        "route": f"{job.route}, mode {job.mode}, priority {job.priority}",
        "model": f"{job.profile} {(job.model_digest or '')[:12]}".strip(),
        "attempts": f"{job.attempts} of {job.max_attempts}",
        "worker": f"{job.lease_owner}, until {local(job.lease_until)}" if job.lease_owner else "",
        "study": job.study_instance_uid,
        "series": job.series_instance_uid,
        "queued": local(job.created_at),
        "changed": local(job.updated_at),
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(value))
    for object in objects:
        what = f"{object.sop_instance_uid}, {UID(object.sop_class_uid).name}, {object.frames} frames"
        table.add_row(object.kind.value, Text(what))
    for delivery in deliveries:
        table.add_row("delivery", Text(_delivery_in_words(delivery, objects)))
    print_table(table)


def _delivery_in_words(delivery: "Delivery", objects: list["StoredObject"]) -> str:
    from storage.states import DeliveryState

    sent = next((o.sop_instance_uid for o in objects if o.id == delivery.object_id), "an object")
    said = f"{sent} to {delivery.destination}: {delivery.state}"
    if delivery.acknowledged_at is not None:
        said += f" {local(delivery.acknowledged_at)}"
    if delivery.attempts > 1:
        said += f", attempt {delivery.attempts}"
    if delivery.state == DeliveryState.WAITING and delivery.attempts:
        said += f", next not before {local(delivery.not_before)}"
    return f"{said}: {delivery.reason}" if delivery.reason else said
