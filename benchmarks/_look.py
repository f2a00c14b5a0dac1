"""Looks at a node on its way: what its process holds, and what its /metrics tell of what waits."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks._place import memory_now
from tests.metrics import Samples, metrics_in

_Seen = TypeVar("_Seen")

_PAUSE = 0.5


@dataclass(frozen=True)
class Look:
    """At the node's process."""

    memory_mb: int
    threads: int
    descriptors: int

    @classmethod
    def at(cls, pid: int) -> "Look":
        """As it is now."""
        threads, descriptors = (len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("task", "fd"))
        return cls(memory_now(pid, "VmRSS"), threads, descriptors)

    def __str__(self) -> str:
        return f"{self.memory_mb} MB, {self.threads} threads, {self.descriptors} descriptors"


@dataclass(frozen=True)
class Waiting:
    """What /metrics tell of what is not done, and the memory of the node meanwhile."""

    receptions: int
    jobs: int
    deliveries: int
    memory_mb: int

    @classmethod
    def at(cls, web: int, pid: int) -> "Waiting":
        """As it is now; web: the port of /metrics."""
        samples = metrics_at(web)
        names = ("fullfield_objects_under_reception", "fullfield_jobs", "fullfield_deliveries")
        receptions, jobs, deliveries = (int(sum(samples.get(name, {}).values())) for name in names)
        return cls(receptions, jobs, deliveries, memory_now(pid, "VmRSS"))


def metrics_at(web: int) -> Samples:
    """What a node tells on this port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics") as answer:
        return metrics_in(answer.read().decode())


def answers_in_words(samples: Samples) -> str:
    """How long objects waited from their last byte to their answer, by the histogram's bounds."""
    count, total = (samples[f"fullfield_answer_seconds_{name}"][()] for name in ("count", "sum"))
    within = sorted((float(bound), seen) for (bound,), seen in samples["fullfield_answer_seconds_bucket"].items())
    most, all_ = (next(bound for bound, seen in within if seen >= share * count) for share in (0.95, 1))
    return f"{total / count:.2f} s on the average, 95 % within {most:g} s, all within {all_:g} s"


@contextmanager
def watched(look: Callable[[], _Seen]) -> Iterator[list[_Seen]]:
    """What is seen twice a second until the end."""
    seen = [look()]
    watching = True

    def watch() -> None:
        while watching:
            time.sleep(_PAUSE)
            seen.append(look())

    with ThreadPoolExecutor(1) as other:
        watcher = other.submit(watch)
        try:
            yield seen
        finally:
            watching = False
            watcher.result()
