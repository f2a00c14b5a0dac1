"""The page of metrics, from the collectors themselves on a database where nothing has happened."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics_core import Metric

from dicom_node.monitoring.reception import Reception
from dicom_node.monitoring.state import State
from dicom_node.monitoring.steps import Steps
from storage.database import Database
from storage.files import ObjectStore

_METRICS = """
What `/metrics` on the port of `[web]` tells, in Prometheus' text format; [how to monitor](../how-to/monitor.md) says
what to do with it. A counter has `_total` behind its name, a histogram `_bucket`, `_sum` and `_count`. The process
itself is told of by Prometheus' own `process_*`.

Counters and histograms are read from the audit trail, from the start of the node on, whoever took the step: workers and
further nodes need not be asked. So every node on one database tells the same; take one by `max`, add none up.
`fullfield_answer_seconds` is the exception: each node tells of its own.
"""


def metrics_page(made: str) -> str:
    """Every metric; made: the line that says that the page is made from the code."""
    rows = [f"| `{metric.name}` | {metric.type} | {metric.documentation} |" for metric in metrics()]
    table = "\n".join(["| metric | kind | meaning |", "| --- | --- | --- |", *rows])
    return "\n\n".join(["# Metrics", made, _METRICS.strip(), table]) + "\n"


def metrics() -> Iterator[Metric]:
    """The metrics of a node where nothing has happened."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/empty.db")
        database.migrate()
        store = ObjectStore(Path(folder))
        none = {"associations": lambda: 0, "workers": lambda: 0, "orphans": lambda: 0}
        state = State(database, store, full_below_bytes=0, low_below_bytes=0, **none)
        for collector in (state, Reception(lambda: 0), Steps(database)):
            yield from collector.collect()
        database.close()
