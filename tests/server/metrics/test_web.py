"""HTTP requests as they are counted."""

from __future__ import annotations

from server.metrics.web import WebMeter
from tests.server.metrics.scrape import now, some_metrics


def test_requests_are_counted_by_their_route_and_not_by_their_path() -> None:
    """What has no route, and methods that nobody knows, are one label each."""
    metrics = some_metrics()
    meter = WebMeter(metrics)
    for _ in range(4):
        meter.began()
    meter.ended("/v1/jobs/{job_id}", "GET", 200, 0.25)
    meter.ended("", "GET", 404, 0.5)
    meter.ended("", "SECRET", 405, 0.5)
    found = now(metrics)
    assert found["atelier_http_requests_under_way"] == 1
    assert found['atelier_http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="200"}'] == 1
    assert found['atelier_http_requests_total{method="GET",route="none",status="404"}'] == 1
    assert found['atelier_http_requests_total{method="other",route="none",status="405"}'] == 1
    assert found['atelier_http_request_seconds_sum{method="GET",route="/v1/jobs/{job_id}"}'] == 0.25
