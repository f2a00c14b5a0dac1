"""Real peers for the tests: dcmtk, Orthanc and PostgreSQL, each on free ports of the loopback, ended by pid.

with storescp(tmp_path / "pacs") as peer: ...                 peer.files() are what it received
with orthanc(tmp_path / "orthanc") as peer: ...               peer.get("/instances")
with postgresql(tmp_path / "pg") as url: ...                  postgresql://fullfield@127.0.0.1:.../fullfield
assert storescu(port, path, "-xs", calling="CARM").accepted
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, XRayAngiographicImageStorage
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE

#: Seconds that a peer may take to start or to end.
PATIENCE = 60.0


@dataclass(frozen=True)
class Peer:
    """A DICOM peer that is running."""

    ae_title: str
    port: int
    folder: Path
    pid: int
    host: str = "127.0.0.1"
    tls: bool = False
    certificate: str = ""

    def files(self) -> list[Path]:
        """What storescp has received so far."""
        return sorted(path for path in self.folder.iterdir() if path.is_file())


@dataclass(frozen=True)
class Orthanc(Peer):
    """Orthanc, with its REST interface."""

    http_port: int = 0

    def get(self, path: str) -> Any:
        """GET a path of the REST interface, as JSON."""
        return json.loads(self.read(path))

    def read(self, path: str) -> bytes:
        """GET a path of the REST interface, as bytes."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def ask(self, path: str, question: dict[str, Any] | bytes) -> Any:
        """POST JSON, or bytes as they are, to a path of the REST interface."""
        content = question if isinstance(question, bytes) else json.dumps(question).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", content, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def put(self, path: str, content: Any) -> None:
        """PUT JSON to a path of the REST interface."""
        address = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(address, json.dumps(content).encode(), method="PUT")
        urllib.request.urlopen(request, timeout=30).close()

    def delete(self, path: str) -> None:
        """DELETE a path of the REST interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


@dataclass(frozen=True)
class Told:
    """What a dcmtk command said."""

    code: int
    output: str

    @property
    def accepted(self) -> bool:
        """Whether everything went well."""
        return self.code == 0

    @property
    def statuses(self) -> list[int]:
        """The DIMSE status of every C-STORE response, in order."""
        return [int(found, 16) for found in re.findall(r"DIMSE Status\s+: 0x([0-9a-fA-F]{4})", self.output)]


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until(true: Callable[[], Any], *, what: str = "it", seconds: float = PATIENCE) -> Any:
    """Wait until something becomes true, and return it."""
    end = time.monotonic() + seconds
    while True:
        answer = true()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"Waited {seconds:g} s for {what} in vain.")
        time.sleep(0.02)


def storescu(
    port: int,
    *what: Path | str,
    calling: str = "STORESCU",
    called: str = "FULLFIELD",
) -> Told:
    """Send files with dcmtk's storescu; options and paths in any order."""
    options = [str(item) for item in what if isinstance(item, str)]
    paths = [str(item) for item in what if isinstance(item, Path)]
    titles = ["-aet", calling, "-aec", called]
    return _ask("storescu", "-d", "-R", *titles, *options, "127.0.0.1", str(port), *paths)


def echoscu(port: int, *options: str, calling: str = "ECHOSCU", called: str = "FULLFIELD") -> Told:
    """Ask for a C-ECHO with dcmtk's echoscu."""
    return _ask("echoscu", "-d", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port))


def findscu(port: int, *options: str, calling: str = "FINDSCU", called: str = "FULLFIELD", **keys: str) -> Told:
    """Ask with dcmtk's findscu, by study unless the options say otherwise."""
    model = [] if "-P" in options else ["-S"]
    titles = ["-aet", calling, "-aec", called]
    asked = [part for keyword, value in keys.items() for part in ("-k", f"{keyword}={value}")]
    return _ask("findscu", "-v", *model, *options, *titles, *asked, "127.0.0.1", str(port))


def movescu(
    port: int, to: str, *options: str, calling: str = "MOVESCU", called: str = "FULLFIELD", **keys: str
) -> Told:
    """Ask with dcmtk's movescu that objects be sent to an AE title, by study."""
    titles = ["-aet", calling, "-aec", called, "-aem", to]
    asked = [part for keyword, value in keys.items() for part in ("-k", f"{keyword}={value}")]
    return _ask("movescu", "-d", "-S", *options, *titles, *asked, "127.0.0.1", str(port))


def getscu(
    port: int, folder: Path, *options: str, calling: str = "GETSCU", called: str = "FULLFIELD", **keys: str
) -> Told:
    """Ask with dcmtk's getscu that objects be sent back, into a folder, exactly as they come."""
    folder.mkdir(parents=True, exist_ok=True)
    titles = ["-aet", calling, "-aec", called, "-od", str(folder), "+B"]
    asked = [part for keyword, value in keys.items() for part in ("-k", f"{keyword}={value}")]
    return _ask("getscu", "-d", "-S", *options, *titles, *asked, "127.0.0.1", str(port))


def store_raw(
    port: int,
    data_set: bytes,
    *,
    sop_instance_uid: str,
    sop_class_uid: str = XRayAngiographicImageStorage,
    context: str = XRayAngiographicImageStorage,
    transfer_syntax: str = ExplicitVRLittleEndian,
    called: str = "FULLFIELD",
) -> int | None:
    """Send a C-STORE request with just this command and data set; the status, None without an answer."""
    ae = AE("RAW")
    association = ae.associate("127.0.0.1", port, [build_context(context, transfer_syntax)], ae_title=called)
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID = sop_class_uid
    # pynetdicom takes none that is too long.
    request._affected_sop_instance_uid = UID(sop_instance_uid)
    request.DataSet = BytesIO(data_set) if data_set else None
    association._reactor_checkpoint.clear()
    wait_until(lambda: association._is_paused)
    association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    association.release()
    return None if answer is None else answer.Status


