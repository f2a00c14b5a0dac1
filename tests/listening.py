"""A listener with its storage and its storage commitment, for tests of what it keeps and what it refuses.

with listening(tmp_path, allow=...) as node:
    assert storescu(node.port, cine(tmp_path)).accepted
    assert len(node.objects()) == 1
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid
from sqlalchemy import select

from config.listener import ListenerSettings
from config.routes import RouteTable
from config.settings import DeliverySettings, TLSSettings
from dicom_node.network.commitment_reports import CommitmentReports
from dicom_node.network.intake import Intake
from dicom_node.network.listener import Listener
from dicom_node.network.query import Queries
from dicom_node.network.retrieve import Retrievals
from dicom_node.network.sender import Address, send
from dicom_node.network.tls import credentials_of
from storage.audit_trail import trail
from storage.database import Database
from storage.files import ObjectStore
from storage.schema import AuditRow, StoredObject
from tests.factory import write, xa
from tests.peers import free_port, storescu, wait_until

#: A patience that tests can wait for.
QUICK = DeliverySettings(first_wait_seconds=0.05, longest_wait_seconds=0.2, timeout_seconds=30, poll_seconds=0.02)


class Node:
    """A listener with its storage, and what it passed on."""

    def __init__(
        self,
        folder: Path,
        full_below_bytes: int = 0,
        url: str | None = None,
        lock_timeout_seconds: float = 10,
        patience: DeliverySettings = QUICK,
        tls: TLSSettings = TLSSettings(),  # noqa: B008 - it is frozen
        **settings: object,
    ) -> None:
        self.store = ObjectStore(folder / "store")
        self.database = Database(url or f"sqlite:///{folder / 'fullfield.db'}", lock_timeout_seconds)
        self.database.migrate()
        self.kept: list[str] = []
        self.released: list[tuple[list[str], str]] = []
        self.fault: Exception | None = None
        chosen = ListenerSettings(**{"port": free_port(), **settings})
        self.credentials = credentials_of(tls)
        self.commitments = CommitmentReports(
            self.database, self.store, chosen, patience, name="node", credentials=self.credentials
        )
        self.intake = Intake(
            self.store,
            self.database,
            self._on_kept,
            lambda _, series, calling_ae: self.released.append((series, calling_ae)),
            full_below_bytes,
            lambda: self.table.archives,
        )
        #: Its destinations are those of a C-MOVE, and those that may be fetched from.
        self.table = RouteTable()
        retrievals = Retrievals(
            self.database,
            self.store,
            lambda: self.table,
            timeout_seconds=patience.timeout_seconds,
            credentials=self.credentials,
        )
        further = [self.commitments.service, Queries(self.database).service, retrievals.service]
        self.listener = Listener(chosen, self.intake, further, self.credentials)

    @property
    def port(self) -> int:
        return self.listener.port

    def objects(self) -> list[StoredObject]:
        with self.database.reading() as tx:
            return list(tx.scalars(select(StoredObject).order_by(StoredObject.id)))

    def rows(self, *actions: str) -> list[AuditRow]:
        with self.database.reading() as tx:
            return [row for row in trail(tx) if row.action in actions or not actions]

    def refusal(self) -> AuditRow:
        """The one audit row of a refusal."""
        (row,) = wait_until(lambda: [row for row in self.rows() if row.outcome == "refused"])
        return row

    def destination(self) -> Address:
        return Address("FULLFIELD", "127.0.0.1", self.port)

    def send(self, *paths: Path) -> list[int]:
        return [sent.status for sent in send(self.destination(), "CARM", paths, 30)]

    def _on_kept(self, _, stored, header) -> None:
        if self.fault is not None:
            raise self.fault
        assert "PixelData" not in header
        self.kept.append(stored.sop_instance_uid)


@contextmanager
def listening(folder: Path, **how: object) -> Iterator[Node]:
    node = Node(folder, **how)
    node.listener.start()
    node.commitments.start()
    try:
        yield node
    finally:
        node.listener.stop(2)
        node.commitments.stop(2)
        node.database.close()


def cine(folder: Path, name: str = "cine.dcm", transfer_syntax: str | None = None, **attributes) -> Path:
    return write(xa(**attributes), folder / name, transfer_syntax)


def goes_through(node: Node, folder: Path) -> bool:
    """Whether the next object is kept as if nothing had happened."""
    path = cine(folder, "next.dcm", sop_instance_uid=generate_uid())
    return storescu(node.port, path).accepted and node.kept[-1:] == [dcmread(path).SOPInstanceUID]
