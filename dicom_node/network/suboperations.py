"""The C-STORE suboperations of one retrieval: their fates, and the answers that tell them (PS3.7 9.1.3 and 9.1.4)."""

from collections.abc import Iterable
from io import BytesIO
from typing import Literal

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext

from dicom_node.network.commitment_requests import peer_of
from dicom_node.network.statuses import Status

#: What has become of a suboperation; those that remain have not been begun, or not been answered.
Fate = Literal["remaining", "completed", "warned", "failed"]


class Suboperations:
    """Those of one request, and the association over which it is answered."""

    def __init__(self, association: Association, request: C_MOVE | C_GET, context: PresentationContext) -> None:
        self.association = association
        self._request = request
        self._context = context
        self._fates: dict[str, Fate] = {}
        peer = peer_of(association.dimse)
        self.called_ae = peer.called_ae
        #: Who asked for a C-MOVE, and with which Message ID; a C-GET needs no telling (PS3.7 9.1.1.1.8).
        self.moved_for = (peer.calling_ae, int(request.MessageID)) if isinstance(request, C_MOVE) else None

    @property
    def cancelled(self) -> bool:
        """Whether the peer has sent a C-CANCEL (PS3.7 9.3.2.3)."""
        return self._request.MessageID in self.association.dimse.cancel_req

    @property
    def abandoned(self) -> bool:
        """Whether the peer that asked is gone."""
        return not self.association.is_established or self.association.acse.is_aborted()

    def begin(self, sop_instance_uids: Iterable[str]) -> None:
        """All are to be done."""
        self._fates = dict.fromkeys(sop_instance_uids, "remaining")

    def completed(self, sop_instance_uid: str) -> None:
        """The receiver has the object."""
        self._fates[sop_instance_uid] = "completed"

    def warned(self, sop_instance_uid: str) -> None:
        """The receiver has the object, but not all as it was sent."""
        self._fates[sop_instance_uid] = "warned"

    def failed(self, sop_instance_uid: str) -> None:
        """The receiver does not have the object."""
        self._fates[sop_instance_uid] = "failed"

    @property
    def sent(self) -> set[str]:
        """The objects that the receiver has."""
        return {uid for uid, fate in self._fates.items() if fate in ("completed", "warned")}

    def tell(self) -> None:
        """How far it is."""
        if not self.abandoned:
            self._answer(Status.PENDING, remaining=True)

    def end(self) -> None:
        """All is done that will be done."""
        if self.abandoned:
            return
        if self.cancelled and self._count("remaining"):
            self._answer(Status.CANCELLED, remaining=True, failed=True)
            return
        # What was not begun, for the receiver is gone, has failed.
        self._fates = {uid: "failed" if fate == "remaining" else fate for uid, fate in self._fates.items()}
        failed = self._count("failed")
        if failed and failed == len(self._fates):
            self._answer(Status.UNABLE_TO_PERFORM_SUBOPERATIONS, failed=True)
        elif failed or self._count("warned"):
            self._answer(Status.SOME_SUBOPERATIONS_FAILED, failed=True)
        else:
            self._answer(Status.SUCCESS)

    def refuse(self, status: Status) -> None:
        """None will be done."""
        self._answer(status, numbers=False)

    def _count(self, fate: Fate) -> int:
        return sum(each == fate for each in self._fates.values())

    def _answer(self, status: Status, *, remaining: bool = False, failed: bool = False, numbers: bool = True) -> None:
        answer = type(self._request)()
        answer.MessageIDBeingRespondedTo = self._request.MessageID
        answer.AffectedSOPClassUID = self._request.AffectedSOPClassUID
        answer.Status = int(status)
        if numbers:
            answer.NumberOfCompletedSuboperations = self._count("completed")
            answer.NumberOfWarningSuboperations = self._count("warned")
            answer.NumberOfFailedSuboperations = self._count("failed")
        if remaining:
            answer.NumberOfRemainingSuboperations = self._count("remaining")
        if failed:
            identifier = Dataset()
            identifier.FailedSOPInstanceUIDList = [uid for uid, fate in self._fates.items() if fate == "failed"]
            syntax = self._context.transfer_syntax[0]
            encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
            answer.Identifier = BytesIO(encoded or b"")
        self.association.dimse.send_msg(answer, self._context.context_id)
