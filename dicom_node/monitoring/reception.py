"""Whether senders are faster than the disk: what is under reception, and how long whole objects wait for an answer."""

from collections.abc import Callable, Iterable
from itertools import chain

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Reception(Collector):
    """What this process receives; under_way: gives how many objects it is at."""

    def __init__(self, under_way: Callable[[], int]) -> None:
        self._under_way = under_way
        self._answers = Histogram(
            "fullfield_answer_seconds",
            "From the last byte of a received object to its answer: its turn, the disk and the database.",
            buckets=_SECONDS,
            registry=None,
        )

    def answered(self, seconds: float) -> None:
        """An object was kept or refused so many seconds after its last byte came."""
        self._answers.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """How many there are now, and the answers since the process began."""
        says = "Objects under reception, from their first byte to their answer."
        gauge = GaugeMetricFamily("fullfield_objects_under_reception", says, value=self._under_way())
        return chain([gauge], self._answers.collect())