def encoded(dataset: Dataset) -> bytes:
    """A data set in explicit little endian, without a file's header."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@contextmanager
def storescp(folder: Path, *options: str, ae_title: str = "STORESCP", port: int = 0) -> Iterator[Peer]:
    """dcmtk's storescp, writing to a folder exactly what it receives."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    exact = [] if "--ignore" in options else ["+B"]
    command = ["storescp", "-q", "-aet", ae_title, "-od", str(folder), *exact, *options, str(port)]
    with _process(command, folder.with_name(f"{folder.name}.log")) as process:
        wait_until(lambda: _listens(port, process), what="storescp")
        yield Peer(ae_title, port, folder, process.pid)


@contextmanager
def dcmqrscp(folder: Path, *, ae_title: str = "DCMQRSCP", port: int = 0, **hosts: int) -> Iterator[Peer]:
    """dcmtk's archive, which moves objects to these hosts: their AE titles, and their ports here."""
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    known = "".join(f"{title} = ({title}, 127.0.0.1, {at})\n" for title, at in hosts.items())
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        f"HostTable BEGIN\n{known}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\n{ae_title} {folder / 'objects'} RW (100, 1024mb) ANY\nAETable END\n"
    )
    with _process(["dcmqrscp", "-c", str(folder / "dcmqrscp.cfg")], folder / "log") as process:
        wait_until(lambda: _listens(port, process), what="dcmqrscp")
        yield Peer(ae_title, port, folder / "objects", process.pid)


@contextmanager
def qrscp(folder: Path, *, ae_title: str = "QRSCP", port: int = 0, **hosts: int) -> Iterator[Peer]:
    """pynetdicom's archive, which moves objects to these hosts: their AE titles, and their ports here."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    known = "".join(f"[{title}]\naddress: 127.0.0.1\nport: {at}\n" for title, at in hosts.items())
    (folder / "qrscp.ini").write_text(
        f"[DEFAULT]\nae_title: {ae_title}\nbind_address: 127.0.0.1\nport: {port}\nmax_pdu: 16382\n"
        "acse_timeout: 30\ndimse_timeout: 30\nnetwork_timeout: 30\n"
        f"instance_location: {folder / 'objects'}\ndatabase_location: {folder / 'index.sqlite'}\n{known}"
    )
    command = [sys.executable, "-m", "pynetdicom", "qrscp", "-c", str(folder / "qrscp.ini")]
    with _process(command, folder / "log") as process:
        wait_until(lambda: _listens(port, process), what="qrscp")
        yield Peer(ae_title, port, folder / "objects", process.pid)


@contextmanager
def orthanc(folder: Path, *, ae_title: str = "ORTHANC", port: int = 0, **configuration: Any) -> Iterator[Orthanc]:
    """Debian's Orthanc as a PACS, which anyone may send to."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http_port = port or free_port(), free_port()
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "objects"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": ae_title,
        "DicomPort": port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "DicomThreadsCount": 2,
        "HttpThreadsCount": 4,
        "Plugins": [],
        **configuration,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with _process(["/usr/sbin/Orthanc", str(folder / "orthanc.json")], folder / "log") as process:
        wait_until(
            lambda: _listens(port, process) and _listens(http_port, process) and _answers(http_port),
            what="Orthanc",
        )
        yield Orthanc(ae_title, port, folder, process.pid, http_port=http_port)


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """A PostgreSQL cluster of its own, with an empty database; its URL."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    port = free_port()
    # PostgreSQL will not run as root, and another user may not enter the folder that pytest gave root.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    data = Path(tempfile.mkdtemp(prefix="fullfield-postgresql-"))
    try:
        if as_user:
            os.chown(data, pwd.getpwnam("postgres").pw_uid, -1)
        cluster = data / "cluster"
        _run([*as_user, programs / "initdb", "-D", cluster, "-U", "fullfield", "-A", "trust", "-E", "UTF8"])
        folder.mkdir(parents=True, exist_ok=True)
        # Not through runuser: the signal that ends it has to reach the server itself.
        user = {"user": "postgres"} if as_user else {}
        command = [str(programs / "postgres"), "-D", str(cluster), "-p", str(port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}"]
        # SIGINT is its fast end; on SIGTERM it would wait for its clients.
        with _process(command, folder / "postgresql.log", signal.SIGINT, cwd=data, **user) as process:
            address = ["-h", "127.0.0.1", "-p", str(port), "-U", "fullfield"]
            ready = [programs / "pg_isready", "-q", *address]
            wait_until(lambda: _alive(process) and _ask(*map(str, ready)).accepted, what="PostgreSQL")
            _run([programs / "createdb", *address, "fullfield"])
            yield f"postgresql://fullfield@127.0.0.1:{port}/fullfield"
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _process(
    command: list[str], log: Path, end_by: signal.Signals = signal.SIGTERM, **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **how)
        try:
            yield process
        finally:
            process.send_signal(end_by)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 4)
            if process.poll() is None:
                process.kill()
            process.wait()


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    _alive(process)
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _answers(http_port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{http_port}/system", timeout=5):
        return True
    return False


def _alive(process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"{process.args[0]} ended with code {process.returncode}.")  # type: ignore[index]
    return True


def _ask(*command: str) -> Told:
    done = subprocess.run(command, capture_output=True, timeout=10 * PATIENCE, check=False)
    return Told(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))


def _run(command: list[Any]) -> None:
    told = _ask(*map(str, command))
    if not told.accepted:
        raise RuntimeError(f"{command[0]} failed: {told.output}")
