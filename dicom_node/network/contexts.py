"""What the node receives: SOP classes and transfer syntaxes, in one table (PS3.8 7.1.1.13)."""

from collections.abc import Iterable

from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedXAImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayAngiographicImageStorage,
    XRayRadiofluoroscopicImageStorage,
)
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

#: Objects that may hold collimated fluoroscopy.
SOP_CLASSES: tuple[UID, ...] = (
    XRayAngiographicImageStorage,
    EnhancedXAImageStorage,
    XRayRadiofluoroscopicImageStorage,
    SecondaryCaptureImageStorage,
    MultiFrameSingleBitSecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)

UNCOMPRESSED: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

#: Of those that a peer proposes in one context, the one that it proposes first is accepted.
TRANSFER_SYNTAXES: tuple[UID, ...] = (
    *UNCOMPRESSED,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    RLELossless,
)


def accepted_contexts() -> list[PresentationContext]:
    """What the listener accepts: the table above, and verification (PS3.4 A)."""
    storage = [build_context(sop_class, list(TRANSFER_SYNTAXES)) for sop_class in SOP_CLASSES]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def commitment_contexts() -> list[PresentationContext]:
    """Storage commitment, of which the node is the SCP, whoever opens the association (PS3.4 J)."""
    return [build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))]


def archive_contexts() -> list[PresentationContext]:
    """What the built-in archive accepts: every storage SOP class in everything but deflated."""
    syntaxes = [syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax != DeflatedExplicitVRLittleEndian]
    storage = [build_context(context.abstract_syntax, syntaxes) for context in AllStoragePresentationContexts]
    return [*storage, build_context(Verification, list(UNCOMPRESSED))]


def in_the_order_of(
    proposed: Iterable[PresentationContext], supported: Iterable[PresentationContext]
) -> list[PresentationContext]:
    """Supported contexts, the transfer syntaxes of each in the order in which the peer proposed them.

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
            context = build_context(context.abstract_syntax, known or list(context.transfer_syntax))
        ordered.append(context)
    return ordered
