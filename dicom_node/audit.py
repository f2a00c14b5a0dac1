"""The audit trail's vocabulary: what can happen to an object, and how it is told to people.

Each step is recorded in the transaction that takes it, so that there is no step without its row.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal, Required, TypedDict, Unpack

from pydicom.uid import UID
from rich.table import Table
from rich.text import Text
from sqlalchemy.orm import Session

from storage.audit_trail import AuditEntry, append
from storage.schema import AuditRow


class Action(StrEnum):
    """A step; the value is what the audit row says."""

    #: A connection for TLS, whose handshake failed.
    CONNECTION_NOT_SECURED = "connection_not_secured"
    ASSOCIATION_REFUSED = "association_refused"
    #: Some of the SOP classes that a peer proposed are not received here.
    CONTEXTS_REFUSED = "contexts_refused"
    #: Lost before its release: what was underway was not acknowledged.
    ASSOCIATION_LOST = "association_lost"
    #: Of an HTTP client that may not ask, or not so.
    REQUEST_REFUSED = "request_refused"
    OBJECT_RECEIVED = "object_received"
    OBJECT_REPEATED = "object_repeated"
    OBJECT_KEPT_ASIDE = "object_kept_aside"
    #: It came because this node had asked an archive for it.
    OBJECT_FETCHED = "object_fetched"
    #: It was damaged, and an archive has sent it again: it is whole, as it was or with a difference that is told.
    OBJECT_REFETCHED = "object_refetched"
    OBJECT_REFUSED = "object_refused"
    ROUTE_MATCHED = "route_matched"
    NO_ROUTE = "no_route"
    #: A result that came back, or other pictures that are generated: kept, and never an input.
    GENERATED_RECOGNISED = "generated_recognised"
    SERIES_COMPLETED = "series_completed"
    JOB_QUEUED = "job_queued"
    JOB_STARTED = "job_started"
    JOB_PUT_BACK = "job_put_back"
    JOB_DECLINED = "job_declined"
    JOB_FAILED = "job_failed"
    JOB_RETRIED = "job_retried"
    JOB_CANCELLED = "job_cancelled"
    RECONSTRUCTED = "reconstructed"
    #: An object that goes with pictures is to be sent on as it came.
    PASSED_ON = "passed_on"
    DELIVERED = "delivered"
    DELIVERY_POSTPONED = "delivery_postponed"
    DELIVERY_REFUSED = "delivery_refused"
    DELIVERY_ABANDONED = "delivery_abandoned"
    JOB_DELIVERED = "job_delivered"
    #: A peer asks for storage commitment; its report is owed from now on.
    COMMITMENT_REQUESTED = "commitment_requested"
    COMMITMENT_REFUSED = "commitment_refused"
    #: The peer has the report of what is committed to it, and of what is not.
    COMMITMENT_REPORTED = "commitment_reported"
    COMMITMENT_POSTPONED = "commitment_postponed"
    #: The peer would not take the report.
    COMMITMENT_REPORT_REFUSED = "commitment_report_refused"
    #: The report could not be brought to the peer.
    COMMITMENT_ABANDONED = "commitment_abandoned"
    #: A destination has taken on this node's request to commit to what it was sent.
    COMMITMENT_ASKED = "commitment_asked"
    COMMITMENT_ASKING_POSTPONED = "commitment_asking_postponed"
    #: The destination has committed to keep all of it.
    COMMITMENT_GIVEN = "commitment_given"
    #: The destination lacks some of what it has acknowledged.
    COMMITMENT_INCOMPLETE = "commitment_incomplete"
    #: No report has come in time, and the destination is asked again.
    COMMITMENT_UNANSWERED = "commitment_unanswered"
    #: The destination commits to nothing, or could not be asked, or has not reported, for too long.
    COMMITMENT_NOT_GIVEN = "commitment_not_given"
    #: A peer reports on a request that this node has not made.
    COMMITMENT_ANSWER_REFUSED = "commitment_answer_refused"
    JOB_COMMITTED = "job_committed"
    #: A modality has begun a procedure step.
    PROCEDURE_STEP_CREATED = "procedure_step_created"
    PROCEDURE_STEP_UPDATED = "procedure_step_updated"
    #: It is completed or discontinued: the series that it names are complete.
    PROCEDURE_STEP_ENDED = "procedure_step_ended"
    PROCEDURE_STEP_REFUSED = "procedure_step_refused"
    #: A peer has asked what is held, and is told.
    QUERIED = "queried"
    QUERY_REFUSED = "query_refused"
    #: Objects that a peer asked for are about to be sent, and have been, of one study.
    RETRIEVAL_STARTED = "retrieval_started"
    RETRIEVED = "retrieved"
    RETRIEVAL_REFUSED = "retrieval_refused"
    #: What was kept, or made, is deleted because its days are over or the disk is low.
    OBJECT_DELETED = "object_deleted"
    LEFT_OVERS_DELETED = "left_overs_deleted"
    #: Nothing of the study is deleted until the hold is lifted.
    HOLD_PLACED = "hold_placed"
    HOLD_LIFTED = "hold_lifted"
    DISK_LOW = "disk_low"
    DISK_FULL = "disk_full"
    DISK_HAS_ROOM = "disk_has_room"
    #: An object's file has changed, or is not there.
    DAMAGE_FOUND = "damage_found"
    #: An object that was found damaged is whole again.
    DAMAGE_MENDED = "damage_mended"
    #: Files that no row knows were moved aside.
    ORPHANS_MOVED = "orphans_moved"
    BACKED_UP = "backed_up"
    RESTORED = "restored"
    #: An archive is asked for the other series of a study, or for a damaged object; then it has sent what it could.
    FETCH_ASKED = "fetch_asked"
    FETCHED = "fetched"
    FETCH_POSTPONED = "fetch_postponed"
    FETCH_REFUSED = "fetch_refused"
    FETCH_ABANDONED = "fetch_abandoned"
    NODE_STARTED = "node_started"
    #: The clock that all processes share: what waited for a time to come was brought forward.
    CLOCK_SET_BACK = "clock_set_back"
    NODE_STOPPED = "node_stopped"
    WORKER_DIED = "worker_died"
    ROUTES_LOADED = "routes_loaded"
    ROUTES_REFUSED = "routes_refused"
    #: The certificates of this node and of those that it trusts.
    CERTIFICATES_LOADED = "certificates_loaded"
    CERTIFICATES_REFUSED = "certificates_refused"


class Told(TypedDict, total=False):
    """What a row tells beside its action; the UIDs and the job are those that the step was about."""

    #: The part of Fullfield that took the step, such as ``listener``, or a person.
    actor: Required[str]
    #: ``success`` unless said otherwise.
    outcome: Literal["success", "refused", "failed"]
    peer_ae: str | None
    peer_address: str | None
    study_instance_uid: str | None
    series_instance_uid: str | None
    sop_instance_uid: str | None
    job_id: int | None
    model_digest: str | None
    #: Whatever else belongs to it, as JSON can hold it; `reason` is a sentence for people.
    details: Mapping[str, Any]


def record(tx: Session, action: Action, **told: Unpack[Told]) -> AuditRow:
    """Append a step to the trail, in the transaction that takes it; best as its last statement."""
    return append(tx, step(action, **told))


def step(action: Action, **told: Unpack[Told]) -> AuditEntry:
    """A step as an entry of the trail, to be appended later."""
    told.setdefault("outcome", "success")
    return AuditEntry(action=action.value, **told)


def story(rows: Iterable[AuditRow]) -> Table:
    """The steps as a table for a terminal, in the order given, times in the machine's time zone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("time", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("what", overflow="fold")
    for row in rows:
        table.add_row(
            row.at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
            Text(row.actor),
            Text(sentence(row), style="" if row.outcome == "success" else "red"),
        )
    return table


