"""A courier for the tests of delivery, and a destination that answers as it is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pynetdicom import AE, AllStoragePresentationContexts, evt

from config.routes import Destination, RouteTable
from config.settings import DeliverySettings
from dicom_node.workflow.delivery import Courier
from storage.database import Database
from storage.files import ObjectStore
from tests.peers import free_port

QUICK = DeliverySettings(first_wait_seconds=0.05, longest_wait_seconds=0.2, timeout_seconds=30, poll_seconds=0.02)


@contextmanager
def delivering(
    database: Database, store: ObjectStore, settings: DeliverySettings = QUICK, **ports: int
) -> Iterator[Courier]:
    """A courier that knows these destinations, by name and port."""
    table = RouteTable(
        destinations=tuple(
            Destination(name=name, ae_title="PEER", host="127.0.0.1", port=port) for name, port in ports.items()
        )
    )
    courier = Courier(database, store, settings, table=lambda: table, calling_ae="FULLFIELD", name="node")
    courier.start()
    try:
        yield courier
    finally:
        courier.stop()


@contextmanager
def answering(status: Callable[[], int]) -> Iterator[tuple[int, list[str]]]:
    """A peer that answers each C-STORE with the next status; its port, and the UIDs that it was sent."""
    received: list[str] = []

    def answer(event: evt.Event) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return status()

    ae = AE("PEER")
    ae.supported_contexts = AllStoragePresentationContexts
    port = free_port()
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    try:
        yield port, received
    finally:
        server.shutdown()
