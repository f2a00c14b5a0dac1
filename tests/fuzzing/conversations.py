"""Valid conversations with the node, as the bytes that go over the line: what the mutations begin with."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from random import Random
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    XRayAngiographicImageStorage,
    generate_uid,
)
from pynetdicom.dimse_messages import (
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_CREATE_RQ,
    N_SET_RQ,
    DIMSEMessage,
)
from pynetdicom.dimse_primitives import C_ECHO, C_FIND, C_GET, C_MOVE, C_STORE, N_ACTION, N_CREATE, N_SET
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from tests.factory import xa

_MESSAGES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
#: In which data sets go, by abstract syntax: one presentation context of every conversation for each.
_SYNTAXES: dict[str, tuple[UID, ...]] = {
    XRayAngiographicImageStorage: (*_MESSAGES, DeflatedExplicitVRLittleEndian),
    Verification: _MESSAGES,
    StorageCommitmentPushModel: _MESSAGES,
    StudyRootQueryRetrieveInformationModelFind: _MESSAGES,
    ModalityPerformedProcedureStep: _MESSAGES,
    StudyRootQueryRetrieveInformationModelMove: _MESSAGES,
    StudyRootQueryRetrieveInformationModelGet: _MESSAGES,
}
#: Those contexts, and their ids (PS3.8 9.3.2.2).
_CONTEXTS = {
    context: 2 * number + 1
    for number, context in enumerate((abstract, syntax) for abstract, each in _SYNTAXES.items() for syntax in each)
}
_FRAGMENT = 4096

#: Changes the bytes of a data set before they are sent; called with them, and whether they are in implicit VR.
Change = Callable[[bytes, bool], bytes]


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One association, PDU by PDU (PS3.8 9.3)."""

    #: What is asked of the node between request and release.
    kind: str
    #: A-ASSOCIATE-RQ, P-DATA-TF (one or more), A-RELEASE-RQ.
    pdus: tuple[bytes, ...]
    #: The object that a C-STORE request names.
    sop_instance_uid: str = ""


def unchanged(data_set: bytes, _: bool) -> bytes:
    """The data set as it is."""
    return data_set


def conversation(rng: Random, change: Change = unchanged) -> Conversation:
    """A conversation of a kind drawn at random; `change` is applied to the data set that it carries, if any."""
    kind = rng.choices(list(_REQUESTS), weights=[6, 1, 1, 1, 1, 1, 1, 1])[0]
    uid = generate_uid(entropy_srcs=[str(rng.getrandbits(64))])
    message, primitive, abstract, data_set = _REQUESTS[kind](uid)
    syntax = rng.choice(_SYNTAXES[abstract])
    if data_set is not None:
        content = written(rng, data_set, syntax, change)
        setattr(primitive, _DATA_SET_OF.get(kind, "Identifier"), BytesIO(content))
    message.primitive_to_message(primitive)
    parts = [_pdu(P_DATA_TF, part) for part in message.encode_msg(_CONTEXTS[abstract, syntax], _FRAGMENT)]
    return Conversation(kind=kind, pdus=(_request(), *parts, _pdu(A_RELEASE_RQ, A_RELEASE())), sop_instance_uid=uid)


def written(rng: Random, data_set: Dataset, syntax: UID, change: Change = unchanged) -> bytes:
    """A data set in a transfer syntax, changed; a deflated one before it is deflated, or after."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, syntax.is_implicit_VR
    write_dataset(buffer, data_set)
    content = buffer.getvalue()
    if not syntax.is_deflated:
        return change(content, syntax.is_implicit_VR)
    if rng.random() < 0.5:
        return _deflated(change(content, False))
    return change(_deflated(content), False)


def _deflated(data_set: bytes) -> bytes:
    """Padded to an even length (PS3.5 A.5)."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = stream.compress(data_set) + stream.flush()
    return deflated + b"\0" * (len(deflated) % 2)


def _store(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = XRayAngiographicImageStorage, uid
    return C_STORE_RQ(), request, XRayAngiographicImageStorage, xa(frames=2, sop_instance_uid=uid)


def _echo(_: str) -> tuple[DIMSEMessage, Any, str, None]:
    request = C_ECHO()
    request.MessageID, request.AffectedSOPClassUID = 1, Verification
    return C_ECHO_RQ(), request, Verification, None


def _commit(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = N_ACTION()
    request.MessageID, request.ActionTypeID = 1, 1
    request.RequestedSOPClassUID = StorageCommitmentPushModel
    request.RequestedSOPInstanceUID = StorageCommitmentPushModelInstance
    information, reference = Dataset(), Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = XRayAngiographicImageStorage, uid
    information.TransactionUID, information.ReferencedSOPSequence = uid, [reference]
    return N_ACTION_RQ(), request, StorageCommitmentPushModel, information


def _find(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = C_FIND()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelFind
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.PatientName, identifier.StudyInstanceUID = "STUDY", "A*", uid
    return C_FIND_RQ(), request, StudyRootQueryRetrieveInformationModelFind, identifier


def _begin_step(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = N_CREATE()
    request.MessageID = 1
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ModalityPerformedProcedureStep, uid
    step, scheduled = Dataset(), Dataset()
    scheduled.StudyInstanceUID = uid
    step.ScheduledStepAttributesSequence, step.PerformedProcedureStepStatus = [scheduled], "IN PROGRESS"
    step.PerformedStationAETitle, step.Modality = "CARM", "XA"
    return N_CREATE_RQ(), request, ModalityPerformedProcedureStep, step


def _end_step(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = N_SET()
    request.MessageID = 1
    request.RequestedSOPClassUID, request.RequestedSOPInstanceUID = ModalityPerformedProcedureStep, uid
    step = Dataset()
    step.PerformedProcedureStepStatus = "COMPLETED"
    return N_SET_RQ(), request, ModalityPerformedProcedureStep, step


def _move(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = C_MOVE()
    request.MessageID, request.Priority, request.MoveDestination = 1, 2, "SOMEWHERE"
    request.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelMove
    return C_MOVE_RQ(), request, StudyRootQueryRetrieveInformationModelMove, _study(uid)


def _get(uid: str) -> tuple[DIMSEMessage, Any, str, Dataset]:
    request = C_GET()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = StudyRootQueryRetrieveInformationModelGet
    return C_GET_RQ(), request, StudyRootQueryRetrieveInformationModelGet, _study(uid)


def _study(uid: str) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", uid
    return identifier


_REQUESTS: dict[str, Callable[[str], tuple[DIMSEMessage, Any, str, Dataset | None]]] = {
    "C-STORE": _store,
    "C-ECHO": _echo,
    "N-ACTION": _commit,
    "C-FIND": _find,
    "N-CREATE": _begin_step,
    "N-SET": _end_step,
    "C-MOVE": _move,
    "C-GET": _get,
}
_DATA_SET_OF = {
    "C-STORE": "DataSet",
    "N-ACTION": "ActionInformation",
    "N-CREATE": "AttributeList",
    "N-SET": "ModificationList",
}


def _request() -> bytes:
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "FUZZ", "FULLFIELD"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = 16384, "2.25.1"
    request.user_information = [length, implementation]
    contexts = []
    for (abstract, syntax), number in _CONTEXTS.items():
        context = build_context(abstract, syntax)
        context.context_id = number
        contexts.append(context)
    request.presentation_context_definition_list = contexts
    return _pdu(A_ASSOCIATE_RQ, request)


def _pdu(kind: type, primitive: Any) -> bytes:
    pdu = kind()
    pdu.from_primitive(primitive)
    encoded_pdu: bytes = pdu.encode()
    return encoded_pdu