def sentence(row: AuditRow) -> str:
    """One step in words: what happened, with whom, to what, why, and what else is known of it."""
    words = [_WORDS.get(row.action, row.action.replace("_", " "))]
    if row.peer_ae:
        words.append(f"{_TOWARDS.get(row.action, 'from')} {row.peer_ae}")
    if row.peer_address:
        words.append(f"at {row.peer_address}")
    if row.job_id is not None:
        words.append(f"(job {row.job_id})")
    if row.sop_instance_uid:
        words.append(f"object {row.sop_instance_uid}")
    elif row.series_instance_uid:
        words.append(f"series {row.series_instance_uid}")
    if row.model_digest:
        words.append(f"model {row.model_digest[:_DIGITS]}")
    said = " ".join(words)
    reason = row.details.get("reason")
    said = f"{said}: {reason}" if reason else said
    more = [_detail(name, value) for name, value in row.details.items() if name not in _NOT_FOR_PEOPLE]
    return f"{said} [{', '.join(more)}]" if more else said


#: Digits of a digest that are enough to tell one from another.
_DIGITS = 12
#: Told already, or of use to programs only.
_NOT_FOR_PEOPLE = {"reason", "association"}

_WORDS: dict[str, str] = {
    Action.CONNECTION_NOT_SECURED: "could not secure a connection",
    Action.ASSOCIATION_REFUSED: "refused an association",
    Action.CONTEXTS_REFUSED: "did not accept some of the SOP classes proposed",
    Action.ASSOCIATION_LOST: "lost an association",
    Action.REQUEST_REFUSED: "refused a request",
    Action.OBJECT_RECEIVED: "received",
    Action.OBJECT_REPEATED: "received once more",
    Action.OBJECT_KEPT_ASIDE: "kept aside, for its UID is another object's,",
    Action.OBJECT_FETCHED: "fetched",
    Action.OBJECT_REFETCHED: "fetched again what was damaged,",
    Action.OBJECT_REFUSED: "refused an object",
    Action.ROUTE_MATCHED: "matched a route",
    Action.NO_ROUTE: "found no route",
    Action.GENERATED_RECOGNISED: "recognised as generated, and gave to no route,",
    Action.SERIES_COMPLETED: "took the series for complete",
    Action.JOB_QUEUED: "queued a job",
    Action.JOB_STARTED: "started the job",
    Action.JOB_PUT_BACK: "put the job back",
    Action.JOB_DECLINED: "declined the job",
    Action.JOB_FAILED: "gave the job up",
    Action.JOB_RETRIED: "retried the job",
    Action.JOB_CANCELLED: "cancelled the job",
    Action.RECONSTRUCTED: "reconstructed",
    Action.PASSED_ON: "passed on as it came",
    Action.DELIVERED: "delivered",
    Action.DELIVERY_POSTPONED: "postponed a delivery",
    Action.DELIVERY_REFUSED: "had a delivery refused",
    Action.DELIVERY_ABANDONED: "abandoned a delivery",
    Action.JOB_DELIVERED: "delivered all of the job",
    Action.COMMITMENT_REQUESTED: "took a request for storage commitment",
    Action.COMMITMENT_REFUSED: "refused a request for storage commitment",
    Action.COMMITMENT_REPORTED: "reported on storage commitment",
    Action.COMMITMENT_POSTPONED: "postponed a report on storage commitment",
    Action.COMMITMENT_REPORT_REFUSED: "had a report on storage commitment refused",
    Action.COMMITMENT_ABANDONED: "abandoned a report on storage commitment",
    Action.COMMITMENT_ASKED: "asked for storage commitment",
    Action.COMMITMENT_ASKING_POSTPONED: "postponed asking for storage commitment",
    Action.COMMITMENT_GIVEN: "was given storage commitment",
    Action.COMMITMENT_INCOMPLETE: "was given storage commitment for a part only",
    Action.COMMITMENT_UNANSWERED: "waited for storage commitment in vain",
    Action.COMMITMENT_NOT_GIVEN: "was not given storage commitment",
    Action.COMMITMENT_ANSWER_REFUSED: "refused a report on storage commitment",
    Action.JOB_COMMITTED: "had all of the job committed",
    Action.PROCEDURE_STEP_CREATED: "noted the begin of a procedure step",
    Action.PROCEDURE_STEP_UPDATED: "noted more of a procedure step",
    Action.PROCEDURE_STEP_ENDED: "noted the end of a procedure step",
    Action.PROCEDURE_STEP_REFUSED: "refused a report of a procedure step",
    Action.QUERIED: "answered a query",
    Action.QUERY_REFUSED: "refused a query",
    Action.RETRIEVAL_STARTED: "began to send what was asked for",
    Action.RETRIEVED: "sent what was asked for",
    Action.RETRIEVAL_REFUSED: "refused to send what was asked for",
    Action.OBJECT_DELETED: "deleted",
    Action.LEFT_OVERS_DELETED: "deleted what a crash had left over",
    Action.HOLD_PLACED: "placed a legal hold",
    Action.HOLD_LIFTED: "lifted a legal hold",
    Action.DISK_LOW: "found the disk low",
    Action.DISK_FULL: "found the disk full",
    Action.DISK_HAS_ROOM: "found room on the disk again",
    Action.DAMAGE_FOUND: "found damaged",
    Action.DAMAGE_MENDED: "found whole again",
    Action.ORPHANS_MOVED: "moved files aside that no object has",
    Action.BACKED_UP: "made a backup",
    Action.RESTORED: "restored a backup",
    Action.FETCH_ASKED: "asked for what is lacking here",
    Action.FETCHED: "fetched what was lacking here",
    Action.FETCH_POSTPONED: "postponed a fetch",
    Action.FETCH_REFUSED: "had a fetch refused",
    Action.FETCH_ABANDONED: "abandoned a fetch",
    Action.NODE_STARTED: "started",
    Action.CLOCK_SET_BACK: "noticed that the clock was set back",
    Action.NODE_STOPPED: "stopped",
    Action.WORKER_DIED: "found a worker dead",
    Action.ROUTES_LOADED: "loaded the routes",
    Action.ROUTES_REFUSED: "kept the old routes, for the new ones are wrong",
    Action.CERTIFICATES_LOADED: "loaded the certificates",
    Action.CERTIFICATES_REFUSED: "kept the old certificates, for the new ones cannot be used",
}

