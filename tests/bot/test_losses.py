"""A server that loses, doubles or mixes up anything makes the run end with status 1, and the ids are listed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bot.profile import parse_profile
from proto import atelier_pb2 as pb
from tests.bot.asked import finding, options, run
from tests.bot.lying_server import Liar, Lie, LyingServer

ORDER = '[arrivals]\nprocess = "closed"\nusers = 1\nthink_seconds = [0.0, 0.0]\n[[orders]]\nprompts = ["a red star"]\n'


def _no_end(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)


def _no_answer(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    """Say nothing at all."""


def _two_ends(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)
    liar.succeeds(request_id, job_id, submit)
    liar.says(request_id, failed=pb.Failed(job_id=job_id, event_number=10, error=pb.Error(code=pb.GENERATION_FAILED)))


def _disorder(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)
    for number in (3, 2):
        liar.says(request_id, progress=pb.Progress(job_id=job_id, event_number=number))
    liar.succeeds(request_id, job_id, submit)


def _another_s_picture(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)
    liar.succeeds(request_id, job_id, submit, prompt="what somebody else asked for")


def _no_signature(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed + 1)
    liar.succeeds(request_id, job_id, submit)


def _canceled(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)
    liar.says(request_id, canceled=pb.Canceled(job_id=job_id, event_number=3))


def _failed(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.accepts(request_id, job_id, submit.seed)
    error = pb.Error(code=pb.GPU_OUT_OF_MEMORY, message="it does not fit")
    liar.says(request_id, failed=pb.Failed(job_id=job_id, event_number=3, error=error))


def _refused(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
    liar.says(request_id, error=pb.Error(code=pb.RESOURCE_EXHAUSTED, message="full"))


@pytest.mark.parametrize(
    ("lie", "name", "said"),
    [
        (_no_end, "nothing lost", "no end within 0.5 s of drain; the server says: unknown"),
        (_no_answer, "nothing lost", "it was never answered"),
        (_two_ends, "one end each, events in order", "a second end: failed after succeeded"),
        (_disorder, "one end each, events in order", "event 2 came after event 3"),
        (_no_signature, "one end each, events in order", "was accepted"),
        (_canceled, "one end each, events in order", "it was cancelled, and nobody here asked for that"),
        (_another_s_picture, "pictures as asked for", "its prompt is 'what somebody else asked for'"),
        (_failed, "jobs failed", "GPU_OUT_OF_MEMORY: it does not fit"),
        (_refused, "refused only for want of room", "RESOURCE_EXHAUSTED without retry_after_seconds"),
    ],
)
async def test_a_lie_is_found(
    reactor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], lie: Lie, name: str, said: str
) -> None:
    """The verdict names it, and the job's id, or the key where there was no job."""
    async with LyingServer(reactor, lie) as server:
        asked = options(
            "load", server.address, tmp_path, parse_profile(ORDER, "x"), count=1, drain=0.5, again=False, seconds=1.0
        )
        status, record = await run(reactor, asked)
    assert status == 1
    found = finding(record, name)
    assert not found["passed"]
    assert said in found["text"]
    (lost,) = found["ids"]
    assert lost == "job-1" or lost.startswith("bot-")
    assert lost in capsys.readouterr().err
    assert name in record["verdict"]["text"]


async def test_a_picture_that_differs_alone_is_found(reactor: Any, tmp_path: Path) -> None:
    """The sample's pictures are asked for again, and have to be the same."""
    turns = iter(range(10))

    def never_twice_the_same(liar: Liar, request_id: int, job_id: str, submit: Any) -> None:
        liar.accepts(request_id, job_id, submit.seed)
        if next(turns):
            _failed(liar, request_id, job_id, submit)
        else:
            liar.succeeds(request_id, job_id, submit)

    async with LyingServer(reactor, never_twice_the_same) as server:
        asked = options("load", server.address, tmp_path, parse_profile(ORDER, "x"), count=1)
        status, record = await run(reactor, asked)
    assert status == 1
    assert finding(record, "the same picture as alone")["text"] == "the same request did not succeed when it was alone"


async def test_a_server_that_dies_for_good_ends_the_run(reactor: Any, tmp_path: Path) -> None:
    """Not for ever waited for; the verdict begins with it, and lists what it took along."""
    async with LyingServer(reactor, _no_end) as server:
        asked = options(
            "load", server.address, tmp_path, parse_profile(ORDER, "x"), seconds=600.0, reconnect_for=0.5, again=False
        )
        reactor.callLater(0.5, lambda: asyncio.ensure_future(server.die()))
        status, record = await run(reactor, asked)
    assert status == 1
    first = record["verdict"]["findings"][0]
    assert first["name"] == "the server is there"
    assert "gave up on" in first["text"]
    assert finding(record, "nothing lost")["ids"] == ["job-1"]
    assert record["seconds"] < 60
