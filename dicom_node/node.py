"""The node: where the rooms are wired together, and the only place where they are."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import structlog
from pydicom.dataset import Dataset
from pynetdicom.presentation import PresentationContext
from sqlalchemy.orm import Session

from config.errors import ConfigError, FullfieldError
from config.settings import Settings
from dicom_node import service_manager
from dicom_node.audit import Action, record
from dicom_node.network.commitment_reports import CommitmentReports
from dicom_node.network.intake import Intake
from dicom_node.network.listener import Listener
from dicom_node.network.mpps import ProcedureSteps
from dicom_node.network.query import Queries
from dicom_node.network.retrieve import Retrievals
from dicom_node.network.tls import credentials_of
from dicom_node.workflow.cataloguing import catalogue_earlier
from dicom_node.workflow.commitment_seeker import CommitmentSeeker
from dicom_node.workflow.delivery import Courier
from dicom_node.workflow.fetching import Fetcher
from dicom_node.workflow.routing import RouteBook
from dicom_node.workflow.scrubbing import Scrubber
from dicom_node.workflow.series import association_ended, complete_due, object_kept, procedure_step_ended
from dicom_node.workflow.supervisor import Supervisor
from dicom_node.workflow.upkeep import Upkeep
from dicom_node.workflow.watchdog import Watchdog
from storage.clock import ClockWatch, bring_forward
from storage.database import Database, current_time
from storage.files import ObjectStore
from storage.queue import forsake
from storage.root_lock import RootLock
from storage.schema import ProcedureStep, StoredObject
from storage.soundness import make_ready

if TYPE_CHECKING:
    from dicom_node.monitoring.steps import Steps
    from dicom_node.network.dicomweb.server import WebServer

log = structlog.get_logger()

_ACTOR = "node"
_CLOCK_SECONDS = 0.5
#: The clock hangs when it was silent for longer. A pass that works, or fails as it should, may take a minute: it waits
#: for its turn at a busy database, for a connection and for a lock, 10 s each, and does so for two transactions.
_SILENT_SECONDS = 120.0

#: A stop takes no longer. docs/how-to/install.md says so, and a service manager has to wait for more.
STOP_SECONDS = 45.0
#: Of these, what the last words to the audit trail may take.
_FAREWELL_SECONDS = 10.0


class Node:
    """A listener, a clock, the delivery and the workers, over one database and object store.

    worker_command: the command line of a worker, to which `--name` and its name are added.
    Raises ConfigError for what an administrator has to mend before the node can start.
    """

    def __init__(self, settings: Settings, worker_command: list[str]) -> None:
        self.settings = settings
        self.routes = RouteBook(settings.routes)
        self._credentials = credentials_of(settings.tls)
        self._name = f"{socket.gethostname()}:{settings.listener.port or settings.listener.tls_port}"
        self._database, self._store = storage_of(settings)
        # Two nodes with an SQLite database each would take each other's files for left over.
        self._root_lock = RootLock(settings.storage.root, shared=settings.storage.database_url.startswith("postgresql"))
        self._commitments = CommitmentReports(
            self._database,
            self._store,
            settings.listener,
            settings.delivery,
            name=self._name,
            credentials=self._credentials,
        )
        self._seeker = CommitmentSeeker(
            self._database,
            settings.delivery,
            table=lambda: self.routes.table,
            calling_ae=settings.listener.ae_title,
            name=self._name,
            credentials=self._credentials,
        )
        self._fetcher = Fetcher(
            self._database,
            settings.delivery,
            table=lambda: self.routes.table,
            ae_title=settings.listener.ae_title,
            name=self._name,
            credentials=self._credentials,
        )
        self._intake = Intake(
            self._store,
            self._database,
            on_kept=self._object_kept,
            on_release=self._association_ended,
            full_below_bytes=settings.storage.full_below_mb << 20,
            archives=lambda: self.routes.table.archives,
        )
        self._listener = Listener(
            settings.listener,
            self._intake,
            further=[
                self._commitments.service,
                self._seeker.service,
                ProcedureSteps(self._database, self._procedure_step_ended).service,
                Queries(self._database).service,
                Retrievals(
                    self._database,
                    self._store,
                    table=lambda: self.routes.table,
                    timeout_seconds=settings.delivery.timeout_seconds,
                    credentials=self._credentials,
                ).service,
            ],
            credentials=self._credentials,
        )
        self._steps: Steps | None = None
        self._web = self._web_server() if settings.web.port is not None else None
        self._courier = Courier(
            self._database,
            self._store,
            settings.delivery,
            table=lambda: self.routes.table,
            calling_ae=settings.listener.ae_title,
            name=self._name,
            credentials=self._credentials,
        )
        self._supervisor = Supervisor(
            {
                f"{self._name}/{number}": [*worker_command, "--name", f"{self._name}/{number}"]
                for number in range(1, settings.worker.processes + 1)
            },
            on_death=self._worker_died,
        )
        self._upkeep = Upkeep(self._database, self._store, settings.storage)
        self._scrubber = Scrubber(self._database, self._store, settings.storage.scrub_days)
        self._watchdog = Watchdog(settings.worker.lease_seconds)
        self._stopping = threading.Event()
        self._clock_watch = ClockWatch()
        #: When the clock last ticked; None before it has begun.
        self._ticked_at: float | None = None
        self._clock = threading.Thread(target=self._run_clock, name="clock", daemon=True)
        self._cataloguer = threading.Thread(
            target=catalogue_earlier, args=(self._database, self._store, self._stopping), name="cataloguer", daemon=True
        )

    @property
    def contexts(self) -> tuple[PresentationContext, ...]:
        """What peers can negotiate with it."""
        return self._listener.contexts

    @property
    def web_application(self) -> Any:
        """What it serves by HTTP; None without a port for that."""
        return self._web.application if self._web is not None else None

    def start(self) -> None:
        """Begin to receive, to work and to deliver; ConfigError while another node has the data root."""
        self._root_lock.acquire()
        make_ready(self._database, self._store)
        self._listener.start()
        if self._steps is not None:
            self._steps.begin()
        if self._web is not None:
            self._web.start()
        self._tell(Action.NODE_STARTED, port=self._listener.port, **self._routes_in_brief())
        self._clock.start()
        self._cataloguer.start()
        self._upkeep.start()
        self._scrubber.start()
        self._courier.start()
        self._commitments.start()
        self._seeker.start()
        self._fetcher.start()
        self._supervisor.start()

    def stop(self) -> None:
        """Receive no more, end what can be ended soon, and leave the rest for the next start."""
        end = time.monotonic() + STOP_SECONDS - _FAREWELL_SECONDS
        self._stopping.set()
        # All are told at once, so that the time of one is not taken from another.
        stops = [self._web.stop] if self._web is not None else []
        stops += [self._supervisor.stop, self._listener.stop, self._upkeep.stop, self._scrubber.stop]
        stops += [rounds.stop for rounds in (self._courier, self._commitments, self._seeker, self._fetcher)]
        ending = [threading.Thread(target=stop, name="end", daemon=True) for stop in stops]
        for thread in ending:
            thread.start()
        for thread in [*ending, self._clock, self._cataloguer]:
            # One that never began has no end either; `ident` is None for a thread that was not started.
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        if self._clock.ident is not None:
            self._tell(Action.NODE_STOPPED)
        self._database.close()
        self._root_lock.release()

    def reload(self) -> None:
        """Put routes and certificates in force as their files are now, for what begins from now on."""
        self._reload_routes()
        self._reload_certificates()

    def _reload_routes(self) -> None:
        """Put the routes file in force as it is now; a mistake in it changes nothing but log and audit."""
        try:
            self.routes.reload(self.settings.routes)
        except ConfigError as error:
            log.error("routes refused", reason=str(error))
            self._tell(Action.ROUTES_REFUSED, "refused", reason=str(error))
            return
        log.info("routes loaded", **self._routes_in_brief())
        self._tell(Action.ROUTES_LOADED, **self._routes_in_brief())

    def _reload_certificates(self) -> None:
        """Files that cannot be used change nothing but log and audit."""
        if self._credentials is None:
            return
        try:
            self._credentials.reload()
        except ConfigError as error:
            log.error("certificates refused", reason=str(error))
            self._tell(Action.CERTIFICATES_REFUSED, "refused", reason=str(error))
            return
        log.info("certificates loaded")
        self._tell(Action.CERTIFICATES_LOADED)

    def _web_server(self) -> "WebServer":
        web = self.settings.web
        assert web.port is not None
        # Only a node with an HTTP port needs FastAPI and the like, which take a while to import.
        from dicom_node.monitoring.pages import monitoring_pages
        from dicom_node.monitoring.reception import Reception
        from dicom_node.monitoring.state import State
        from dicom_node.monitoring.steps import Steps
        from dicom_node.network.dicomweb.admission import Admission
        from dicom_node.network.dicomweb.application import build_application
        from dicom_node.network.dicomweb.server import WebServer
        from dicom_node.objects.rendering import rendered

        title = self.settings.listener
        self._steps = Steps(self._database)
        reception = Reception(lambda: len(self._intake.receiving.under_way))
        self._intake.on_answer = reception.answered
        application = build_application(web, title, self._intake, self._database, self._store, rendered)
        application.include_router(
            monitoring_pages(
                is_alive=self._ticks,
                checks={
                    "node": lambda: not self._stopping.is_set(),
                    "database": lambda: bool(self._database.check()),
                    "disk": self._intake.has_room,
                },
                collectors=[
                    self._steps,
                    reception,
                    State(
                        self._database,
                        self._store,
                        full_below_bytes=self.settings.storage.full_below_mb << 20,
                        low_below_bytes=self.settings.storage.low_mb << 20,
                        associations=lambda: self._listener.open_associations,
                        workers=lambda: len(self._supervisor.pids),
                        orphans=lambda: self._scrubber.orphans,
                    ),
                ],
                admit=Admission(web, title.ae_title, self._intake).admit,
            )
        )
        return WebServer(application, web.host, web.port)

    def _object_kept(self, tx: Session, object: StoredObject, header: Dataset) -> None:
        object_kept(tx, object, header, table=self.routes.table, max_attempts=self.settings.worker.max_attempts)

    def _association_ended(self, tx: Session, series: list[str], calling_ae: str) -> None:  # noqa: ARG002
        association_ended(tx, series, table=self.routes.table, max_attempts=self.settings.worker.max_attempts)

    def _procedure_step_ended(self, tx: Session, step: ProcedureStep, made: Mapping[str, Sequence[str]]) -> None:
        max_attempts = self.settings.worker.max_attempts
        procedure_step_ended(tx, step, made, table=self.routes.table, max_attempts=max_attempts)

    def _run_clock(self) -> None:
        """Complete what is due, and replace workers that hang."""
        while not self._stopping.wait(_CLOCK_SECONDS):
            self._ticked_at = time.monotonic()
            service_manager.alive()
            try:
                self._complete_series()
                self._replace_hung_workers()
            except FullfieldError as error:
                log.warning("the clock missed a beat", reason=str(error))
            except Exception:
                log.exception("the clock missed a beat")

    def _ticks(self) -> bool:
        """Whether the clock ticks: its thread is there, and has not hung in what it does."""
        if self._ticked_at is None:
            return True
        return self._clock.is_alive() and time.monotonic() - self._ticked_at < _SILENT_SECONDS

    def _complete_series(self) -> None:
        with self._database.transaction() as tx:
            now = current_time(tx)
            if (by := self._clock_watch.set_back_by(now)) is not None:
                rows = bring_forward(tx, by)
                details = {"node": self._name, "seconds": round(by.total_seconds()), "brought_forward": rows}
                record(tx, Action.CLOCK_SET_BACK, actor=_ACTOR, details=details)
                log.warning("the clock was set back", seconds=details["seconds"], brought_forward=rows)
            complete_due(tx, now, table=self.routes.table, max_attempts=self.settings.worker.max_attempts)

    def _replace_hung_workers(self) -> None:
        with self._database.reading() as tx:
            hung = self._watchdog.hung(tx, self._supervisor.pids)
        for name in hung:
            self._supervisor.replace(name, "its job had no sign of life for too long")

    def _worker_died(self, name: str, sentence: str) -> None:
        with self._database.transaction() as tx:
            forsake(tx, name, sentence)
            record(
                tx, Action.WORKER_DIED, actor=_ACTOR, outcome="failed", details={"node": self._name, "reason": sentence}
            )

    def _routes_in_brief(self) -> dict[str, Any]:
        table = self.routes.table
        return {"routes": [route.name for route in table.routes]}

    def _tell(
        self, action: Action, outcome: Literal["success", "refused", "failed"] = "success", **details: Any
    ) -> None:
        try:
            with self._database.transaction() as tx:
                record(tx, action, actor=_ACTOR, outcome=outcome, details={"node": self._name, **details})
        except FullfieldError as error:
            log.warning("an audit row could not be written", action=action.value, reason=str(error))


def run_worker(settings: Settings, stopping: threading.Event, *, name: str | None = None, once: bool = False) -> None:
    """Be a worker until `stopping` is set, or with `once` until no job is due.

    name: that of a worker which this one takes the place of; by default one that no other worker has.
    Raises ConfigError when the device or the database is not there for it.
    """
    # Only a worker needs torch and the like, which take seconds to import.
    from dicom_node.workflow.worker import Worker
    from inference.on_disk import keep_arrays_in
    from inference.reconstruct import Reconstructor, choose_device

    device = choose_device(settings.worker.device)
    database, store = storage_of(settings)
    database.check()
    name = name or f"{socket.gethostname()}:{os.getpid()}/{uuid.uuid4().hex[:8]}"
    load = partial(Reconstructor.load, device=device)
    keep_arrays_in(store.incoming)
    log.info("worker ready", worker=name, device=device)
    Worker(database, store, settings.worker, name=name, load=load).run(stopping, once=once)
    database.close()


def storage_of(settings: Settings) -> tuple[Database, ObjectStore]:
    """The database and the object store of these settings; nothing is connected to or migrated yet."""
    storage = settings.storage
    return Database(storage.database_url), ObjectStore(storage.root, full_below_bytes=storage.full_below_mb << 20)
