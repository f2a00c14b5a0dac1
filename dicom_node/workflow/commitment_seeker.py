"""Asking destinations for storage commitment: what the database says is to be asked, until there is an answer."""

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy.orm import Session

from config.errors import FullfieldError, PeerRefused, PeerUnavailable
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.audit import Action, record
from dicom_node.backoff import wait_seconds
from dicom_node.logs import hashed
from dicom_node.network.commitment_scu import Question, Report, ask, report_service
from dicom_node.network.statuses import Status, Unacceptable
from dicom_node.network.tls import Credentials
from dicom_node.rounds import Rounds
from dicom_node.workflow.breaker import Breakers
from dicom_node.workflow.commitment import (
    settle_asked,
    settle_declined,
    settle_not_asked,
    settle_overdue,
    take_report,
)
from storage.database import Database
from storage.schema import SoughtCommitment
from storage.sought_commitments import claim_sought, due_sought
from storage.states import SoughtState

log = structlog.get_logger()

#: Requests that go over one association.
_MOST_REQUESTS = 32
#: For so long other nodes keep away from what this one is about.
_LEASE_SECONDS = 600.0
#: Success and warnings (PS3.7 C.1, C.4): the destination has taken the request on.
_TAKEN = {0x0000, 0x0107, 0x0116}
#: Processing failure and resource limitation (PS3.7 C.5): time may mend them.
_LATER = {0x0110, 0x0213}


class CommitmentSeeker(Rounds):
    """Asks destinations; `service` takes the reports of peers that open an association for them.

    table: gives the routes in force, which name the destinations.
    calling_ae: by which a destination is called that names none.
    credentials: for destinations that are called over TLS.
    """

    def __init__(
        self,
        database: Database,
        settings: DeliverySettings,
        *,
        table: Callable[[], RouteTable],
        calling_ae: str,
        name: str,
        credentials: Credentials | None = None,
    ) -> None:
        what = "asking for storage commitment"
        super().__init__(what, database, SoughtCommitment, name=name, every_seconds=settings.poll_seconds)
        self.service = report_service(self._reported)
        self._settings = settings
        self._table = table
        self._calling_ae = calling_ae
        self._credentials = credentials
        self._breakers = Breakers(settings)
        #: Transaction UIDs of requests just made, whose reports may come over the association that is open.
        self._awaited: set[str] = set()

    def due(self) -> list[str]:
        """Destinations that are to be asked, or whose report is overdue, and that are not left alone."""
        with self._database.reading() as tx:
            due = due_sought(tx)
        return [name for name in due if not self._breakers.is_open(name)]

    def serve(self, peer: str, owner: str) -> bool:
        """Take what is due of a destination: ask what waits, and ask anew where a report is overdue."""
        if self._breakers.is_open(peer):
            return False
        destination = self._table().destination(peer)
        with self._database.transaction() as tx:
            taken = claim_sought(tx, peer, owner=owner, lease_seconds=_LEASE_SECONDS, most=_MOST_REQUESTS)
        for overdue in (row for row in taken if row.state == SoughtState.ASKED):
            uid = overdue.transaction_uid
            with self._database.transaction() as tx:
                settle_overdue(tx, uid, destination, give_up_after=self._give_up_after)
        questions = {
            row.transaction_uid: Question(transaction_uid=row.transaction_uid, items=row.items)
            for row in taken
            if row.state == SoughtState.WAITING
        }
        if questions:
            attempt = max(row.attempts for row in taken if row.state == SoughtState.WAITING)
            self._ask(peer, destination, questions, attempt)
        return bool(taken)

    def _ask(self, name: str, destination: Destination | None, left: dict[str, Question], attempt: int) -> None:
        """Ask; each question leaves `left` when it is answered."""
        if destination is None:
            self._decline(left, None, f"destination {name!r} is no longer in the routes file")
            return

        uids = set(left)
        self._awaited |= uids

        def answered(question: Question, status: int) -> None:
            del left[question.transaction_uid]
            self._breakers.succeeded(name)
            self._answered(question, destination, status, attempt)

        try:
            ask(
                destination,
                destination.calling_ae or self._calling_ae,
                list(left.values()),
                answered=answered,
                reported=self._reported,
                awaited=lambda: not uids.isdisjoint(self._awaited) and not self.stopping.is_set(),
                timeout_seconds=self._settings.timeout_seconds,
                credentials=self._credentials,
            )
        except PeerRefused as error:
            self._decline(left, destination, str(error))
        except PeerUnavailable as error:
            if left:
                self._postpone(left, destination, str(error), self._breakers.failed(name, attempt))
        except FullfieldError:
            raise  # The storage is away.
        except Exception as error:
            log.exception("a request for storage commitment failed", destination=name)
            what = f"an internal error ({type(error).__name__}); the node's log says where"
            self._postpone(left, destination, what, wait_seconds(self._settings, attempt))
        finally:
            self._awaited -= uids

    def _answered(self, question: Question, destination: Destination, status: int, attempt: int) -> None:
        uid = question.transaction_uid
        said = f"{destination.ae_title} answered the request with status 0x{status:04X}"
        if status in _TAKEN:
            wait = timedelta(hours=self._settings.commitment_wait_hours).total_seconds()
            self._settle(lambda tx: settle_asked(tx, uid, destination, status=status, wait_seconds=wait))
            log.info("asked for storage commitment", transaction=hashed(uid), destination=destination.name)
            return
        self._awaited.discard(uid)
        if status in _LATER:
            self._postpone({uid: question}, destination, said, wait_seconds(self._settings, attempt), status)
        else:
            self._decline({uid: question}, destination, said, status)

    def _postpone(
        self, left: dict[str, Question], to: Destination, reason: str, wait: float, status: int | None = None
    ) -> None:
        """Put all of them off by the same wait in seconds, so that they go together again."""
        for uid in left:
            with self._database.transaction() as tx:
                settle_not_asked(
                    tx,
                    uid,
                    to,
                    reason=reason,
                    status=status,
                    wait_seconds=wait,
                    give_up_after=self._give_up_after,
                )
        if left:
            log.warning("asking for storage commitment is postponed", destination=to.name, reason=reason)

    def _decline(
        self, left: dict[str, Question], to: Destination | None, reason: str, status: int | None = None
    ) -> None:
        for uid in left:
            with self._database.transaction() as tx:
                settle_declined(tx, uid, to, reason=reason, status=status)
        if left:
            log.warning("a destination does not do storage commitment", reason=reason)

    def _reported(self, report: Report) -> None:
        """Note a report, in the thread of its association."""
        with self._database.transaction() as tx:
            state = take_report(
                tx,
                report.transaction_uid,
                committed=report.committed,
                failed=report.failed,
                peer_ae=report.peer_ae,
                peer_address=report.peer_address,
            )
            if state is None:
                record(
                    tx,
                    Action.COMMITMENT_ANSWER_REFUSED,
                    actor="commitment",
                    outcome="refused",
                    peer_ae=report.peer_ae,
                    peer_address=report.peer_address,
                    details={"reason": "The Transaction UID is none that this node has used."},
                )
        if state is None:
            raise Unacceptable(Status.INVALID_ARGUMENT_VALUE, "The Transaction UID is none that this node has used.")
        self._awaited.discard(report.transaction_uid)
        log.info("storage commitment answered", transaction=hashed(report.transaction_uid), state=state.value)

    @property
    def _give_up_after(self) -> timedelta:
        return timedelta(hours=self._settings.commitment_give_up_hours)

    def _settle(self, step: Callable[[Session], None]) -> None:
        with self._database.transaction() as tx:
            step(tx)
