"""What a destination would take: presentation contexts proposed, and the association released (PS3.8 7.1.1.13)."""

from collections.abc import Iterable, Sequence

from pydicom.uid import UID
from pynetdicom import build_context

from config.errors import PeerRefused
from dicom_node.network.sender import Destination, associated
from dicom_node.network.tls import Credentials


def taken_by(
    destination: Destination,
    calling_ae: str,
    sop_classes: Iterable[UID],
    syntaxes: Sequence[UID],
    timeout_seconds: float,
    credentials: Credentials | None = None,
) -> frozenset[tuple[UID, UID]]:
    """The SOP classes that a destination takes, with the transfer syntaxes in which it takes each, of those asked for.

    None where it refuses the association: whoever sends then is told why. Raises PeerUnavailable as `send` does.
    """
    contexts = [build_context(sop_class, syntax) for sop_class in sop_classes for syntax in syntaxes]
    try:
        with associated(destination, calling_ae, contexts, timeout_seconds, credentials=credentials) as association:
            accepted = association.accepted_contexts
    except PeerRefused:
        return frozenset()
    return frozenset((UID(context.abstract_syntax), UID(context.transfer_syntax[0])) for context in accepted)
