"""Gauges of how it stands now: what waits in the database and for how long, the disk, associations, workers."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from config.errors import FullfieldError
from storage.database import Database, current_time
from storage.figures import (
    Waiting,
    least_recently_verified,
    owed_reports,
    sought_commitments,
    unfinished_jobs,
    waiting_deliveries,
)
from storage.files import ObjectStore


class State(Collector):
    """How it stands when somebody asks.

    full_below_bytes, low_below_bytes: free space below which nothing is received, and below which the node warns.
    associations, workers: give how many are open, and how many run.
    orphans: gives how many files no object has; None before they were looked for.
    """

    def __init__(
        self,
        database: Database,
        store: ObjectStore,
        *,
        full_below_bytes: int,
        low_below_bytes: int,
        associations: Callable[[], int],
        workers: Callable[[], int],
        orphans: Callable[[], int | None],
    ) -> None:
        self._database = database
        self._store = store
        self._full_below_bytes = full_below_bytes
        self._low_below_bytes = low_below_bytes
        self._associations = associations
        self._workers = workers
        self._orphans = orphans

    def collect(self) -> Iterable[Metric]:
        """Read it; of a disk or a database that is away no more than that it is."""
        yield _gauge("fullfield_associations", "Associations that peers have open.", self._associations())
        yield _gauge("fullfield_workers", "Workers that this node has started and that run.", self._workers())
        full = "Free space below which objects are refused as out of resources."
        yield _gauge("fullfield_disk_full_below_bytes", full, self._full_below_bytes)
        low = "Free space below which the node warns, and makes room where it may."
        yield _gauge("fullfield_disk_low_below_bytes", low, self._low_below_bytes)
        with suppress(FullfieldError):
            yield _gauge("fullfield_disk_free_bytes", "Free space of the object store.", self._store.free_bytes())
        if (orphans := self._orphans()) is not None:
            yield _gauge("fullfield_orphans", "Files that no object has, as the last daily look found them.", orphans)
        waiting: list[Metric] = []
        with suppress(FullfieldError):
            waiting = list(self._in_the_database())
        yield _gauge("fullfield_database_up", "1 while the database answers, else 0.", bool(waiting))
        yield from waiting

    def _in_the_database(self) -> Iterator[Metric]:
        with self._database.reading() as tx:
            now = current_time(tx)
            jobs, deliveries, sought = unfinished_jobs(tx), waiting_deliveries(tx), sought_commitments(tx)
            owed, verified = owed_reports(tx), least_recently_verified(tx)
        yield from _waiting("jobs", "Jobs that are not finished", ("route", "state"), jobs, now)
        yield from _waiting("deliveries", "Objects on their way", ("destination",), deliveries, now)
        sought_of = "Requests for storage commitment without an answer"
        yield from _waiting("commitments_sought", sought_of, ("destination",), sought, now)
        yield _gauge("fullfield_commitment_reports_owed", "Reports on storage commitment that peers wait for.", owed)
        age = "For how long some object has not been compared with its digest."
        yield _gauge("fullfield_scrub_age_seconds", age, max((now - (verified or now)).total_seconds(), 0.0))


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)


def _waiting(
    name: str, says: str, labels: tuple[str, ...], found: Iterable[Waiting], now: datetime
) -> Iterator[Metric]:
    by = f"by {' and '.join(labels)}"
    counts = GaugeMetricFamily(f"fullfield_{name}", f"{says}, {by}.", labels=labels)
    ages = GaugeMetricFamily(f"fullfield_{name}_oldest_seconds", f"{says}, age of the oldest, {by}.", labels=labels)
    for waiting in found:
        counts.add_metric(waiting.of, waiting.count)
        ages.add_metric(waiting.of, max((now - waiting.since).total_seconds(), 0.0))
    yield counts
    yield ages
