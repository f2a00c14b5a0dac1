"""A modality that reports its procedure steps, with pynetdicom as the SCU (PS3.4 F.7).

with reporting(node.port) as step:
    assert step.create(begun(study)).Status == 0
    assert step.set(ended({series: [instance]})).Status == 0
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import XRayAngiographicImageStorage, generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import ModalityPerformedProcedureStep


class Step:
    """A procedure step of a modality, over one association."""

    def __init__(self, association: Any, uid: str | None) -> None:
        self._association = association
        self.uid = uid
        association.bind(evt.EVT_DIMSE_RECV, self._answered)

    def _answered(self, event: evt.Event) -> None:
        # pynetdicom does not pass on the UID that an SCP has given.
        self.uid = self.uid or event.message.command_set.get("AffectedSOPInstanceUID")

    def create(self, attributes: Dataset | None, sop_class: str = ModalityPerformedProcedureStep) -> Dataset:
        """Report that it has begun; what is answered beside data."""
        answer, _ = self._association.send_n_create(
            attributes, sop_class, self.uid, meta_uid=ModalityPerformedProcedureStep
        )
        return answer

    def set(self, attributes: Dataset) -> Dataset:
        """Report what has changed; what is answered beside data."""
        answer, _ = self._association.send_n_set(attributes, ModalityPerformedProcedureStep, self.uid)
        return answer


@contextmanager
def reporting(port: int, uid: str | None = "", calling: str = "CARM1") -> Iterator[Step]:
    """A modality with an association to the node; uid: of its step, None to leave it to the node."""
    contexts = [build_context(ModalityPerformedProcedureStep)]
    association = AE(calling).associate("127.0.0.1", port, contexts, ae_title="FULLFIELD")
    assert association.is_established
    try:
        yield Step(association, generate_uid() if uid == "" else uid)
    finally:
        if association.is_established:
            association.release()


def begun(study_instance_uid: str, *, missing: Sequence[str] = (), **attributes: Any) -> Dataset:
    """The Attribute List of an N-CREATE request, with all that table F.7.2-1 of PS3.4 asks for."""
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study_instance_uid
    for keyword in ("AccessionNumber", "RequestedProcedureID", "ScheduledProcedureStepID"):
        setattr(scheduled, keyword, "1")
    scheduled.ReferencedStudySequence, scheduled.ScheduledProtocolCodeSequence = [], []
    step = Dataset()
    step.SpecificCharacterSet = "ISO_IR 100"
    step.ScheduledStepAttributesSequence = [scheduled]
    step.PatientName, step.PatientID, step.PatientBirthDate, step.PatientSex = "Müller^Test", "T1", "", "O"
    step.ReferencedPatientSequence = []
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "P1", "CARM1"
    step.PerformedStationName = step.PerformedLocation = ""
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20260301", "080000"
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.PerformedProcedureStepEndDate = step.PerformedProcedureStepEndTime = ""
    step.Modality, step.StudyID = "XA", ""
    step.PerformedSeriesSequence = []
    for keyword, value in attributes.items():
        setattr(step, keyword, value)
    for keyword in missing:
        delattr(step, keyword)
    return step


def ended(
    series: Mapping[str, Sequence[str]], status: str = "COMPLETED", *, missing: Sequence[str] = (), **attributes: Any
) -> Dataset:
    """The Modification List of the N-SET request that ends a step, with the objects of each series by UID."""
    step = Dataset()
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepEndDate, step.PerformedProcedureStepEndTime = "20260301", "080500"
    step.PerformedSeriesSequence = [_series(uid, instances) for uid, instances in series.items()]
    for keyword, value in attributes.items():
        setattr(step, keyword, value)
    for keyword in missing:
        delattr(step, keyword)
    return step


def _series(uid: str, instances: Sequence[str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID, item.ProtocolName = uid, "Fluoroscopy"
    item.ReferencedImageSequence = []
    item.ReferencedNonImageCompositeSOPInstanceSequence = []
    for instance in instances:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = XRayAngiographicImageStorage, instance
        item.ReferencedImageSequence.append(reference)
    return item
