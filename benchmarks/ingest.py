"""How fast objects go in and out, beside the programs that hospitals know, in one run on one disk.

In: dcmtk's storescu sends cines of 15 MB and objects of 260 kB, from one sender and from eight at once, to the node, to
dcmtk's storescp and to Orthanc in turns. The node syncs file, folders and database before it answers; storescp syncs
nothing. Its rate is to be at least storescp's, and three times Orthanc's on small objects. `promise` is what the disk
allows whoever keeps promise 1: the same bytes put into an object store and a row committed, without network or DICOM.
Out: the node's sender and storescu send the same objects to one storescp; ours is to have 0.8 of storescu's rate.

Printed are medians of five rounds, after one that warms up.
"""

import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from uuid import uuid4

import numpy as np
from pydicom.uid import generate_uid

from benchmarks._cine import write_cine
from benchmarks._place import folder_on_disk
from dicom_node.network.sender import Address, send
from storage.files import ObjectStore
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import Peer, orthanc, storescp

_ROUNDS = 5
#: Objects of a round, which the senders share.
_CINES, _SMALL = 8, 160
_SENDERS = (1, 8)

#: A sender of all these objects, which comes back when all are acknowledged.
Way = Callable[[Sequence[Path]], None]


def main() -> None:
    """Print a line for each kind of object and number of senders."""
    # Else each of dcmtk's and so of Orthanc's answers waits 40 ms for TCP, and hides what the disk takes.
    os.environ["TCP_NODELAY"] = "1"
    with folder_on_disk() as folder, ExitStack() as stack:
        kinds = {
            "15 MB": [write_cine(folder / f"cine-{n}.dcm", frames=30, side=512) for n in range(_CINES)],
            "260 kB": [_small(folder, n) for n in range(_SMALL)],
        }
        # The tests' nodes look for results ten times a second.
        node = NodeProcess(folder / "node", {"pacs": 1}, worker={"processes": 0}, delivery={"poll_seconds": 0.5})
        node.routes.write_text("")
        stack.enter_context(node.running())
        scp = stack.enter_context(storescp(folder / "storescp", "--fork"))
        archive = stack.enter_context(orthanc(folder / "orthanc", DicomThreadsCount=8))
        peers = {"node": ("FULLFIELD", node.port), "storescp": _of(scp), "Orthanc": _of(archive)}
        _measure_in(kinds, peers, folder / "promise")
        _measure_out(kinds, scp)


def _measure_in(kinds: dict[str, list[Path]], peers: dict[str, tuple[str, int]], promise: Path) -> None:
    for kind, paths in kinds.items():
        for senders in _SENDERS:
            ways = {name: _storescu(*peer, senders) for name, peer in peers.items()}
            rates = _rates(paths, ways | {"promise": _promise(promise, senders)})
            ratios = ", ".join(f"{rates['node'] / rates[name]:.2f} times {name}'s" for name in rates if name != "node")
            print(f"in, {kind}, {senders} at once: {_in_words(rates)}; the node's is {ratios}")


def _measure_out(kinds: dict[str, list[Path]], scp: Peer) -> None:
    destination = Address(scp.ae_title, scp.host, scp.port)

    def ours(paths: Sequence[Path]) -> None:
        if any(sent.status != 0 for sent in send(destination, "FULLFIELD", list(paths), 60)):
            raise RuntimeError("storescp did not acknowledge all that the node's sender sent.")

    for kind, paths in kinds.items():
        rates = _rates(paths, {"sender": ours, "storescu": _storescu(*_of(scp), 1)})
        ratio = rates["sender"] / rates["storescu"]
        print(f"out, {kind}: {_in_words(rates)}; the node's sender has {ratio:.2f} of storescu's rate")


def _rates(paths: Sequence[Path], ways: dict[str, Way]) -> dict[str, float]:
    """MB a second of each way, in turns."""
    megabytes = sum(path.stat().st_size for path in paths) / 1e6
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(_ROUNDS + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way(paths)
            if number:  # The first round warms up.
                taken[name].append(time.perf_counter() - begun)
    return {name: megabytes / median(seconds) for name, seconds in taken.items()}


def _storescu(ae_title: str, port: int, senders: int) -> Way:
    """Send by so many processes of storescu at once, each with its share, under new UIDs every time."""

    def run(paths: Sequence[Path]) -> None:
        shares = [paths[number::senders] for number in range(senders)]
        command = ["storescu", "+II", "-R", "-aec", ae_title, "127.0.0.1", str(port)]
        processes = [subprocess.Popen([*command, *map(str, share)]) for share in shares]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise RuntimeError(f"{ae_title} did not acknowledge all that storescu sent.")

    return run


def _promise(folder: Path, writers: int) -> Way:
    """Keep the bytes as promise 1 has it, by so many threads at once: file and folders synced, then a row committed."""
    store, turn = ObjectStore(folder), threading.Lock()
    rows = sqlite3.connect(folder / "rows.db", isolation_level=None, check_same_thread=False)
    rows.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE IF NOT EXISTS row (digest)")

    def keep(path: Path) -> None:
        file = store.write(path.read_bytes() + uuid4().bytes)
        with turn:
            rows.execute("INSERT INTO row VALUES (?)", (file.digest,))

    def run(paths: Sequence[Path]) -> None:
        with ThreadPoolExecutor(writers) as threads:
            list(threads.map(keep, paths))

    return run


def _of(peer: Peer) -> tuple[str, int]:
    return peer.ae_title, peer.port


def _small(folder: Path, number: int) -> Path:
    """A single frame of 512x512 pixels of one byte."""
    pixels = np.random.default_rng(number).integers(0, 256, (1, 512, 512), np.uint8)
    return write(xa(stored=pixels, bits_stored=8, series_instance_uid=generate_uid()), folder / f"{number}.dcm")


def _in_words(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate:.0f} MB/s" for name, rate in rates.items())


if __name__ == "__main__":
    main()
