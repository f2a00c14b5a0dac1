"""The Modality Performed Procedure Step SCP: modalities say when a step has ended, and what they made (PS3.4 F.7).

A report is in the database before it is acknowledged, and what follows from the end of a step happens in the same
transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep
from sqlalchemy.orm import Session

from config.errors import FullfieldError, StorageFull, StorageUnavailable
from dicom_node.audit import Action, record
from dicom_node.logs import hashed
from dicom_node.network.commitment_requests import peer_of
from dicom_node.network.contexts import procedure_step_contexts
from dicom_node.network.incoming import Peer, file_of
from dicom_node.network.procedure_step import NoLongerUpdated, Reported, UnacceptableAttribute, created, updated
from dicom_node.network.server import FurtherService
from dicom_node.network.statuses import Status, Unacceptable
from storage.database import Database
from storage.procedure_steps import StepReport, add_procedure_step, find_procedure_step, update_procedure_step
from storage.schema import ProcedureStep
from storage.states import ProcedureStepStatus

log = structlog.get_logger()

#: Called in the transaction in which a step ends, with the series that it has made, and the objects named of each.
OnEnded = Callable[[Session, ProcedureStep, Mapping[str, Sequence[str]]], None]

_ACTOR = "mpps"
#: Error Comment (0000,0902) is of the value representation LO.
_LONGEST_COMMENT = 64


class ProcedureSteps:
    """Takes the reports; pynetdicom calls it in the thread of an association. `service` is what a listener serves."""

    def __init__(self, database: Database, on_ended: OnEnded) -> None:
        self.service = FurtherService(
            contexts=tuple(procedure_step_contexts()),
            handlers=((evt.EVT_N_CREATE, self._create_requested), (evt.EVT_N_SET, self._set_requested)),
        )
        self._database = database
        self._on_ended = on_ended

    def _create_requested(self, event: evt.Event) -> tuple[Dataset, Dataset | None]:
        """Enter a step that begins; without a UID it is given one (PS3.7 10.1.5.1.4)."""
        request = event.request
        uid = str(request.AffectedSOPInstanceUID or generate_uid())
        told = Dataset()
        if request.AffectedSOPInstanceUID is None:
            told.AffectedSOPInstanceUID = uid
        return self._answered(event, uid, lambda peer: self._create(event, uid, peer)), told

    def _set_requested(self, event: evt.Event) -> tuple[Dataset, None]:
        """Enter what has changed of a step."""
        uid = str(event.request.RequestedSOPInstanceUID)
        return self._answered(event, uid, lambda peer: self._set(event, uid, peer)), None

    def _create(self, event: evt.Event, uid: str, peer: Peer) -> None:
        _of_our_class(event.request.AffectedSOPClassUID)
        reported = created(_data_set(event, event.request.AttributeList, lambda: event.attribute_list))
        report = StepReport(
            sop_instance_uid=uid,
            study_instance_uid=reported.study_instance_uid,
            status=reported.status,
            attributes=reported.attributes,
            calling_ae=peer.calling_ae,
            called_ae=peer.called_ae,
            peer_address=peer.address,
        )
        with self._database.transaction() as tx:
            if add_procedure_step(tx, report) is None:
                raise Unacceptable(Status.DUPLICATE_SOP_INSTANCE, "There is a procedure step with this UID.")
            self._record(tx, Action.PROCEDURE_STEP_CREATED, peer, uid, reported)

    def _set(self, event: evt.Event, uid: str, peer: Peer) -> None:
        _of_our_class(event.request.RequestedSOPClassUID)
        changes = _data_set(event, event.request.ModificationList, lambda: event.modification_list)
        with self._database.transaction() as tx:
            step = find_procedure_step(tx, uid)
            if step is None:
                raise Unacceptable(Status.NO_SUCH_SOP_INSTANCE, "There is no procedure step with this UID.")
            if step.status != ProcedureStepStatus.IN_PROGRESS:
                raise NoLongerUpdated
            reported = updated(step.attributes, changes)
            update_procedure_step(tx, step, reported.status, reported.attributes)
            if reported.status == ProcedureStepStatus.IN_PROGRESS:
                self._record(tx, Action.PROCEDURE_STEP_UPDATED, peer, uid, reported)
            else:
                self._record(tx, Action.PROCEDURE_STEP_ENDED, peer, uid, reported)
                self._on_ended(tx, step, reported.series)

    def _answered(self, event: evt.Event, uid: str, serve: Callable[[Peer], None]) -> Dataset:
        """The status to answer with, and what belongs to it (PS3.7 C)."""
        peer = peer_of(event.assoc.dimse)
        try:
            serve(peer)
        except Unacceptable as error:
            return self._refused(peer, uid, error)
        except (StorageFull, StorageUnavailable) as error:
            return self._refused(peer, uid, Unacceptable(Status.RESOURCE_LIMITATION, str(error)))
        except Exception:
            log.exception("a procedure step could not be entered", step=hashed(uid))
            internal = "An internal error; the log has it."
            return self._refused(peer, uid, Unacceptable(Status.PROCESSING_FAILURE, internal))
        log.info("procedure step reported", step=hashed(uid), calling_ae=peer.calling_ae)
        return _answer(Status.SUCCESS)

    def _record(self, tx: Session, action: Action, peer: Peer, uid: str, reported: Reported) -> None:
        record(
            tx,
            action,
            actor=_ACTOR,
            peer_ae=peer.calling_ae,
            peer_address=peer.address,
            study_instance_uid=reported.study_instance_uid,
            sop_instance_uid=uid,
            details={
                "status": reported.status.value,
                "series": len(reported.series),
                "objects": sum(map(len, reported.series.values())),
                "called_ae": peer.called_ae,
                "association": peer.association_id,
            },
        )

    def _refused(self, peer: Peer, uid: str, error: Unacceptable) -> Dataset:
        told = {"status": f"0x{error.status:04X}", "reason": str(error)}
        log.warning("procedure step not taken", calling_ae=peer.calling_ae, **told)
        try:
            with self._database.transaction() as tx:
                record(
                    tx,
                    Action.PROCEDURE_STEP_REFUSED,
                    actor=_ACTOR,
                    outcome="refused",
                    peer_ae=peer.calling_ae,
                    peer_address=peer.address,
                    sop_instance_uid=uid,
                    details={**told, "called_ae": peer.called_ae, "association": peer.association_id},
                )
        except FullfieldError as problem:
            log.warning("an audit row could not be written", reason=str(problem))
        return _answer(error.status, error)


def _of_our_class(sop_class_uid: Any) -> None:
    if sop_class_uid != ModalityPerformedProcedureStep:
        raise Unacceptable(Status.NO_SUCH_SOP_CLASS, "The request is for another SOP class than was negotiated.")


def _data_set(event: evt.Event, received: Any, decoded: Callable[[], Dataset]) -> Dataset:
    if file_of(event.request).size > 0 and not received.getvalue():
        raise Unacceptable(Status.RESOURCE_LIMITATION, "The data set is too large for a procedure step.")
    try:
        return decoded()
    except Exception as error:
        # Foreign bytes can do anything to the parser.
        raise Unacceptable(Status.PROCESSING_FAILURE, "The data set cannot be parsed.") from error


def _answer(status: Status, error: Unacceptable | None = None) -> Dataset:
    answer = Dataset()
    answer.Status = int(status)
    if error is not None:
        answer.ErrorComment = str(error)[:_LONGEST_COMMENT]
    if isinstance(error, UnacceptableAttribute):
        answer.AttributeIdentifierList = error.tag
    if isinstance(error, NoLongerUpdated):
        answer.ErrorID = error.error_id
    return answer
