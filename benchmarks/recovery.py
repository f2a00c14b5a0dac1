"""How long a node with 100,000 objects takes to be ready again after SIGKILL, on SQLite and on PostgreSQL.

It is killed while eight senders push objects at it. From the start of the process to the line that says it is ready:
the interpreter, the checks of database and store, what the dead one left, and the listener. `python -m
benchmarks.recovery 20000` takes fewer objects.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks._objects import fill
from benchmarks._place import folder_on_disk
from config.settings import load_settings
from storage.files import ObjectStore
from tests.factory import write, xa
from tests.nodes import NodeProcess
from tests.peers import postgresql

_OBJECTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
_BYTES, _SENDERS, _EACH, _ROUNDS = 10_000, 8, 40, 5


def main() -> None:
    """Print the times on each database, and beside them those of a node with nothing in it."""
    with folder_on_disk() as folder, postgresql(folder / "postgresql") as server:
        objects = [write(xa(frames=1), folder / f"{number}.dcm") for number in range(_EACH)]
        for name, url in (("SQLite", None), ("PostgreSQL", server)):
            node = NodeProcess(folder / name, {}, database=url, worker={"processes": 0})
            node.routes.write_text("")
            with node.running():
                empty = [_recover(node, objects) for _ in range(_ROUNDS)]
                node.stop()
                database = node.database()
                fill(database, ObjectStore(load_settings(node.settings).storage.root), _OBJECTS, _BYTES)
                database.close()
                node.start()
                full = [_recover(node, objects) for _ in range(_ROUNDS)]
            print(f"{name}: ready again in {_in_words(full)} with {_OBJECTS} objects, {_in_words(empty)} without")


def _recover(node: NodeProcess, objects: list[Path]) -> float:
    """Kill the node under its senders, and start it; the seconds until it is ready."""
    command = ["storescu", "+II", "-aec", "FULLFIELD", "127.0.0.1", str(node.port), *map(str, objects)]
    senders = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(_SENDERS)]
    time.sleep(1)
    node.kill()
    for sender in senders:
        sender.wait()
    began = time.perf_counter()
    node.start()
    return time.perf_counter() - began


def _in_words(seconds: list[float]) -> str:
    return f"median {median(seconds):.1f} s, worst {max(seconds):.1f} s"


if __name__ == "__main__":
    main()
