"""STOW-RS: objects are stored by HTTP, with the promises of C-STORE (PS3.18 10.5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_node.network.dicomweb.incoming_part import IncomingPart
from dicom_node.network.dicomweb.media_types import DICOM, MediaType
from dicom_node.network.incoming import Peer, StoreRequest
from dicom_node.network.intake import Intake
from dicom_node.network.statuses import Status, Unacceptable


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one part of a request."""

    request: StoreRequest
    status: Status
    #: It is larger than objects may be, and would be another time.
    is_too_large: bool = False


class StoreTransaction:
    """The parts of one request: each goes to the disk while it arrives, and is kept or refused when it is whole.

    study_instance_uid: the study of the request's path, of which all objects are to be.
    largest: bytes that an object may have, None for any.
    """

    def __init__(self, intake: Intake, peer: Peer, study_instance_uid: str | None, largest: int | None = None) -> None:
        self.outcomes: list[Outcome] = []
        self._intake = intake
        self._peer = peer
        self._study_instance_uid = study_instance_uid
        self._largest = largest
        self._part: IncomingPart | None = None
        self._media_type = DICOM

    # What a MultipartReader calls.

    def begin(self, media_type: MediaType) -> None:
        """A part begins."""
        self._media_type = media_type.name
        study, intake = self._study_instance_uid, self._intake
        self._part = IncomingPart(intake.receiving, self._peer, study, intake.has_room, self._largest)

    def write(self, data: bytes) -> None:
        """More of the part; one of another media type is passed over."""
        if self._part is not None and self._media_type == DICOM:
            self._part.write(data)

    def end(self) -> None:
        """The part is whole: keep it, or say why not."""
        part, self._part = self._part, None
        if part is None:
            return
        try:
            if self._media_type != DICOM:
                said = f"The part is of another media type than {DICOM}."
                raise Unacceptable(Status.CANNOT_UNDERSTAND, said)
            file = part.complete()
            status = self._intake.store(part.request, file)
        except Unacceptable as error:
            status = self._intake.refuse(part.request, error.status, str(error))
        finally:
            part.discard()
        self.outcomes.append(Outcome(request=part.request, status=status, is_too_large=part.is_too_large))

    def break_off(self) -> int:
        """No more arrives: drop the part that is underway; how many objects that were."""
        part, self._part = self._part, None
        if part is None:
            return 0
        part.discard()
        return 1


def http_status(outcomes: Sequence[Outcome], *, broken: bool) -> int:
    """200 when all is stored, 202 when something is.

    When nothing is: 413 for objects that are too large, 503 for want of room or database, else 409.
    """
    stored = [outcome for outcome in outcomes if outcome.status == Status.SUCCESS]
    if stored:
        return 200 if len(stored) == len(outcomes) and not broken else 202
    if all(outcome.is_too_large for outcome in outcomes):
        return 413
    return 503 if all(outcome.status == Status.OUT_OF_RESOURCES for outcome in outcomes) else 409


def store_response(outcomes: Sequence[Outcome], *, broken: bool) -> Dataset:
    """The response data set (PS3.18 I.2).

    broken: the message ended or went wrong before its end, so that there may have been more.
    """
    stored: list[Dataset] = []
    failed: list[Dataset] = []
    others: list[Dataset] = []
    for outcome in outcomes:
        item = Dataset()
        if outcome.status != Status.SUCCESS:
            item.FailureReason = int(outcome.status)
        if not outcome.request.sop_instance_uid:
            others.append(item)
            continue
        item.ReferencedSOPClassUID = outcome.request.sop_class_uid
        item.ReferencedSOPInstanceUID = outcome.request.sop_instance_uid
        (failed if "FailureReason" in item else stored).append(item)
    if broken:
        item = Dataset()
        item.FailureReason = int(Status.CANNOT_UNDERSTAND)
        others.append(item)
    response = Dataset()
    if stored:
        response.ReferencedSOPSequence = stored
    if failed:
        response.FailedSOPSequence = failed
    if others:
        response.OtherFailuresSequence = others
    return response
