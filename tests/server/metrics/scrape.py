"""Reading metrics as a program does that scrapes them."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics.registry import Metrics
from server.pools import InlinePool


def some_metrics() -> Metrics:
    """A registry whose text is written at once."""
    return Metrics(InlinePool())


def text_of(metrics: Metrics) -> str:
    """The page, after everything was looked up once more."""
    for readings in metrics._readings:
        readings.look()
    return generate_latest(metrics.registry).decode()


def samples(text: str) -> dict[str, float]:
    """Each series of a page, as it stands there, labels in the order of their names: name{label="value"} → its number."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def now(metrics: Metrics) -> dict[str, float]:
    """Each series at this moment."""
    return samples(text_of(metrics))
