"""Performed procedure steps of modalities, and the objects that ended ones have announced (PS3.4 F)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.database import current_time
from storage.entering import table_of
from storage.objects import objects_under
from storage.schema import AwaitedObject, ProcedureStep, StoredObject
from storage.states import ObjectKind, ProcedureStepStatus

_AWAITED = table_of(AwaitedObject)
_OF_SERIES = _AWAITED.c.series_instance_uid == bindparam("series")
_ARRIVED = (
    delete(_AWAITED)
    .where(_OF_SERIES, _AWAITED.c.sop_instance_uid == bindparam("object"))
    .returning(_AWAITED.c.sop_instance_uid)
)


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a modality reports of a procedure step, before the database knows of it."""

    sop_instance_uid: str
    study_instance_uid: str
    status: ProcedureStepStatus
    #: The whole data set, in the DICOM JSON model (PS3.18 F).
    attributes: Mapping[str, Any]
    #: Who reported it to whom, from where.
    calling_ae: str
    called_ae: str
    peer_address: str


def add_procedure_step(tx: Session, report: StepReport) -> ProcedureStep | None:
    """Enter a procedure step that begins; None, and nothing is entered, if its SOP Instance UID is known."""
    now = current_time(tx)
    step = ProcedureStep(
        sop_instance_uid=report.sop_instance_uid,
        study_instance_uid=report.study_instance_uid,
        status=report.status,
        attributes=dict(report.attributes),
        calling_ae=report.calling_ae,
        called_ae=report.called_ae,
        peer_address=report.peer_address,
        created_at=now,
        updated_at=now,
    )
    if find_procedure_step(tx, report.sop_instance_uid) is not None:
        return None
    try:
        with tx.begin_nested():
            tx.add(step)
    except IntegrityError:
        if find_procedure_step(tx, report.sop_instance_uid) is None:
            raise  # Another rule than that of the UIDs was broken.
        return None
    return step


def find_procedure_step(tx: Session, sop_instance_uid: str) -> ProcedureStep | None:
    """The procedure step with this UID, locked to this transaction."""
    query = select(ProcedureStep).where(ProcedureStep.sop_instance_uid == sop_instance_uid).with_for_update()
    return tx.scalars(query.execution_options(populate_existing=True)).one_or_none()


def update_procedure_step(
    tx: Session, step: ProcedureStep, status: ProcedureStepStatus, attributes: Mapping[str, Any]
) -> None:
    """Put a procedure step's attributes in place of those it had."""
    now = current_time(tx)
    step.status, step.attributes, step.updated_at = status, dict(attributes), now
    step.ended_at = None if status == ProcedureStepStatus.IN_PROGRESS else now
    tx.flush()


def procedure_steps_of(tx: Session, study_instance_uid: str) -> list[ProcedureStep]:
    """What modalities have reported of a study, oldest first."""
    query = select(ProcedureStep).where(ProcedureStep.study_instance_uid == study_instance_uid)
    return list(tx.scalars(query.order_by(ProcedureStep.id)))


def await_objects(tx: Session, step: ProcedureStep, series_instance_uid: str, sop_instance_uids: Sequence[str]) -> int:
    """Remember which of a series's announced objects have not arrived; how many those are.

    The caller has locked the series, so that none of them arrives unnoticed meanwhile.
    """
    announced = list(dict.fromkeys(sop_instance_uids))
    known = objects_under(tx, announced)
    missing = [uid for uid in announced if not any(row.kind == ObjectKind.ORIGINAL for row in known.get(uid, []))]
    tx.add_all(
        AwaitedObject(procedure_step_id=step.id, series_instance_uid=series_instance_uid, sop_instance_uid=uid)
        for uid in missing
    )
    tx.flush()
    return len(missing)


def awaited_object_arrived(tx: Session, object: StoredObject) -> bool:
    """Await an object no longer; whether it was the last that was awaited of its series."""
    this = {"series": object.series_instance_uid, "object": object.sop_instance_uid}
    return bool(tx.execute(_ARRIVED, this).all()) and not tx.scalar(select(exists().where(_OF_SERIES)), this)
