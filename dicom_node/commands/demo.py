"""`fullfield demo`: the whole way once, with a sample cine, a node and an archive of its own."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from config.errors import ConfigError, FullfieldError, StorageUnavailable

if TYPE_CHECKING:
    from rich.console import Console

    from storage.database import Database
    from storage.schema import Job

SAMPLE = Path(__file__).parent.parent / "sample" / "thorax.dcm"

_NODE, _ARCHIVE, _MODALITY = "FULLFIELD", "ARCHIVE", "DEMO"
#: Ports of a demo that stays, for others to know; one that does not stay takes any that are free.
_NODE_PORT, _ARCHIVE_PORT = 11112, 11113
#: Seconds for each step, on a slow machine that is busy with other things.
_PATIENCE = 600.0
_LOOK_SECONDS = 0.1


def demo(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="Folder in which a new one is made for the demo."),
    ] = Path("demo"),
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep node and archive running afterwards, until Ctrl-C.")
    ] = False,
) -> None:
    """Send a sample cine to a node over DICOM and wait for its result in an archive.

    Node and archive are started for the purpose, with everything they need in a new folder.

    Example: fullfield demo -o demo
    """
    from rich.console import Console

    from dicom_node.logs import configure_logs

    if not SAMPLE.exists():
        raise ConfigError(f"{SAMPLE} is missing; install Fullfield again.")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    place = _prepare(output, stay)
    with place.archive_log.open("w") as log:
        configure_logs(stream=log)
        with _archive(place), _node(place, console) as node:
            _send_sample(place)
            console.print(f"received     {SAMPLE.name}, sent by C-STORE and acknowledged")
            _follow(place, node, console)
            _show(place, console)
            if stay:
                _wait(place, node, console)


#: What goes beside the picture, and its modality; of two presentation states one is shown.
_BESIDE = {"segmentation": "SEG", "presentation": "PR", "report": "SR"}


@dataclass(frozen=True)
class _Place:
    """The demo's folder and ports."""

    folder: Path
    node_port: int
    archive_port: int

    @property
    def settings(self) -> Path:
        return self.folder / "fullfield.toml"

    @property
    def archive(self) -> Path:
        return self.folder / "archive"

    @property
    def archive_log(self) -> Path:
        return self.folder / "archive.log"

    @property
    def node_log(self) -> Path:
        return self.folder / "node.log"

    @property
    def picture(self) -> Path:
        return self.folder / "before-after.png"


def _prepare(output: Path, stay: bool) -> _Place:
    """A new folder, with a settings and a routes file."""
    started = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = output / started
    number = 1
    while folder.exists():
        number += 1
        folder = output / f"{started}-{number}"
    folder.mkdir(parents=True)
    ports = (_NODE_PORT, _ARCHIVE_PORT) if stay else _free_ports()
    place = _Place(folder, *ports)
    place.settings.write_text(
        f"[listener]\nae_title = {json.dumps(_NODE)}\nport = {place.node_port}\n\n"
        '[storage]\nroot = "var"\nfull_below_mb = 100\n'
    )
    (folder / "routes.toml").write_text(
        '[[routes]]\nname = "demo"\ndestinations = ["archive"]\n\n'
        f'[[destinations]]\nname = "archive"\nae_title = {json.dumps(_ARCHIVE)}\n'
        f'host = "127.0.0.1"\nport = {place.archive_port}\n'
    )
    return place


def _free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        return one.getsockname()[1], two.getsockname()[1]


@contextmanager
def _archive(place: _Place) -> Iterator[None]:
    from dicom_node.network.archive import Archive

    archive = Archive(place.archive, "127.0.0.1", place.archive_port, _ARCHIVE)
    archive.start()
    try:
        yield
    finally:
        archive.stop()


@contextmanager
def _node(place: _Place, console: "Console") -> Iterator[subprocess.Popen[bytes]]:
    """A node as a process, ready to receive."""
    command = [sys.executable, "-m", "dicom_node", "node", "--settings", str(place.settings)]
    with place.node_log.open("w") as log:
        node = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + _PATIENCE
        # By its own log: on its port another node may answer.
        while f"{_NODE} is ready on" not in place.node_log.read_text(encoding="utf-8"):
            _check_alive(place, node)
            _check_time(place, end)
            time.sleep(_LOOK_SECONDS)
        console.print(
            f"started      node {_NODE} on port {place.node_port}, archive {_ARCHIVE} on port {place.archive_port}"
        )
        yield node
    finally:
        node.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            node.wait(_PATIENCE / 10)
        if node.poll() is None:
            node.kill()
            node.wait()


