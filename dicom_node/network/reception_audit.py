"""What the audit trail is told of an object that has come in."""

from typing import Any

from dicom_node.audit import Action, step
from dicom_node.network.reception import Arrival
from storage.audit_trail import AuditEntry
from storage.fetches import is_asked_for
from storage.objects import Kept
from storage.schema import Fetch


def reception(arrival: Arrival, kept: Kept, fetch: Fetch | None, told: dict[str, Any]) -> AuditEntry:
    """That it came, and what was made of it; fetch: for which it came; told: what else is to be said."""
    action = {
        "new": Action.OBJECT_RECEIVED if fetch is None else Action.OBJECT_FETCHED,
        "repeated": Action.OBJECT_REPEATED,
        "aside": Action.OBJECT_KEPT_ASIDE,
        "mended": Action.OBJECT_REFETCHED,
    }[kept.outcome]
    return _told(
        arrival,
        action,
        fetch.job_id if fetch is not None else None,
        digest=arrival.digest,
        bytes=arrival.size,
        sop_class_uid=arrival.sop_class_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        **((_as_asked(arrival, fetch) if fetch is not None else {}) | told),
    )


def generated(arrival: Arrival, reason: str) -> AuditEntry:
    """That it is a picture that is generated, and so no input."""
    return _told(arrival, Action.GENERATED_RECOGNISED, reason=reason)


def _as_asked(arrival: Arrival, fetch: Fetch) -> dict[str, Any]:
    """Of which archive it was asked for, and whether it was that which came."""
    told = {"archive": fetch.archive}
    asked = is_asked_for(fetch, arrival.series_instance_uid, arrival.sop_instance_uid)
    if asked and arrival.study_instance_uid == fetch.study_instance_uid:
        return told
    if fetch.sop_instance_uid is not None:
        return told | {"reason": "it is another object than was asked for"}
    return told | {"reason": "it is of another series than was asked for"}


def _told(arrival: Arrival, action: Action, job_id: int | None = None, **details: Any) -> AuditEntry:
    return step(
        action,
        actor=arrival.actor,
        peer_ae=arrival.calling_ae,
        peer_address=arrival.peer_address,
        study_instance_uid=arrival.study_instance_uid,
        series_instance_uid=arrival.series_instance_uid,
        sop_instance_uid=arrival.sop_instance_uid,
        job_id=job_id,
        details={**details, "called_ae": arrival.called_ae, "association": arrival.association_id},
    )
