"""N-EVENT-REPORT requests of this node over an association that the peer has opened (PS3.7 10.1.1).

pynetdicom's own `send_n_event_report` takes the next message for the answer. A peer that goes on sending objects
meanwhile would lose one: here requests are sent, and answers are told from requests, by the association's thread.
"""

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import encode

from config.errors import PeerRefused, PeerUnavailable


@dataclass(frozen=True, kw_only=True)
class Notification:
    """What an N-EVENT-REPORT request says."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    information: Dataset


class Notifications:
    """Those of one association. Any thread may `send`; the association's own does the rest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Notification, Future[int]]] = deque()
        #: By Message ID. With one operation outstanding at a time (PS3.7 D.3.3.3), it holds one at most.
        self._unanswered: dict[int, Future[int]] = {}
        self._sent = 0
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether the association is over."""
        return self._ended

    @property
    def open(self) -> bool:
        """Whether one more can be sent now: the association has not ended, and owes no answer."""
        return not self._ended and not self._unanswered

    def send(self, notification: Notification, timeout_seconds: float) -> int:
        """Have a notification sent; the status that the peer answers.

        Raises PeerUnavailable if the association ends or the peer does not answer in time, PeerRefused if it
        has no presentation context for it.
        """
        answer: Future[int] = Future()
        with self._lock:
            if self._ended:
                raise PeerUnavailable("The peer has ended the association.")
            self._waiting.append((notification, answer))
        try:
            return answer.result(timeout_seconds)
        except TimeoutError as error:
            with self._lock:
                self._waiting = deque(waiting for waiting in self._waiting if waiting[1] is not answer)
            raise PeerUnavailable(f"The peer did not answer in {timeout_seconds:g} s.") from error

    def flush(self, association: Association) -> None:
        """Send the next one that waits, if the last was answered."""
        with self._lock:
            if not self._waiting or self._unanswered:
                return
            notification, answer = self._waiting.popleft()
            self._sent = self._sent % 65535 + 1
            number = self._sent
            self._unanswered[number] = answer
        try:
            context_id, request = _request(association, notification, number)
        except PeerRefused as error:
            del self._unanswered[number]
            answer.set_exception(error)
            return
        association.dimse.send_msg(request, context_id)

    def answered(self, message: N_EVENT_REPORT) -> None:
        """Take an answer of the peer's; one to nothing that was sent is passed over."""
        answer = self._unanswered.pop(message.MessageIDBeingRespondedTo, None)
        if answer is not None and message.Status is not None:
            answer.set_result(int(message.Status))
        elif answer is not None:
            answer.set_exception(PeerUnavailable("The peer's answer has no status."))

    def end(self) -> None:
        """The association is over: nothing more is sent or answered."""
        with self._lock:
            self._ended = True
            left = [answer for _, answer in self._waiting] + list(self._unanswered.values())
            self._waiting.clear()
            self._unanswered.clear()
        for answer in left:
            answer.set_exception(PeerUnavailable("The peer ended the association before it answered."))


def _request(association: Association, notification: Notification, number: int) -> tuple[int, N_EVENT_REPORT]:
    """The request, and the presentation context in which this node is the SCP."""
    for context in association.accepted_contexts:
        if context.abstract_syntax == notification.sop_class_uid and context.as_scp:
            break
    else:
        raise PeerRefused("The association has no presentation context for the report.")
    syntax = UID(context.transfer_syntax[0])
    encoded = encode(notification.information, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise PeerRefused("The report cannot be encoded in the transfer syntax that was agreed.")
    request = N_EVENT_REPORT()
    request.MessageID = number
    request.AffectedSOPClassUID = notification.sop_class_uid
    request.AffectedSOPInstanceUID = notification.sop_instance_uid
    request.EventTypeID = notification.event_type
    request.EventInformation = BytesIO(encoded)
    return context.context_id, request