def _send_sample(place: _Place) -> None:
    from dicom_node.network.sender import Address, send

    for _ in send(Address(_NODE, "127.0.0.1", place.node_port), _MODALITY, [SAMPLE], timeout_seconds=30):
        pass


def _follow(place: _Place, node: subprocess.Popen[bytes], console: "Console") -> None:
    """Tell what becomes of the job until it is delivered."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from config.settings import load_settings
    from storage.database import Database
    from storage.transitions import JobState

    database = Database(load_settings(place.settings).storage.database_url)
    columns = (TextColumn("{task.description:12}"), BarColumn(), TaskProgressColumn())
    said: list[str] = []
    end = time.monotonic() + _PATIENCE
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("queued", total=1.0)
        while True:
            _check_alive(place, node)
            _check_time(place, end)
            job = _newest_job(database)
            if job is not None:
                bar.update(task, description=str(job.state), completed=job.progress)
                if job.state in (JobState.DECLINED, JobState.FAILED):
                    raise FullfieldError(f"the demo's job is {job.state}: {job.reason}")
                for step in _steps(job):
                    if step not in said:
                        said.append(step)
                        console.print(step)
                if job.state == JobState.DELIVERED:
                    break
            time.sleep(_LOOK_SECONDS)
    database.close()


def _newest_job(database: "Database") -> "Job | None":
    from storage.queue import list_jobs

    with suppress(StorageUnavailable), database.reading() as tx:
        return next(iter(list_jobs(tx, limit=1)), None)
    return None


def _steps(job: "Job") -> list[str]:
    """What the job's state and progress say has happened, a line each."""
    from storage.transitions import JobState

    made = job.state not in (JobState.QUEUED, JobState.RUNNING)
    steps = [f"queued       job {job.id}, route {job.route!r}"]
    if made or job.state == JobState.RUNNING:
        steps.append(f"running      model {job.profile!r}, mode {job.mode!r}")
    tenths = 10 if made else int(10 * job.progress)
    if tenths:
        steps.append(f"             {10 * tenths} % reconstructed")
    if job.state == JobState.DELIVERED:
        steps.append("delivered    acknowledged by the archive")
    return steps


def _show(place: _Place, console: "Console") -> None:
    """Draw before and after from the archive's file, and tell where everything lies."""
    from pydicom import dcmread

    from dicom_node.objects.preview import before_after

    archived = {
        str(dcmread(file, specific_tags=["Modality"]).Modality): file for file in place.archive.glob("*/*/*.dcm")
    }
    beside = {name: archived.pop(modality, None) for name, modality in _BESIDE.items()}
    if None in beside.values() or not archived:
        raise FullfieldError(f"the archive has acknowledged the results, but {place.archive} does not hold them")
    (picture,) = archived.values()
    source, result = dcmread(SAMPLE), dcmread(picture)
    frames = int(source.get("NumberOfFrames") or 1)
    before_after(source, result, frames // 2).save(place.picture)
    console.print(f"source       {SAMPLE}")
    console.print(f"result       {picture}")
    for name, file in beside.items():
        console.print(f"{name:<12} {file}")
    console.print(f"picture      {place.picture}")
    console.print(f"story        fullfield audit --settings {place.settings} --study {result.StudyInstanceUID}")


def _wait(place: _Place, node: subprocess.Popen[bytes], console: "Console") -> None:
    console.print(
        f"Send cines to {_NODE} on 127.0.0.1, port {place.node_port}; results appear under "
        f"{place.archive}. Ctrl-C ends it."
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(_LOOK_SECONDS):
        _check_alive(place, node)


def _check_alive(place: _Place, node: subprocess.Popen[bytes]) -> None:
    if node.poll() is not None:
        raise FullfieldError(f"the node ended: {_last_line(place.node_log)}")


def _check_time(place: _Place, end: float) -> None:
    if time.monotonic() > end:
        raise FullfieldError(f"nothing has come of it in {_PATIENCE:g} s; {place.node_log} may say why")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fullfield: ") if lines else f"{log} is empty"
