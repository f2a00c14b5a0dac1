"""Storage commitment by push model: what a peer asks, and what it is told (PS3.4 J.3)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from config.errors import DamagedObject
from dicom_node.network.notifications import Notification
from dicom_node.network.statuses import Status, Unacceptable
from storage.database import Database
from storage.files import ObjectStore
from storage.objects import objects_under

#: Request Storage Commitment (PS3.4 J.3.2.1.1), the only action there is.
_REQUEST = 1
#: All is committed, and some is not (PS3.4 J.3.3.1.1).
_COMPLETE, _FAILURES_EXIST = 1, 2

#: Objects that one request may name; who has more asks in parts.
MOST_ITEMS = 20_000

_UID = re.compile(r"[0-9.]{1,64}")


class FailureReason(IntEnum):
    """Why an object is not committed (0008,1197) (PS3.3 C.14.1.1)."""

    #: It is held, but its bytes are not what was received.
    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    #: It is held as an object of another SOP class.
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A valid request for commitment."""

    transaction_uid: str
    #: SOP Class UID and SOP Instance UID of each object, each once.
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What is held of that which a peer asked for."""

    items: tuple[tuple[str, str], ...]
    #: The reason for each SOP Instance UID that is not committed.
    failed: Mapping[str, FailureReason]
    #: The study of all objects, if they are of one.
    study_instance_uid: str | None


def read_request(request: Any, information: Any, *, too_large: bool) -> Asked:
    """What an N-ACTION request asks for; raises Unacceptable with the status to be answered.

    request: pynetdicom's primitive. information: gives its Action Information, whatever comes of that.
    """
    if request.RequestedSOPClassUID != StorageCommitmentPushModel:
        raise Unacceptable(Status.NO_SUCH_SOP_CLASS, "The request is for another SOP class than was negotiated.")
    if request.RequestedSOPInstanceUID != StorageCommitmentPushModelInstance:
        raise Unacceptable(Status.NO_SUCH_SOP_INSTANCE, "The request is not for the well-known SOP instance.")
    if request.ActionTypeID != _REQUEST:
        raise Unacceptable(Status.NO_SUCH_ACTION, f"There is no action of type {request.ActionTypeID}.")
    if too_large:
        raise Unacceptable(Status.RESOURCE_LIMITATION, "The Action Information is too large; ask in parts.")
    try:
        asked = _read_information(information())
    except Unacceptable:
        raise
    except Exception as error:
        # Foreign bytes can do anything to the parser.
        raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, "The Action Information cannot be read.") from error
    if len(asked.items) > MOST_ITEMS:
        said = f"More than {MOST_ITEMS} objects are too many for one request; ask in parts."
        raise Unacceptable(Status.RESOURCE_LIMITATION, said)
    return asked


def judge(database: Database, store: ObjectStore, items: tuple[tuple[str, str], ...]) -> Judgement:
    """Compare every object with what was acknowledged of it (promise 1): its row, its file, its digest.

    Of several contents under one UID each is to be whole, for the peer may have sent any of them.
    """
    with database.reading() as tx:
        held = objects_under(tx, [instance for _, instance in items])
    failed: dict[str, FailureReason] = {}
    for sop_class, instance in items:
        rows = held.get(instance, [])
        if not rows:
            failed[instance] = FailureReason.NO_SUCH_OBJECT_INSTANCE
        elif sop_class not in {row.sop_class_uid for row in rows}:
            failed[instance] = FailureReason.CLASS_INSTANCE_CONFLICT
        elif not all(_is_whole(store, row.digest) for row in rows):
            failed[instance] = FailureReason.PROCESSING_FAILURE
    studies = {row.study_instance_uid for rows in held.values() for row in rows}
    return Judgement(items=items, failed=failed, study_instance_uid=studies.pop() if len(studies) == 1 else None)


def report(transaction_uid: str, judgement: Judgement) -> Notification:
    """The report of a judgement (PS3.4 table J.3-2)."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    committed, failed = [], []
    for sop_class, instance in judgement.items:
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class
        reference.ReferencedSOPInstanceUID = instance
        if instance in judgement.failed:
            reference.FailureReason = int(judgement.failed[instance])
            failed.append(reference)
        else:
            committed.append(reference)
    if committed:
        information.ReferencedSOPSequence = committed
    if failed:
        information.FailedSOPSequence = failed
    return Notification(
        sop_class_uid=StorageCommitmentPushModel,
        sop_instance_uid=StorageCommitmentPushModelInstance,
        event_type=_FAILURES_EXIST if failed else _COMPLETE,
        information=information,
    )


def _read_information(information: Dataset) -> Asked:
    transaction_uid = _uid(information, "TransactionUID")
    sequence = information.get("ReferencedSOPSequence")
    if not sequence:
        raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, "The Referenced SOP Sequence is missing or empty.")
    items = {
        _uid(item, "ReferencedSOPInstanceUID", number): _uid(item, "ReferencedSOPClassUID", number)
        for number, item in enumerate(sequence, start=1)
    }
    return Asked(
        transaction_uid=transaction_uid,
        items=tuple((sop_class, instance) for instance, sop_class in items.items()),
    )


def _uid(dataset: Dataset, keyword: str, number: int | None = None) -> str:
    value = dataset.get(keyword)
    if not isinstance(value, str) or not _UID.fullmatch(value):
        place = f"Item {number} of the Referenced SOP Sequence" if number else "The Action Information"
        raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, f"{place} has no valid {keyword}.")
    return str(value)


def _is_whole(store: ObjectStore, digest: str) -> bool:
    try:
        store.verify(digest)
    except DamagedObject:
        return False
    return True
