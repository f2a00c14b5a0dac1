"""Metrics as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

#: By name, and the values of the labels in the order of their names.
Samples = dict[str, dict[tuple[str, ...], float]]


def metrics_in(text: str) -> Samples:
    """What an answer tells."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found
