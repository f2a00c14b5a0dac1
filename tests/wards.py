"""A node that fetches, with what it fetches from: a real PACS, or an archive that behaves as no good one does.

with ward_and_pacs(tmp_path) as (here, pacs):
    here.sends(here.cine())
    assert here.fetched().state == FetchState.FETCHED
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
    XRayAngiographicImageStorage,
)

from config.routes import Destination, Match, Route, RouteTable
from dicom_node.workflow.fetching import Fetcher
from dicom_node.workflow.series import object_kept
from storage.fetches import fetches_of
from storage.objects import objects_of_job
from storage.queue import list_jobs
from storage.schema import Fetch
from storage.states import FetchState, ObjectKind
from tests.factory import write, xa
from tests.listening import QUICK, Node, listening
from tests.peers import Peer, dcmqrscp, free_port, orthanc, qrscp, storescu, wait_until

TITLE = "ORTHANC"
OVER = (FetchState.FETCHED, FetchState.REFUSED, FetchState.ABANDONED)


class Ward:
    """A node whose one route fetches from a PACS at a port, and the study that is sent to both."""

    def __init__(
        self,
        node: Node,
        folder: Path,
        port: int,
        title: str = TITLE,
        route: Mapping[str, Any] | None = None,
        **patience: float,
    ) -> None:
        """route: keys of its one route; unset, it fetches the other series of a study."""
        self.node = node
        self.folder = folder
        self.study = generate_uid()
        node.table = table(port, title, route)
        self._patience = QUICK.model_copy(update=patience)
        self.fetcher = self.another_fetcher()

    def another_fetcher(self) -> Fetcher:
        """One that takes up what the one before has left; that is to be stopped."""
        known = {"table": lambda: self.table, "ae_title": "FULLFIELD", "name": "node"}
        return Fetcher(self.node.database, self._patience, **known)

    @property
    def table(self) -> RouteTable:
        return self.node.table

    def cine(self, modality: str = "XA", **attributes) -> Path:
        """A file of the study, in a series of its own unless said otherwise."""
        made = xa(frames=2, rows=16, columns=16, study_instance_uid=self.study, **attributes)
        made.Modality = modality
        return write(made, self.folder / f"{made.SOPInstanceUID}.dcm")

    def sends(self, *paths: Path) -> None:
        """What a modality does."""
        assert storescu(self.node.port, *paths, calling="CARM").accepted

    def fetches(self) -> list[Fetch]:
        with self.node.database.reading() as tx:
            return [fetch for job in reversed(list_jobs(tx)) for fetch in fetches_of(tx, job.id)]

    def fetched(self) -> Fetch:
        """Wait until the last fetch has its end."""
        wait_until(lambda: (all_ := self.fetches()) and all_[-1].state in OVER, what="the end of the fetch")
        return self.fetches()[-1]

    def kept(self, kind: ObjectKind) -> list[str]:
        return [row.sop_instance_uid for row in self.node.objects() if row.kind == kind]

    def jobs(self) -> list[list[str]]:
        """The objects of every job, oldest job first."""
        with self.node.database.reading() as tx:
            return [[row.sop_instance_uid for row in objects_of_job(tx, job.id)] for job in reversed(list_jobs(tx))]


def table(port: int, title: str, route: Mapping[str, Any] | None = None, **match: Sequence[str]) -> RouteTable:
    keys = {"fetch_priors": "pacs"} if route is None else route
    one = Route(name="all", destinations=("pacs",), match=Match(**match), **keys)
    pacs = Destination(name="pacs", ae_title=title, host="127.0.0.1", port=port)
    return RouteTable(routes=(one,), destinations=(pacs,))


@contextmanager
def ward(folder: Path, port: int, node_port: int = 0, **how) -> Iterator[Ward]:
    with listening(folder / "node", port=node_port or free_port()) as node:
        here = Ward(node, folder, port, **how)

        def kept(tx, stored, header: Dataset) -> None:
            object_kept(tx, stored, header, table=here.table, max_attempts=3)

        node.intake._on_kept = kept
        here.fetcher.start()
        try:
            yield here
        finally:
            here.fetcher.stop(2)


@contextmanager
def ward_and_pacs(folder: Path, program: str = "Orthanc", **how) -> Iterator[tuple[Ward, Peer]]:
    """program: dcmtk, pynetdicom or Orthanc."""
    node_port = free_port()
    if program == "Orthanc":
        modalities = {"node": ["FULLFIELD", "127.0.0.1", node_port]}
        archive = orthanc(folder / "orthanc", ae_title=TITLE, DicomModalities=modalities)
    else:
        serve = dcmqrscp if program == "dcmtk" else qrscp
        archive = serve(folder / program, ae_title=TITLE, FULLFIELD=node_port)
    with archive as pacs, ward(folder, pacs.port, node_port, **how) as here:
        yield here, pacs


def series(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SeriesInstanceUID)


def uid(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


class Archive:
    """An archive that finds and sends what it is told to; a real one would not."""

    def __init__(self, node_port: int) -> None:
        self.port = free_port()
        self.node_port = node_port
        #: Called with the identifier of a query: status and identifier of each answer.
        self.finds: Callable[[Dataset], Iterator[tuple[int, Dataset | None]]] = lambda _: iter(())
        #: Called with the event of any request before that is served.
        self.before_answering: Callable[[evt.Event], None] = lambda _: None
        #: Files that it sends for whatever is asked, and whether it tells for whom.
        self.sends: list[Path] = []
        self.tells_mover = True
        self.before_sending: Callable[[], None] = lambda: None
        self.moves: list[Dataset] = []

    @contextmanager
    def running(self) -> Iterator["Archive"]:
        ae = AE(TITLE)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        handlers = [(evt.EVT_C_FIND, self._asked), (evt.EVT_C_MOVE, self._moved)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        try:
            yield self
        finally:
            server.shutdown()

    def _asked(self, event: evt.Event):
        self.before_answering(event)
        yield from self.finds(event.identifier)

    def _moved(self, event: evt.Event):
        self.moves.append(event.identifier)
        self.before_answering(event)
        self.before_sending()
        self.send(event.assoc.requestor.ae_title, event.message_id)
        # pynetdicom sends by itself what it is given: here nothing is left for it.
        yield "127.0.0.1", self.node_port, {"contexts": [build_context(XRayAngiographicImageStorage)]}
        yield 0

    def send(self, mover: str, message_id: int) -> None:
        """Send what it sends, now."""
        contexts = [
            build_context(XRayAngiographicImageStorage, dcmread(path).file_meta.TransferSyntaxUID)
            for path in self.sends
        ]
        association = AE(TITLE).associate(
            "127.0.0.1", self.node_port, contexts or [build_context(XRayAngiographicImageStorage)], ae_title="FULLFIELD"
        )
        for path in self.sends:
            how = {"originator_aet": mover, "originator_id": message_id} if self.tells_mover else {}
            association.send_c_store(dcmread(path), **how)
        association.release()


def answer(path: Path, level: str = "SERIES") -> tuple[int, Dataset]:
    held = dcmread(path, stop_before_pixels=True)
    said = Dataset()
    said.QueryRetrieveLevel = level
    if level == "IMAGE":
        said.SOPInstanceUID = held.SOPInstanceUID
    said.StudyInstanceUID, said.SeriesInstanceUID = held.StudyInstanceUID, held.SeriesInstanceUID
    said.Modality = held.Modality
    return 0xFF00, said


def answers(*paths: Path, level: str = "SERIES") -> Callable[[Dataset], Iterator[tuple[int, Dataset]]]:
    return lambda _: (answer(path, level) for path in paths)


@contextmanager
def ward_and_archive(folder: Path, **how) -> Iterator[tuple[Ward, Archive]]:
    archive = Archive(free_port())
    with archive.running(), ward(folder, archive.port, archive.node_port, **how) as here:
        yield here, archive
