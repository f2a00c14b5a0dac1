"""What the node receives: SOP classes and transfer syntaxes, in one table (PS3.8 7.1.1.13)."""

from collections.abc import Collection, Iterable, Sequence

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    ModalityPerformedProcedureStep,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from dicom_node.lossy import LOSSY
from dicom_node.sop_classes import RECEIVED

UNCOMPRESSED: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

#: All that there is a decoder for. Of those that a peer proposes in one context, the one that it proposes first
#: is accepted, but one that loses nothing before one that does: who proposes both has the whole picture
#: (PS3.5 10.1).
TRANSFER_SYNTAXES: tuple[UID, ...] = (
    *UNCOMPRESSED,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    *LOSSY,
)

#: Information models of queries and retrievals, by study and by patient (PS3.4 C.6.2 and C.6.1).
FIND: tuple[UID, ...] = (StudyRootQueryRetrieveInformationModelFind, PatientRootQueryRetrieveInformationModelFind)
MOVE: tuple[UID, ...] = (StudyRootQueryRetrieveInformationModelMove, PatientRootQueryRetrieveInformationModelMove)
GET: tuple[UID, ...] = (StudyRootQueryRetrieveInformationModelGet, PatientRootQueryRetrieveInformationModelGet)


def accepted_contexts() -> list[PresentationContext]:
    """What the listener accepts: the table above, and verification (PS3.4 A)."""
    storage = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in RECEIVED]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def commitment_contexts() -> list[PresentationContext]:
    """Storage commitment, of which the node is the SCP, whoever opens the association (PS3.4 J)."""
    return [build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))]


def commitment_report_contexts() -> list[PresentationContext]:
    """Storage commitment with the peer as the SCP, which opens an association to report (PS3.4 J.3.3)."""
    (context,) = commitment_contexts()
    context.scu_role, context.scp_role = False, True
    return [context]


def procedure_step_contexts() -> list[PresentationContext]:
    """Modality performed procedure steps, of which the node is the SCP (PS3.4 F)."""
    return [build_context(ModalityPerformedProcedureStep, list(UNCOMPRESSED))]


def query_contexts() -> list[PresentationContext]:
    """Queries by study and by patient (PS3.4 C.4.1)."""
    return [build_context(model, list(UNCOMPRESSED)) for model in FIND]


def retrieve_contexts() -> list[PresentationContext]:
    """Retrievals, and for C-GET what a peer that takes the SCP's role may have sent to it (PS3.4 C.5.3)."""
    sent = [
        build_context(context.abstract_syntax, list(TRANSFER_SYNTAXES)) for context in AllStoragePresentationContexts
    ]
    for context in sent:
        context.scu_role, context.scp_role = False, True
    return [*(build_context(model, list(UNCOMPRESSED)) for model in (*MOVE, *GET)), *sent]


def archive_contexts() -> list[PresentationContext]:
    """What the built-in archive accepts: every storage SOP class in everything but deflated."""
    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]
    storage = [build_context(context.abstract_syntax, syntaxes) for context in AllStoragePresentationContexts]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def in_the_roles_of(offered: Collection[str], supported: Collection[PresentationContext]) -> list[PresentationContext]:
    """Supported contexts of an association, each SOP class once, with the roles that the peer may have.

    offered: SOP classes for which the peer offers to be the SCP (PS3.7 D.3.3.4): only of these anything is sent to it.
    """
    sent = {context.abstract_syntax: context for context in supported if context.scp_role}
    received = {context.abstract_syntax: context for context in supported if not context.scp_role}
    for sop_class in sent.keys() & set(offered):
        if sop_class in received:
            both = build_context(sop_class, list(received[sop_class].transfer_syntax))
            both.scu_role = both.scp_role = True
            received[sop_class] = both
        else:
            received[sop_class] = sent[sop_class]
    return list(received.values())


def in_the_order_of(
    proposed: Iterable[PresentationContext],
    supported: Iterable[PresentationContext],
    preferred: Sequence[UID] = (),
) -> list[PresentationContext]:
    """Supported contexts, the transfer syntaxes of each in the order in which they are to be accepted.

    preferred: to come first, in this order. The others come in the order in which the peer proposed them, lossy ones
    last: pynetdicom accepts the first of its own order, and the peer knows better what it can send without converting.
    Where objects may be sent to it those without compression are first, for every object can be brought into them.
    """
    rank = {syntax: number for number, syntax in enumerate(preferred)}
    order: dict[str, list[UID]] = {}
    for context in proposed:
        order.setdefault(str(context.abstract_syntax), []).extend(context.transfer_syntax)
    ordered = []
    for context in supported:
        wanted = order.get(str(context.abstract_syntax))
        if wanted is not None:
            known = [syntax for syntax in dict.fromkeys(wanted) if syntax in context.transfer_syntax]
            known.sort(key=lambda syntax: syntax in LOSSY)
            known.sort(key=lambda syntax: rank.get(syntax, len(rank)))
            if context.scp_role:
                known.sort(key=lambda syntax: syntax not in UNCOMPRESSED)
            roles = context.scu_role, context.scp_role
            context = build_context(context.abstract_syntax, known or list(context.transfer_syntax))
            context.scu_role, context.scp_role = roles
        ordered.append(context)
    return ordered
