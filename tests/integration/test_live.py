"""Live sessions in the whole server: the real stream process, the embedded model, TCP."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from ai.live.manifests import read_manifest
from ai.live.program import load_program
from config import load_settings
from config.settings import DEMO_MODEL
from factory.service import AtelierService, make_service
from proto import atelier_pb2 as pb
from tests.integration.cores import Waits, stream_processes, worst
from tests.integration.eventually import until
from tests.integration.raw_client import RawClient
from tests.integration.served import ROOT, serving

DOC = (ROOT / "docs" / "realtime.md").read_text(encoding="utf-8")
CLIENT, EXPORT = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
FACE = [0.0] * 8 + [1.0] + [0.0] * 11


@asynccontextmanager
async def house(reactor: Any, folder: Path, **settings: Any) -> AsyncIterator[tuple[AtelierService, RawClient]]:
    """A server, and a connection to it. At its end no process is left."""
    given = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1", http_listen="off", data_dir=folder / "data", **settings
    )
    service = make_service(given, reactor)
    await service.start()
    try:
        _, host, port = service.addresses[0].split(":")
        yield service, await RawClient.connect((host, int(port)))
    finally:
        await service.stop()
    assert not service.threads_left
    assert stream_processes(os.getpid()) == []


async def opened(client: RawClient, model: str = "stream-demo") -> Any:
    """A session's LiveOpened."""
    answer: Any = await asyncio.wait_for(client.ask(open_live=pb.OpenLive(model=model)), 60)
    assert answer.kind == "live_opened", answer.message
    return answer.message


async def test_the_embedded_model_answers_as_it_does_alone(reactor: Any, tmp_path: Path) -> None:
    """Frame for frame, of several sessions at once."""
    program, _ = load_program(read_manifest(DEMO_MODEL.with_name("stream-demo")))
    async with house(reactor, tmp_path, stream_spare=False) as (_, client):
        sessions = [await opened(client) for _ in range(3)]
        states = {live.live_id: torch.zeros(1, program.manifest.state) for live in sessions}
        captured = int(time.time() * 1e6)
        for number in range(4):
            for at, live in enumerate(sessions):
                values = [value * (at + 1) / 3 for value in FACE]
                client.say(
                    live_frame=pb.LiveFrame(
                        live_id=live.live_id, number=number, captured_us=captured + number * 33_000, values=values
                    )
                )
            for _ in sessions:
                result: Any = (await asyncio.wait_for(client.hear(), 20)).message
                at = next(at for at, live in enumerate(sessions) if live.live_id == result.live_id)
                dt = torch.tensor([0.033 if number else 0.0])
                inputs = torch.tensor([FACE]) * (at + 1) / 3
                with torch.no_grad():
                    expected, states[result.live_id] = program(inputs, states[result.live_id], dt)
                assert result.number == number
                assert [one.value for one in result.elements] == pytest.approx(expected[0].tolist(), abs=1e-5)
        await client.close()


async def test_a_killed_stream_process_costs_its_sessions_less_than_a_second(
    reactor: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 of the one that works: the other goes on, and a third is begun to stand by."""
    async with house(reactor, tmp_path) as (service, client):
        live = await opened(client)
        numbers = service._live.numbers
        await asyncio.wait_for(until(lambda: numbers()[0].ready == 2), 60)
        killed, other = stream_processes(os.getpid())
        waits = Waits([os.getpid(), other.pid])
        heard: list[
            tuple[float, float, int]
        ] = []  # when, how long somebody at work had waited for a core by then, which frame

        async def send() -> None:
            for number in range(75):
                client.say(live_frame=pb.LiveFrame(live_id=live.live_id, number=number, values=FACE))
                if number == 15:
                    killed.send_signal(signal.SIGKILL)
                await asyncio.sleep(1 / 30)

        async def hear() -> None:
            while not heard or heard[-1][2] < 74:
                event: Any = await client.hear()
                assert event.kind == "live_result", event.message
                heard.append((time.monotonic(), waits.longest, event.message.number))

        await asyncio.wait_for(asyncio.gather(send(), hear()), 30)
        gaps = [(then - when, more - waited) for (when, waited, _), (then, more, _) in itertools.pairwise(heard)]
        gap, waited = worst(gaps)
        told = f"{gap:.3f} s without a result, while one of those at work waited {waited:.3f} s for a core"
        with capsys.disabled():
            print(f"\nstream process: {told}")  # noqa: T201
        assert gap - waited < 1.0, told
        assert numbers()[0].died == 1
        await asyncio.wait_for(until(lambda: numbers()[0].ready == 2), 60)
        await client.close()
        await asyncio.wait_for(until(lambda: numbers()[0].sessions == 0), 10)


async def test_a_model_that_lies_is_refused_with_what_was_found(reactor: Any, tmp_path: Path) -> None:
    """The server goes on, and so do sessions of other models."""
    done = await _python(tmp_path, EXPORT, str(tmp_path / "models"))
    assert done == (0, "")
    manifest = tmp_path / "models" / "smooth" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('outputs = ["x", "y"]', 'outputs = ["x"]'))
    async with house(reactor, tmp_path, stream_models_dir=tmp_path / "models", stream_spare=False) as (_, client):
        refused: Any = await asyncio.wait_for(client.ask(open_live=pb.OpenLive(model="smooth")), 60)
        assert (refused.kind, refused.message.code) == ("error", pb.MODEL_LOAD_FAILED)
        assert "it gives values of [5, 2], and must give [5, 1]" in refused.message.message
        manifest.write_text(manifest.read_text().replace('outputs = ["x"]', 'outputs = ["x", "y"]'))
        assert (await opened(client)).model == "stream-demo"
        await client.close()


async def test_the_page_s_client_and_model_run_as_they_stand(tmp_path: Path) -> None:
    """Against `atelier serve`, the operator's own model beside the embedded one."""
    assert await _python(tmp_path, EXPORT, str(tmp_path / "models")) == (0, "")
    async with serving(tmp_path, ATELIER_STREAM_MODELS_DIR=str(tmp_path / "models")) as served:
        host, port = served.address
        status, said = await _python(tmp_path, CLIENT, host, str(port))
        lines = said.splitlines()
        assert (status, len(lines)) == (0, 60)
        joys = [float(line.split("joy ")[1].split(",")[0]) for line in lines]
        assert max(joys) > 0.5 > 0.2 > joys[0]
        client = await RawClient.connect(served.address)
        live = await opened(client, "smooth")
        client.say(live_frame=pb.LiveFrame(live_id=live.live_id, number=1, values=[0.25, 4.0]))
        result: Any = (await asyncio.wait_for(client.hear(), 20)).message
        assert [(one.name, one.value) for one in result.elements] == [("x", 0.25), ("y", 4.0)]
        served.signal(signal.SIGTERM)
        assert [event.kind for event in await client.rest()] == ["live_closed", "goodbye"]
        await client.close()
        assert (await served.ended())[0] == 0


async def _python(folder: Path, source: str, *arguments: str) -> tuple[int, str]:
    """The exit status of a script, and all that it said."""
    script = folder / "script.py"
    script.write_text(source, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), *arguments, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, said.decode()
