"""What the node receives: SOP classes and transfer syntaxes, in one table (PS3.8 7.1.1.13)."""

from collections.abc import Iterable

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
from pynetdicom.sop_class import ModalityPerformedProcedureStep, StorageCommitmentPushModel, Verification

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


def accepted_contexts() -> list[PresentationContext]:
    """What the listener accepts: the table above, and verification (PS3.4 A)."""
    storage = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in RECEIVED]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def commitment_contexts() -> list[PresentationContext]:
    """Storage commitment, of which the node is the SCP, whoever opens the association (PS3.4 J)."""
    return [build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))]


def procedure_step_contexts() -> list[PresentationContext]:
    """Modality performed procedure steps, of which the node is the SCP (PS3.4 F)."""
    return [build_context(ModalityPerformedProcedureStep, list(UNCOMPRESSED))]


def archive_contexts() -> list[PresentationContext]:
    """What the built-in archive accepts: every storage SOP class in everything but deflated."""
    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]
    storage = [build_context(context.abstract_syntax, syntaxes) for context in AllStoragePresentationContexts]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def in_the_order_of(
    proposed: Iterable[PresentationContext], supported: Iterable[PresentationContext]
) -> list[PresentationContext]:
    """Supported contexts, the transfer syntaxes of each in the order in which the peer proposed them, lossy ones last.

    pynetdicom accepts the first of its own order; the peer knows better what it can send without converting.
    """
    order: dict[str, list[UID]] = {}
    for context in proposed:
        order.setdefault(str(context.abstract_syntax), []).extend(context.transfer_syntax)
    ordered = []
    for context in supported:
        wanted = order.get(str(context.abstract_syntax))
        if wanted is not None:
            known = [syntax for syntax in dict.fromkeys(wanted) if syntax in context.transfer_syntax]
            known.sort(key=lambda syntax: syntax in LOSSY)
            context = build_context(context.abstract_syntax, known or list(context.transfer_syntax))
        ordered.append(context)
    return ordered