_TOWARDS: dict[str, str] = {
    Action.DELIVERED: "to",
    Action.DELIVERY_POSTPONED: "to",
    Action.DELIVERY_REFUSED: "by",
    Action.DELIVERY_ABANDONED: "to",
    Action.COMMITMENT_REPORTED: "to",
    Action.COMMITMENT_POSTPONED: "to",
    Action.COMMITMENT_REPORT_REFUSED: "by",
    Action.COMMITMENT_ABANDONED: "to",
    Action.COMMITMENT_ASKED: "of",
    Action.COMMITMENT_ASKING_POSTPONED: "of",
    Action.COMMITMENT_GIVEN: "by",
    Action.COMMITMENT_INCOMPLETE: "by",
    Action.COMMITMENT_UNANSWERED: "of",
    Action.COMMITMENT_NOT_GIVEN: "by",
    Action.FETCH_ASKED: "of",
    Action.FETCH_REFUSED: "by",
}


def _detail(name: str, value: object) -> str:
    """``frames 16``; SOP classes and transfer syntaxes by their names."""
    values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    if name.endswith(("_uid", "_uids")):
        values = [UID(item).name for item in values]
    elif name.endswith("digest"):
        values = [item[:_DIGITS] for item in values]
    label = name.removesuffix("_uid").removesuffix("_uids").replace("_", " ")
    return f"{label} {' + '.join(values)}"
