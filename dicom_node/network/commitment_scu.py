"""The storage commitment SCU: asks a destination to keep what it was sent, and takes its reports (PS3.4 J.3).

A destination reports over the association that asked while that is open, or over one that it opens to the listener,
as the SCP of the service (PS3.7 D.3.3.4).
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from config.errors import StorageFull, StorageUnavailable
from dicom_node.network.contexts import commitment_contexts, commitment_report_contexts
from dicom_node.network.incoming import printable
from dicom_node.network.sender import Destination, associated, status_of
from dicom_node.network.server import FurtherService
from dicom_node.network.statuses import Status, Unacceptable
from dicom_node.network.tls import Credentials
from storage.faultpoint import faultpoint

log = structlog.get_logger()

#: Request Storage Commitment (PS3.4 J.3.2.1.1), the only action there is.
_REQUEST = 1
#: All is committed, and some is not (PS3.4 J.3.3.1.1).
_EVENTS = {1, 2}
#: For so long the association that asked stays open for reports. Most peers open another; those that do not
#: report soon, or when the node calls again.
_LINGER_SECONDS = 10.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request for commitment."""

    transaction_uid: str
    #: SOP Class UID and SOP Instance UID of each object.
    items: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a destination says of one request."""

    transaction_uid: str
    #: SOP Instance UIDs of what it commits to keep.
    committed: frozenset[str]
    #: The Failure Reason (PS3.3 C.14.1.1) of each SOP Instance UID that it does not; 0 if it gives none.
    failed: Mapping[str, int]
    #: Who reports, from where.
    peer_ae: str
    peer_address: str


#: Called with each report, in the thread of its association; raises Unacceptable with the status to be answered.
OnReport = Callable[[Report], None]


def ask(
    destination: Destination,
    calling_ae: str,
    questions: Sequence[Question],
    *,
    answered: Callable[[Question, int], None],
    reported: OnReport,
    awaited: Callable[[], bool],
    timeout_seconds: float,
    credentials: Credentials | None = None,
) -> None:
    """Make requests over one association, and take the reports that come over it within some seconds.

    answered: called with the status of each N-ACTION as it comes.
    awaited: whether there still are reports to wait for; they may come another way.
    credentials: for a destination that is called over TLS.
    Raises PeerUnavailable or PeerRefused for the first request that was not answered; those before it were.
    """
    with associated(
        destination, calling_ae, commitment_contexts(), timeout_seconds, credentials=credentials
    ) as association:
        taker, serving = _Taker(reported), set[threading.Thread]()

        def report(event: evt.Event) -> tuple[int, None]:
            serving.add(threading.current_thread())
            return taker.report(event)

        association.bind(evt.EVT_N_EVENT_REPORT, report)
        _serve_reports_between(association)
        for question in questions:
            faultpoint("commitment.asking")
            answer, _ = association.send_n_action(
                _information(question), _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            faultpoint("commitment.asked")
            answered(question, status_of(answer, destination))
        end = time.monotonic() + _LINGER_SECONDS
        while awaited() and association.is_established and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        # pynetdicom waits for ever when it is to release while it still serves a report.
        for thread in serving - {threading.current_thread()}:
            thread.join(timeout_seconds)


def report_service(reported: OnReport) -> FurtherService:
    """What a listener serves to peers that open an association to report."""
    return FurtherService(
        contexts=tuple(commitment_report_contexts()), handlers=((evt.EVT_N_EVENT_REPORT, _Taker(reported).report),)
    )


class _Taker:
    """Answers N-EVENT-REPORT requests."""

    def __init__(self, reported: OnReport) -> None:
        self._reported = reported

    def report(self, event: evt.Event) -> tuple[int, None]:
        """Pass on a report; called in the thread of the association."""
        peer = event.assoc.remote
        try:
            self._reported(_read(event, printable(str(peer["ae_title"])), str(peer["address"])))
        except Unacceptable as error:
            log.warning("a report on storage commitment is refused", status=f"0x{error.status:04X}", reason=str(error))
            return error.status, None
        except (StorageFull, StorageUnavailable) as error:
            log.warning("a report on storage commitment cannot be taken now", reason=str(error))
            return Status.PROCESSING_FAILURE, None
        except Exception:
            log.exception("a report on storage commitment could not be taken")
            return Status.PROCESSING_FAILURE, None
        return Status.SUCCESS, None


def _information(question: Question) -> Dataset:
    """PS3.4 table J.3-1."""
    asked = Dataset()
    asked.TransactionUID = question.transaction_uid
    asked.ReferencedSOPSequence = []
    for sop_class, instance in question.items:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, instance
        asked.ReferencedSOPSequence.append(reference)
    return asked


def _read(event: Any, peer_ae: str, peer_address: str) -> Report:
    """PS3.4 table J.3-2."""
    if event.request.AffectedSOPClassUID != StorageCommitmentPushModel:
        raise Unacceptable(Status.NO_SUCH_SOP_CLASS, "The report is of another service than storage commitment.")
    if event.request.EventTypeID not in _EVENTS:
        raise Unacceptable(Status.NO_SUCH_EVENT_TYPE, f"There is no event of type {event.request.EventTypeID}.")
    try:
        said = event.event_information
        return Report(
            transaction_uid=str(said.TransactionUID),
            committed=frozenset(
                str(item.ReferencedSOPInstanceUID) for item in said.get("ReferencedSOPSequence", None) or ()
            ),
            failed={
                str(item.ReferencedSOPInstanceUID): int(item.get("FailureReason", None) or 0)
                for item in said.get("FailedSOPSequence", None) or ()
            },
            peer_ae=peer_ae,
            peer_address=peer_address,
        )
    except Exception as error:
        # Foreign bytes can do anything to the parser.
        raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, "The Event Information cannot be read.") from error


def _serve_reports_between(association: Association) -> None:
    """Have a report served that comes while an N-ACTION waits for its answer: pynetdicom would take it for that."""
    next_message = association.dimse.get_msg

    def get_msg(block: bool = False) -> tuple[Any, Any]:
        while True:
            context_id, message = next_message(block)
            if not block or not isinstance(message, N_EVENT_REPORT) or not message.is_valid_request:
                return context_id, message
            association._serve_request(message, context_id)

    association.dimse.get_msg = get_msg
