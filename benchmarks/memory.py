"""The memory of a node with a cine of 2 GB, beside that with one of 8 MB: it is to be the same.

It receives the cine, and then passes it on to destinations (dcmtk's storescp) that want it as it is, compressed without
loss, or with implicit VR. This process stands in for a worker whose result the cine is.
`python -m benchmarks.memory 100` has a large cine of so many frames, of 0.5 MB each.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path

from pydicom.filereader import read_file_meta_info
from sqlalchemy import select

from benchmarks._cine import write_cine
from benchmarks._place import folder_on_disk, forget_peak, memory_now, peak_memory
from storage.database import Database, current_time
from storage.outbox import add_delivery
from storage.queue import claim, finish
from storage.schema import Delivery, StoredObject
from storage.states import DeliveryState
from storage.transitions import JobState
from tests.nodes import SETTLED, NodeProcess
from tests.peers import Peer, storescp, wait_until

#: Frames of 512x512 pixels in two bytes that the node receives.
_SMALL, _LARGE = 16, int(sys.argv[1]) if len(sys.argv) > 1 else 4096
#: MB that a node is to keep within, whatever the size of an object.
_BAR = 400
#: Options of storescp, by the name of the destination: the form in which it wants what it gets.
_FORMS = {"explicit": ("+xe",), "jpeg-ls": ("+xt",), "implicit": ("+xi",)}
#: So long a delivery is kept back before its turn, and may take then.
_LONG = timedelta(hours=4)


def main() -> None:
    """Print the peaks of node and sender."""
    with folder_on_disk() as folder, ExitStack() as stack:
        peers = {
            name: stack.enter_context(storescp(folder / name, *options, ae_title="PACS"))
            for name, options in _FORMS.items()
        }
        ports = {name: peer.port for name, peer in peers.items()}
        node = NodeProcess(folder / "node", ports, worker={"processes": 0})
        database = stack.enter_context(_running(node))
        print(f"node: {memory_now(node.pid, 'VmRSS')} MB at rest; it is to keep within {_BAR} MB", flush=True)
        for number, frames in enumerate((_SMALL, _LARGE), start=1):
            cine = write_cine(folder / "cine.dcm", frames=frames, side=512)
            received, sender = _receiving(node, cine)
            size = cine.stat().st_size >> 20
            cine.unlink()
            print(f"{size} MB received: {_beside_bar(received)}; fullfield send {sender} MB", flush=True)
            _wait_for_job(node, number)
            for delivery, name in _made(database, list(peers)):
                began = time.monotonic()
                peak = _delivering(node, database, delivery)
                form, arrived = _arrived(peers[name])
                took = time.monotonic() - began
                print(f"{size} MB passed on, {arrived} MB in {form}, {took:.0f} s: {_beside_bar(peak)}", flush=True)
            state = node.jobs()[-1].state
            if state not in SETTLED:
                raise RuntimeError(f"All is delivered, and the job is {state}.")


@contextmanager
def _running(node: NodeProcess) -> Iterator[Database]:
    """A node, and its database."""
    with node.running(), closing(node.database()) as database:
        yield database


def _receiving(node: NodeProcess, cine: Path) -> tuple[int, int]:
    """The peaks of the node and of the sender while the node receives the cine."""
    forget_peak(node.pid)
    sender = _peak_of("send", str(cine), "--to", f"127.0.0.1:{node.port}:FULLFIELD")
    return peak_memory(node.pid), sender


def _wait_for_job(node: NodeProcess, number: int) -> None:
    wait_until(lambda: len(node.jobs()) == number, what="the job")


def _made(database: Database, destinations: list[str]) -> list[tuple[int, str]]:
    """End the job that waits as a worker would, its original the result; its deliveries, whose turn is not yet."""
    with database.transaction() as tx:
        taken = claim(tx, owner="benchmark", lease_seconds=60)
        assert taken is not None
        job, lease = taken
        original = tx.scalars(select(StoredObject).where(StoredObject.job_id == job.id)).one()
        deliveries = [add_delivery(tx, job=job, object=original, destination=name) for name in destinations]
        for delivery in deliveries:
            delivery.not_before = current_time(tx) + _LONG
        finish(tx, lease, JobState.RECONSTRUCTED, model_digest="0" * 64)
        return [(delivery.id, delivery.destination) for delivery in deliveries]


def _delivering(node: NodeProcess, database: Database, delivery: int) -> int:
    """The peak of the node while it delivers."""
    forget_peak(node.pid)
    with database.transaction() as tx:
        tx.get_one(Delivery, delivery).not_before = current_time(tx)
    wait_until(lambda: _is_settled(database, delivery), what="the delivery", seconds=_LONG.total_seconds())
    return peak_memory(node.pid)


def _is_settled(database: Database, delivery: int) -> bool:
    with database.reading() as tx:
        found = tx.get_one(Delivery, delivery)
    if found.state in (DeliveryState.REFUSED, DeliveryState.ABANDONED) or found.attempts > 1:
        raise RuntimeError(f"The delivery is {found.state} at attempt {found.attempts}: {found.reason}")
    return found.state == DeliveryState.ACKNOWLEDGED


def _arrived(peer: Peer) -> tuple[str, int]:
    """The transfer syntax of the one file that a peer has got, and its MB; the file is removed."""
    (file,) = peer.files()
    syntax, size = read_file_meta_info(file).TransferSyntaxUID, file.stat().st_size >> 20
    file.unlink()
    return syntax.name, size


def _beside_bar(peak: int) -> str:
    return f"the node had {peak} MB at the most{'' if peak <= _BAR else f', MORE THAN {_BAR}'}"


def _peak_of(*arguments: str) -> int:
    """Run a command of Fullfield's; the most memory that it had resident."""
    peak = 0
    command = [sys.executable, "-m", "dicom_node", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # Not from getrusage, whose peak of a child begins with its parent's.
            peak = max(peak, peak_memory(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise RuntimeError(f"fullfield {arguments[0]} ended with code {process.returncode}.")
    return peak


if __name__ == "__main__":
    main()
