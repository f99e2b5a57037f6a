"""Stored pictures, health, and what every answer has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.doors.http.parts import HttpLimits
from server.doors.http.pictures import part_of
from server.replies import ModelState
from tests.server.doors.http.door import Door
from tests.server.fakes import settle


async def painted(door: Door) -> str:
    """A job whose picture is stored under an address at the door."""
    job_id = await door.job(width=256, height=256)
    door.house.painter.paint(job_id)
    await settle()
    return f"/pictures/{job_id}/0.png"


async def test_a_picture_is_told_whole_and_in_pieces() -> None:
    """To whoever has its address, with its hash as ETag; at most a piece is read at a time."""
    door = Door()
    path = await painted(door)
    answer = await door.ask("GET", path, token="")
    (stored,) = door.house.artifacts.stored.values()
    assert (answer.status, answer.body) == (200, stored)
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert max(size for _, _, size in door.house.artifacts.reads) <= door.parts.limits.chunk_bytes
    known = await door.ask("GET", path, headers={"if-none-match": f'W/{answer.headers["etag"]}, "x"'})
    assert (known.status, known.body) == (304, b"")
    head = await door.ask("HEAD", path)
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(stored)), b"")


async def test_a_part_of_a_picture_can_be_asked_for() -> None:
    """206 with which part it is; 416 beyond its end; everything where If-Range names another."""
    door = Door()
    path = await painted(door)
    (stored,) = door.house.artifacts.stored.values()
    part = await door.ask("GET", path, headers={"range": "bytes=1-3"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, stored[1:4], f"bytes 1-3/{len(stored)}")
    beyond = await door.ask("GET", path, headers={"range": f"bytes={len(stored)}-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(stored)}")
    other = await door.ask("GET", path, headers={"range": "bytes=1-3", "if-range": '"another"'})
    assert (other.status, other.body) == (200, stored)


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", (0, 10)), ("bytes=2-4", (2, 5)), ("bytes=2-99", (2, 10)), ("bytes=-3", (7, 10)), ("bytes=-99", (0, 10)),
        ("bytes=-0", None), ("bytes=10-", None), ("bytes=4-2", (0, 10)), ("bytes=-", (0, 10)), ("bytes=1-2,4-5", (0, 10)),
        ("pages=1-2", (0, 10)), ("bytes=²-", (0, 10)), ("", (0, 10)),
    ],
)  # fmt: skip
def test_ranges_are_read_as_rfc_9110_says(asked: str, part: tuple[int, int] | None) -> None:
    """What is not understood is left out of account."""
    assert part_of(asked, 10) == part


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pictures/job-1/1.png", 404),
        ("/pictures/nobody/0.png", 404),
        ("/pictures/job-1/-1.png", 422),
        ("/pictures/job-1/x.png", 422),
        ("/pictures/job-1/99999999999999999999.png", 422),
        ("/pictures/../../etc/passwd", 404),
        ("/pictures/..%2f..%2fetc/0.png", 404),
        ("/pictures/job-1/0.png/../../../x", 404),
        ("/pictures/" + "a" * 100 + "/0.png", 422),
    ],
)
async def test_nothing_else_is_told(path: str, status: int) -> None:
    """An address is an id and a number; keys and paths lead nowhere."""
    door = Door()
    await painted(door)
    door.house.artifacts.reads.clear()
    assert (await door.ask("GET", path)).status == status
    assert door.house.artifacts.reads == []


async def test_a_picture_that_cannot_be_read_is_refused() -> None:
    """503 before anything was said; after that, the connection's end."""
    door = Door()
    path = await painted(door)
    door.house.artifacts.read_error = OSError("the disk is gone")
    answer = await door.ask("GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (503, "STORAGE_FAILED")
    assert "retry-after" in answer.headers


async def test_a_picture_without_an_address_has_one_at_the_door() -> None:
    """As the request calls the door, unless a setting does; a Host that is none is not repeated."""
    for own, host, base in (
        ("", "paint.test:81", "http://paint.test:81"),
        ("", "<script>", "http://127.0.0.1:8001"),
        ("https://paint.example/x", "paint.test", "https://paint.example/x"),
    ):
        door = Door(base_url=own)
        path = await painted(door)
        job = await door.house.kept("job-1")
        artifacts = tuple(replace(artifact, url="") for artifact in job.artifacts)
        door.house.store._jobs["job-1"] = replace(job, artifacts=artifacts)  # type: ignore[attr-defined]
        answer = await door.ask("GET", "/v1/jobs/job-1", headers={"host": host})
        assert answer.json()["artifacts"][0]["url"] == f"{base}{path}"


async def test_it_is_alive_and_says_when_it_is_ready() -> None:
    """Without a token: probes have none."""
    door = Door()
    assert (await door.ask("GET", "/livez", token="")).json() == {"status": "ok"}
    assert (await door.ask("GET", "/readyz", token="")).status == 503
    door.house.health._set("demo", ModelState.READY)
    ready = await door.ask("GET", "/readyz", token="")
    assert (ready.status, ready.json()["status"]) == (200, "ready")
    door.house.health.drain()
    stopping = await door.ask("GET", "/readyz", token="")
    assert (stopping.status, stopping.json()["status"]) == (503, "draining")


@pytest.mark.parametrize(("sent", "kept"), [("mine-7", True), ("a" * 65, False), ("<b>", False), ("", False)])
async def test_every_answer_has_an_id_and_is_safe(sent: str, kept: bool) -> None:
    """The request's own id where that is harmless."""
    answer = await Door().ask("GET", "/livez", headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept
    assert answer.headers["x-request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_body_beyond_the_cap_is_refused_however_it_comes() -> None:
    """At once where it says its size, else when too much has come; a lie about it changes nothing."""
    door = Door()
    big = b"x" * (door.parts.limits.max_body_bytes + 1)
    json_type = {"content-type": "application/json"}
    said = await door.ask("POST", "/v1/jobs", body=b"x", headers={**json_type, "content-length": str(len(big))})
    assert (said.status, said.json()["error"]["code"]) == (413, "FRAME_TOO_LARGE")
    unsaid = await door.ask("POST", "/v1/jobs", body=big, headers={**json_type, "content-length": "5"})
    assert unsaid.status == 413
    assert unsaid.json()["error"]["details"]["limit"] == "20000 bytes"


async def test_all_bodies_together_have_a_budget() -> None:
    """Beyond it a request is refused for now; what the others held is free when they have ended, however they do."""
    door = Door(limits=HttpLimits(max_body_bytes=20_000, max_bodies_bytes=30_000, chunk_bytes=1024))
    json_type = {"content-type": "application/json"}
    first = await door.open("POST", "/v1/jobs", headers=json_type, withheld=True)
    gone = await door.open("POST", "/v1/jobs", headers=json_type, withheld=True)
    first.send(b" " * 15_000)
    gone.send(b" " * 15_000)
    await settle()
    refused = await door.ask("POST", "/v1/jobs", {"prompt": "a star"})
    assert (refused.status, refused.json()["error"]["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert int(refused.headers["retry-after"]) >= 1
    assert not door.house.painter.known
    gone.hang_up()
    await gone.task
    assert await door.job()
    first.send(b'{"prompt": "a star"}', more=False)
    assert (await first.answer()).status == 202
    for _ in range(3):
        assert (await door.ask("POST", "/v1/jobs", body=b" " * 19_000)).status == 422
