"""What the HTTP door tells of requests, and the metrics that it shows."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from server.errors import Code
from server.metrics.access import Access
from server.metrics.web import WebMeasures, WebMeter
from tests.server.doors.http.door import Door
from tests.server.metrics.scrape import now, samples, some_metrics

TOKEN = "a-token-of-operators"


class MeasuredDoor(Door):
    """A door with metrics."""

    def __init__(self, token: str = "") -> None:
        self.metrics = some_metrics()
        measures = WebMeasures(WebMeter(self.metrics), self.metrics, Access(SecretStr(token)))
        super().__init__(measures=measures)

    def counted(self, route: str, status: int, method: str = "GET") -> float:
        """How many such requests there were."""
        return now(self.metrics).get(
            f'atelier_http_requests_total{{method="{method}",route="{route}",status="{status}"}}', 0
        )


async def test_requests_are_counted_by_route_whatever_becomes_of_them() -> None:
    """Found, not found, refused at the doorstep; ids and paths that strangers make up are no labels."""
    door = MeasuredDoor()
    job = await door.house.job()
    assert (await door.ask("GET", f"/v1/jobs/{job.id}")).status == 200
    assert (await door.ask("GET", "/v1/jobs/nobody-s")).status == 404
    assert (await door.ask("GET", "/SECRET/path")).status == 404
    assert (await door.ask("GET", f"/v1/jobs/{job.id}", token="")).status == 401
    assert door.counted("/v1/jobs/{job_id}", 200) == 1
    assert door.counted("/v1/jobs/{job_id}", 404) == 1
    assert door.counted("/v1/jobs/{job_id}", 401) == 1
    assert door.counted("none", 404) == 1
    found = now(door.metrics)
    assert found["atelier_http_requests_under_way"] == 0
    assert found['atelier_http_request_seconds_count{method="GET",route="/v1/jobs/{job_id}"}'] == 3
    assert not [name for name in found if "SECRET" in name or job.id in name]


async def test_a_stream_lasts_as_long_as_it_is_heard() -> None:
    """It is under way until its job has ended."""
    door = MeasuredDoor()
    job = await door.house.job()
    stream = await door.open("GET", f"/v1/jobs/{job.id}/events")
    await stream.started.wait()
    assert now(door.metrics)["atelier_http_requests_under_way"] == 1
    await door.house.pass_time(4)
    door.house.lifecycle.cancel(job.id)
    await stream.answer()
    found = now(door.metrics)
    assert found["atelier_http_requests_under_way"] == 0
    assert found['atelier_http_request_seconds_sum{method="GET",route="/v1/jobs/{job_id}/events"}'] == 4


async def test_the_metrics_are_shown_by_their_own_rule() -> None:
    """A token of users is none of operators'."""
    door = MeasuredDoor(TOKEN)
    assert (await door.ask("GET", "/metrics")).status == 401
    answer = await door.ask("GET", "/metrics", token=TOKEN)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "atelier_http_requests_under_way" in samples(answer.body.decode())


@pytest.mark.parametrize(
    ("client", "host", "status"),
    [("127.0.0.1", "localhost:8001", 200), ("127.0.0.1", "paint.test", 403), ("192.0.2.1", "localhost:8001", 403)],
)
async def test_without_a_token_of_operators_they_are_this_machine_s_own(client: str, host: str, status: int) -> None:
    """Called by a name of this machine."""
    answer = await MeasuredDoor().ask("GET", "/metrics", headers={"host": host}, client=client)
    assert answer.status == status


async def test_they_are_not_in_the_documentation() -> None:
    """They are for operators."""
    assert "/metrics" not in MeasuredDoor().app.openapi()["paths"]


async def test_refusals_are_counted_by_their_code() -> None:
    """Statuses alone do not tell a bad field from a job that is not there; each code is told from the start, with 0."""
    door = MeasuredDoor()
    name = "atelier_http_refusals_total"
    found = now(door.metrics)
    assert {code for code in Code if code is not Code.OK} == {
        Code[key.partition('"')[2].partition('"')[0]] for key in found if key.startswith(name)
    }
    assert not any(value for key, value in found.items() if key.startswith(name))
    await door.ask("POST", "/v1/jobs", {"prompt": "a star", "width": 1})  # our own refusal
    await door.ask("POST", "/v1/jobs", {"prompt": 5})  # the framework's, of a field
    await door.ask("GET", "/v1/jobs/nobody-s")
    await door.ask("GET", "/nothing")  # the framework's, of a path
    await door.ask("GET", "/v1/jobs", token="another")
    await door.ask("GET", "/v1/jobs", headers={"host": "a:b:c]"})  # at the doorstep
    await door.ask("POST", "/v1/images/generations", {"prompt": "a star", "size": "1x1"})  # in a dialect's own form
    await door.ask("GET", "/v1/jobs")
    counted = {
        key.partition('"')[2].partition('"')[0]: value for key, value in now(door.metrics).items() if name in key
    }
    assert {code: value for code, value in counted.items() if value} == {
        "INVALID_PARAMETER": 3,
        "JOB_NOT_FOUND": 1,
        "UNKNOWN_MESSAGE": 1,
        "UNAUTHENTICATED": 1,
        "MALFORMED_MESSAGE": 1,
    }
