"""The storage commitment SCP's reports: on each request, until the peer has the report (PS3.4 J.3.3).

Requests are taken by commitment_requests.py, and reports go by commitment_ways.py. Each peer has a thread of its own
while something is due to it: one that is silent, or has asked for thousands of objects, holds up nobody else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pynetdicom import evt

from config.errors import FullfieldError, PeerRefused, PeerUnavailable, StorageFull, StorageUnavailable
from config.listener import ListenerSettings
from config.settings import DeliverySettings
from dicom_node.audit import Action, record
from dicom_node.backoff import wait_seconds
from dicom_node.logs import hashed
from dicom_node.network.commitment import FailureReason, Judgement, judge, report
from dicom_node.network.commitment_requests import ACTOR, LEASE_SECONDS, CommitmentRequests
from dicom_node.network.commitment_ways import ReportWays
from dicom_node.network.contexts import commitment_contexts
from dicom_node.network.server import FurtherService
from dicom_node.network.tls import Credentials
from dicom_node.rounds import Rounds
from storage.commitments import (
    claim_commitment,
    due_commitments,
    hasten_commitments,
    settle_commitment,
)
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import Commitment
from storage.states import CommitmentState

log = structlog.get_logger()

#: Objects that one audit row names; the database has all of them.
_MOST_NAMED = 16
#: Answers under which the peer has the report: success and warnings (PS3.7 C.1, C.4).
_TAKEN = {0x0000, 0x0107, 0x0116}
#: Processing failure and resource limitation (PS3.7 C.5): time may mend them.
_LATER = {0x0110, 0x0213}


class CommitmentReports(Rounds):
    """Reports to peers; `service` is what a listener serves of it.

    credentials: for peers that are called over TLS.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        listener: ListenerSettings,
        settings: DeliverySettings,
        *,
        name: str,
        credentials: Credentials | None = None,
    ) -> None:
        what = "reports on storage commitment"
        super().__init__(what, database, Commitment, name=name, every_seconds=settings.poll_seconds)
        self._ways = ReportWays(listener, settings.timeout_seconds, credentials)
        self.service = FurtherService(
            contexts=tuple(commitment_contexts()),
            handlers=(
                (evt.EVT_ACCEPTED, self._ways.accepted),
                (evt.EVT_N_ACTION, CommitmentRequests(database, name=name).requested),
            ),
        )
        self._store = store
        self._settings = settings

    def due(self) -> list[str]:
        """Peers to which a report is due; what waits for one that has called is."""
        with self._ways.callers() as callers:
            for calling_ae, called_ae in callers:
                with self._database.transaction() as tx:
                    hasten_commitments(tx, calling_ae, called_ae, owner=self._name, lease_seconds=LEASE_SECONDS)
        with self._database.reading() as tx:
            return due_commitments(tx, self._name)

    def serve(self, peer: str, owner: str) -> bool:  # noqa: ARG002
        """Make the next report that is due to a peer. All that this node is about is free for it to take anew."""
        with self._database.transaction() as tx:
            commitment = claim_commitment(tx, peer, owner=self._name, lease_seconds=LEASE_SECONDS)
        if commitment is not None:
            self._report(commitment)
        return commitment is not None

    def _report(self, commitment: Commitment) -> None:
        """Make one attempt, and note what became of it."""
        if not self._ways.lead_to(commitment):
            self._wait_for_the_peer(commitment)
            return
        judgement = None
        try:
            judgement = judge(self._database, self._store, tuple((item[0], item[1]) for item in commitment.items))
            status, way = self._ways.send(commitment, report(commitment.transaction_uid, judgement))
        except (PeerUnavailable, PeerRefused, StorageUnavailable, StorageFull) as error:
            # A peer that rejects the association is tried again too: its administrator may mend it within the day.
            self._postpone(commitment, str(error), None)
        except FullfieldError:
            raise
        except Exception as error:
            log.exception("a report on storage commitment failed", peer=commitment.calling_ae)
            what = f"An internal error ({type(error).__name__}); the node's log says where."
            self._postpone(commitment, what, None)
        else:
            self._answered(commitment, judgement, status, way)

    # What becomes of an attempt.

    def _answered(self, commitment: Commitment, judgement: Judgement, status: int, way: str) -> None:
        said = f"{commitment.calling_ae} answered the report with status 0x{status:04X}."
        if status in _LATER:
            self._postpone(commitment, said, status)
            return
        details: dict[str, Any] = {
            "committed": len(judgement.items) - len(judgement.failed),
            "failed": len(judgement.failed),
            "over": way,
            **_failures(judgement.failed),
        }
        if status in _TAKEN:
            settled = self._settle(
                commitment,
                Action.COMMITMENT_REPORTED,
                CommitmentState.REPORTED,
                status=status,
                failed=judgement.failed,
                study_instance_uid=judgement.study_instance_uid,
                details=details,
            )
            if settled:
                log.info("storage commitment reported", **self._facts(commitment), **_counts(details))
        else:
            self._settle(
                commitment,
                Action.COMMITMENT_REPORT_REFUSED,
                CommitmentState.REFUSED,
                reason=said,
                status=status,
                details=details,
            )
            log.warning("a report on storage commitment was refused", reason=said, **self._facts(commitment))

    def _wait_for_the_peer(self, commitment: Commitment) -> None:
        """Without a port there is no way to a peer that has no association open: its next one is waited for.

        That is told once: a peer that hangs up at once has all that waits for it looked at with each call.
        """
        reason = (
            f"{commitment.calling_ae} has no association with {commitment.called_ae} open and no port in its allow "
            "list; the report waits until it calls again."
        )
        self._postpone(commitment, reason, None, wait=self._left(commitment), is_known=commitment.reason == reason)

    def _postpone(
        self,
        commitment: Commitment,
        reason: str,
        status: int | None,
        wait: float | None = None,
        is_known: bool = False,
    ) -> None:
        """Try again later, or no more. is_known: it has been told already that it waits, and why."""
        if self._left(commitment) <= 0:
            self._settle(
                commitment, Action.COMMITMENT_ABANDONED, CommitmentState.ABANDONED, reason=reason, status=status
            )
            log.warning("a report on storage commitment is undeliverable", reason=reason, **self._facts(commitment))
            return
        wait = wait_seconds(self._settings, commitment.attempts) if wait is None else wait
        self._settle(
            commitment,
            None if is_known else Action.COMMITMENT_POSTPONED,
            CommitmentState.WAITING,
            reason=reason,
            status=status,
            wait=wait,
        )
        if not is_known:
            log.warning("a report on storage commitment is postponed", reason=reason, **self._facts(commitment))

    def _left(self, commitment: Commitment) -> float:
        """Seconds until a report is given up."""
        until = commitment.requested_at + timedelta(hours=self._settings.give_up_after_hours)
        return (until - datetime.now(UTC)).total_seconds()

    def _settle(
        self,
        commitment: Commitment,
        action: Action | None,
        state: CommitmentState,
        *,
        reason: str | None = None,
        status: int | None = None,
        wait: float = 0,
        failed: Mapping[str, int] | None = None,
        study_instance_uid: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> bool:
        told: dict[str, Any] = {"transaction_uid": commitment.transaction_uid, "attempt": commitment.attempts}
        told |= details or {}
        told |= {"reason": reason} if reason else {}
        told |= {"status": f"0x{status:04X}"} if status else {}
        told |= {"wait_seconds": round(wait, 1)} if wait else {}
        with self._database.transaction() as tx:
            settled = settle_commitment(
                tx,
                commitment.id,
                attempt=commitment.attempts,
                state=state,
                reason=reason,
                status=status,
                failed=failed,
                wait_seconds=wait,
            )
            # A report that has arrived is told even if the peer has asked again meanwhile.
            if action is not None and (settled or action == Action.COMMITMENT_REPORTED):
                record(
                    tx,
                    action,
                    actor=ACTOR,
                    outcome="success" if state == CommitmentState.REPORTED else "failed",
                    peer_ae=commitment.calling_ae,
                    peer_address=commitment.peer_address,
                    study_instance_uid=study_instance_uid,
                    details=told,
                )
        return settled

    def _facts(self, commitment: Commitment) -> dict[str, Any]:
        return {"transaction": hashed(commitment.transaction_uid), "peer": commitment.calling_ae}


def _counts(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: details[name] for name in ("committed", "failed", "over")}


def _failures(failed: Mapping[str, FailureReason]) -> dict[str, Any]:
    """The first objects that are not committed, each with its reason."""
    if not failed:
        return {}
    named = list(failed.items())[:_MOST_NAMED]
    return {"not_committed": [f"{uid} (0x{reason:04X})" for uid, reason in named]}
