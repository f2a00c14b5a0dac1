"""Delivery: takes results from the outbox to their destinations, until each has acknowledged them.

Each destination has threads of its own while something is due there: a dead one holds up nobody else. There are as
many as it takes associations; no two carry objects of one study at a time. What a crash interrupts is sent again: the
objects are the same, and a destination takes them as one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from config.errors import DamagedObject, FullfieldError, LeaseLost, PeerRefused, PeerUnavailable, StorageUnavailable
from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.backoff import wait_seconds
from dicom_node.logs import hashed
from dicom_node.network.dicomweb.sender import send_by_http
from dicom_node.network.negotiation import taken_by
from dicom_node.network.sender import Sent, send
from dicom_node.network.tls import Credentials
from dicom_node.patience import persist
from dicom_node.rounds import Rounds
from dicom_node.workflow.breaker import Breakers
from dicom_node.workflow.commitment import end_if_committed, seek_commitment
from dicom_node.workflow.compression import LosslessCopies
from dicom_node.workflow.settlement import (
    Consignment,
    due_destinations,
    set_out,
    settle_acknowledged,
    settle_postponed,
    settle_refused,
    still_held,
    take,
)
from storage.database import Database
from storage.faultpoint import faultpoint
from storage.files import ObjectStore
from storage.schema import Delivery, Job

log = structlog.get_logger()

_Answer = TypeVar("_Answer")

#: Objects that go over one association, and bytes after which no more are added to it.
_MOST_OBJECTS = 32
_MOST_BYTES = 512 << 20
#: For so long others keep away from what was taken; a line of 10 Mbit/s carries so many bytes in this time.
_LEASE_SECONDS = 600.0


class Courier(Rounds):
    """Sends what the outbox holds, from `start` to `stop`.

    table: gives the routes in force, which name the destinations.
    calling_ae: by which a destination is called that names none.
    credentials: for destinations that are called over TLS.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        settings: DeliverySettings,
        *,
        table: Callable[[], RouteTable],
        calling_ae: str,
        name: str,
        credentials: Credentials | None = None,
    ) -> None:
        super().__init__("delivery", database, Delivery, name=name, every_seconds=settings.poll_seconds)
        self._store = store
        self._copies = LosslessCopies(store)
        self._settings = settings
        self._table = table
        self._calling_ae = calling_ae
        self._credentials = credentials
        self._breakers = Breakers(settings)

    def due(self) -> list[str]:
        """Destinations to which something is due, and that are not left alone."""
        with self._database.reading() as tx:
            due = due_destinations(tx)
        return [name for name in due if not self._breakers.is_open(name)]

    def at_once(self, peer: str) -> int:
        """The associations that a destination takes at a time."""
        destination = self._table().destination(peer)
        return destination.associations if destination is not None else 1

    def serve(self, peer: str, owner: str) -> bool:
        """Take the next of what is due to a destination there."""
        if self._breakers.is_open(peer):
            return False
        with self._database.transaction() as tx:
            taken = take(
                tx, peer, owner=owner, lease_seconds=_LEASE_SECONDS, most=_MOST_OBJECTS, most_bytes=_MOST_BYTES
            )
        if taken:
            faultpoint("delivery.taken")
            self._deliver(peer, taken)
        return bool(taken)

    def _deliver(self, name: str, taken: list[Consignment]) -> None:
        under_way = self._settle(lambda tx: set_out(tx, taken))
        left = [consignment for consignment in taken if consignment.job_id in under_way]
        destination = self._table().destination(name)
        if destination is None:
            for consignment in left:
                self._refuse(consignment, None, f"destination {name!r} is no longer in the routes file")
            return
        left = [consignment for consignment in left if self._is_whole(consignment, destination)]
        while not self.stopping.is_set() and (left := self._still_held(left)):
            left = self._associate(destination, left)

    def _associate(self, destination: Destination, consignments: list[Consignment]) -> list[Consignment]:
        """Send over one association; what is left to be sent over another."""
        left = list(consignments)
        held_since = time.monotonic()
        calling_ae = destination.calling_ae or self._calling_ae
        try:
            paths = self._files(destination, calling_ae, [consignment.digest for consignment in left])
            held, held_since = self._held_since(left, held_since)
            if len(held) < len(left):
                return held
            for sent in self._send(destination, calling_ae, paths):
                faultpoint("delivery.receipt")
                self._acknowledge(left.pop(0), destination, sent.status)
                faultpoint("delivery.settled")
                if self.stopping.is_set():
                    break
                held, held_since = self._held_since(left, held_since)
                if len(held) < len(left):
                    return held
        except PeerRefused as error:
            if left:
                self._refuse(left.pop(0), destination, str(error), getattr(error, "status", None))
            return left
        except PeerUnavailable as error:
            self._put_off(left, destination, str(error), getattr(error, "status", None))
        except FullfieldError:
            raise  # The storage is away.
        except Exception as error:
            log.exception("a delivery failed", destination=destination.name)
            what = f"an internal error ({type(error).__name__}); the node's log says where"
            self._put_off(left, destination, what, None)
        return []

    def _held_since(self, left: list[Consignment], since: float) -> tuple[list[Consignment], float]:
        """What is left that is still held, looked at again if that was long ago; and when it was looked at last."""
        if time.monotonic() - since <= _LEASE_SECONDS / 3:
            return left, since
        return self._still_held(left), time.monotonic()

    def _still_held(self, left: list[Consignment]) -> list[Consignment]:
        """What is left without what is no longer this courier's; from the rest others keep away for longer."""
        if not left:
            return []
        held = self._settle(partial(still_held, consignments=left, lease_seconds=_LEASE_SECONDS))
        if len(held) < len(left):
            _dropped(left[0].destination, len(left) - len(held))
        return held

    def _send(self, destination: Destination, calling_ae: str, paths: list[Path]) -> Iterator[Sent]:
        timeout, credentials = self._settings.timeout_seconds, self._credentials
        if destination.url is not None:
            return send_by_http(destination, paths, timeout, credentials)
        return send(destination, calling_ae, paths, timeout, credentials, self._store.incoming)

    def _files(self, destination: Destination, calling_ae: str, digests: list[str]) -> list[Path]:
        """What to send: compressed without loss where the destination takes it so, which by HTTP is not told."""
        if not destination.compressed or destination.url is not None:
            return [self._store.path(digest) for digest in digests]
        timeout, credentials = self._settings.timeout_seconds, self._credentials
        return self._copies.files(
            destination.name,
            digests,
            lambda classes, syntaxes: taken_by(destination, calling_ae, classes, syntaxes, timeout, credentials),
        )

    def _is_whole(self, consignment: Consignment, destination: Destination) -> bool:
        """Whether the result is as it was made; a damaged one is not sent."""
        try:
            self._store.verify(consignment.digest)
        except DamagedObject as error:
            self._refuse(consignment, destination, str(error))
            return False
        except StorageUnavailable as error:
            # Where the disk cannot read one file the others go on.
            wait = wait_seconds(self._settings, consignment.attempt)
            self._postpone([consignment], destination, str(error), None, wait)
            return False
        return True

    def _acknowledge(self, consignment: Consignment, destination: Destination, status: int) -> None:
        def acknowledged(tx: Session) -> None:
            settle_acknowledged(tx, consignment, destination, status)
            self._committed(tx, consignment, destination)

        self._breakers.succeeded(destination.name)
        self._settle(acknowledged)
        self._copies.forget(destination.name, consignment.digest)
        log.info(
            "delivered",
            job=consignment.job_id,
            destination=consignment.destination,
            sop_instance=hashed(consignment.sop_instance_uid),
        )

    def _refuse(
        self,
        consignment: Consignment,
        destination: Destination | None,
        reason: str,
        status: int | None = None,
    ) -> None:
        def refused(tx: Session) -> None:
            settle_refused(tx, consignment, destination, reason=reason, status=status)
            self._committed(tx, consignment, destination)

        try:
            self._settle(refused)
        except LeaseLost:
            _dropped(consignment.destination, 1)
            return
        self._copies.forget(consignment.destination, consignment.digest)
        log.warning("delivery refused", job=consignment.job_id, destination=consignment.destination, reason=reason)

    def _committed(self, tx: Session, consignment: Consignment, destination: Destination | None) -> None:
        """With what was just settled the destination may be one to ask, or the job be committed already."""
        if destination is not None:
            seek_commitment(tx, consignment.job_id, destination)
        end_if_committed(tx, tx.get_one(Job, consignment.job_id))

    def _put_off(
        self, consignments: list[Consignment], destination: Destination, reason: str, status: int | None
    ) -> None:
        """Put all of them off for as long as the destination is left alone."""
        if consignments:
            wait = self._breakers.failed(destination.name, max(consignment.attempt for consignment in consignments))
            self._postpone(consignments, destination, reason, status, wait)

    def _postpone(
        self,
        consignments: list[Consignment],
        destination: Destination,
        reason: str,
        status: int | None,
        wait: float,
    ) -> None:
        """Put all of them off by the same wait, so that they go together again, and before what came after them."""

        def put_off(tx: Session) -> int:
            count = 0
            # In one order everywhere, so that no two transactions wait for each other's jobs.
            for consignment in sorted(consignments, key=lambda consignment: consignment.job_id):
                with suppress(LeaseLost):
                    settle_postponed(
                        tx,
                        consignment,
                        destination,
                        reason=reason,
                        status=status,
                        wait_seconds=wait,
                        give_up_after=timedelta(hours=self._settings.give_up_after_hours),
                    )
                    count += 1
            return count

        count = self._settle(put_off)
        if count < len(consignments):
            _dropped(destination.name, len(consignments) - count)
        if count:
            log.warning(
                "deliveries postponed",
                destination=destination.name,
                objects=count,
                wait_seconds=round(wait, 1),
                reason=reason,
            )

    def _settle(self, step: Callable[[Session], _Answer]) -> _Answer:
        return persist(self._database, step, self.stopping.wait)


def _dropped(destination: str, count: int) -> None:
    """Tell that deliveries were settled by others, or taken by another sender after the lease had run out."""
    log.info("deliveries are no longer this sender's", destination=destination, objects=count)
