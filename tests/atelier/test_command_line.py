"""The command line as a person runs it: child processes, against a server that keeps the protocol."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from tests.atelier.command import ROOT, Command, run
from tests.bot.fake_server import FakeConnection, FakeServer

PICTURE = bytes(range(256)) * 20


async def _serve_picture(connection: FakeConnection, job_id: str) -> None:
    """One job, from Submit to Result."""
    asked = await connection.accepts(job_id)
    connection.progresses(asked.request_id, job_id, 1, step=10)
    connection.sends_picture(asked.request_id, job_id, PICTURE)
    connection.finishes(asked.request_id, job_id, 2, PICTURE)


async def test_help_is_light_and_the_reactor_asyncio() -> None:
    """--help loads neither torch nor Pillow; the asyncio reactor and OpenMP's policy are set before anything else."""
    script = """if True:
        import os, sys
        sys.argv = ["atelier", "--help"]
        from atelier.__main__ import main
        try:
            main()
        except SystemExit as end:
            assert not end.code
        from twisted.internet import reactor
        loaded = [name for name in ("torch", "PIL", "diffusers", "pydantic") if name in sys.modules]
        print(type(reactor).__name__, os.environ["OMP_WAIT_POLICY"], loaded)
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines()[-1] == "AsyncioSelectorReactor passive []"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["generate"], "PROMPT"),
        (["generate", "a star", "--size", "big"], "--size"),
        (["generate", "a star", "--count", "5"], "--count"),
        (["generate", "a star", "--adapter", "ink:nan"], "--adapter"),
        (["generate", "a star", "--sign", "no-such-file.png"], "--sign"),
        (["generate", "a star", "--init-image", "no-such-file.png"], "--init-image"),
        (["generate", "a star", "--opacity", "2"], "--opacity"),
        (["demo", "--count", "11"], "--count"),
        (["nonsense"], "nonsense"),
    ],
)
async def test_a_wrong_argument_is_named(arguments: list[str], option: str) -> None:
    """A usage error has status 2, names the option, and shows no traceback."""
    ended = await run(*arguments)
    assert ended.status == 2
    assert option in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["models"], ["generate", "a star"], ["watch", "job-1"], ["cancel", "job-1", "--server=blah"]],
)
async def test_a_server_out_of_reach_is_one_line(reactor: Any, arguments: list[str]) -> None:
    """Status 1, one clear line on stderr, nothing on stdout."""
    async with FakeServer(reactor) as server:
        await server.stop_listening()
        ended = await run(*arguments, ATELIER_SERVER=server.address)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("cannot connect to ")
    assert ended.err.count("\n") == 1


async def test_generate_writes_pictures_and_prints_their_paths(reactor: Any, tmp_path: Path) -> None:
    """Every prompt is submitted with the options, the pictures are written, stdout has their paths alone."""
    async with FakeServer(reactor) as server:
        options = ["--steps=20", "--guidance=3.5", "--seed=9", "--size=64x128", "--sign=Ada", "--adapter=ink:0.5"]
        (tmp_path / "first.png").write_bytes(PICTURE)
        options += ["--solver=euler_a", f"--init-image={tmp_path / 'first.png'}", "--strength=0.6"]
        command = await Command.start(
            *("generate", "a star", "a moon", f"--out={tmp_path}", *options),
            ATELIER_SERVER=server.address,
            ATELIER_TOKEN="a-token-of-tests",
        )
        connection = await server.greeted(token="a-token-of-tests")
        asked = [await connection.accepts(f"000{number}") for number in (1, 2)]
        for number, submit in enumerate(asked, start=1):
            connection.sends_picture(submit.request_id, f"000{number}", PICTURE)
            connection.finishes(submit.request_id, f"000{number}", 2, PICTURE)
        ended = await command.ended()
    assert ended.status == 0, ended.err
    expected = [tmp_path / "a-star-0001-0.png", tmp_path / "a-moon-0002-0.png"]
    assert ended.out.split() == [str(path) for path in expected]
    assert [path.read_bytes() for path in expected] == [PICTURE, PICTURE]
    first = asked[0].message
    assert isinstance(first, pb.Submit)
    assert (first.num_inference_steps, first.guidance_scale, first.seed) == (20, 3.5, 9)
    assert (first.width, first.height, first.signature.text) == (64, 128, "Ada")
    assert (first.solver, first.init_image, first.strength) == ("euler_a", PICTURE, 0.6)
    assert first.adapters[0] == pb.AdapterUse(name="ink", scale=0.5)


async def test_generate_json_is_an_object_a_line(reactor: Any, tmp_path: Path) -> None:
    """A painted and a refused prompt are an object each, as they end; the status is 1."""
    async with FakeServer(reactor) as server:
        arguments = ["generate", "a star", "a moon", "--json", f"--out={tmp_path}"]
        command = await Command.start(*arguments, ATELIER_SERVER=server.address)
        connection = await server.greeted()
        await _serve_picture(connection, "0001")
        painted = json.loads(await command.line())
        asked = await connection.hears("submit")
        error = pb.Error(code=pb.RESOURCE_EXHAUSTED, limit="500 jobs", message="full", retry_after_seconds=2)
        connection.says(asked.request_id, error=error)
        refused = json.loads(await command.line())
        ended = await command.ended()
    assert (painted["state"], painted["job_id"], painted["seed"]) == ("succeeded", "0001", 7)
    assert painted["files"] == [str(tmp_path / "a-star-0001-0.png")]
    assert painted["artifacts"][0]["size"] == len(PICTURE)
    assert (refused["prompt"], refused["state"], refused["files"]) == ("a moon", "refused", [])
    assert refused["error"] == {
        "code": "RESOURCE_EXHAUSTED",
        "field": "",
        "limit": "500 jobs",
        "message": "full",
        "retry_after_seconds": 2.0,
    }
    assert (ended.status, ended.out) == (1, "")
    assert "RESOURCE_EXHAUSTED: full; limit 500 jobs; try again in 2 s" in ended.err


async def test_generate_tells_why_a_job_failed(reactor: Any, tmp_path: Path) -> None:
    """A failed job's code and reason stand on stderr, and the status is 1."""
    async with FakeServer(reactor) as server:
        command = await Command.start("generate", "a star", f"--out={tmp_path}", ATELIER_SERVER=server.address)
        connection = await server.greeted()
        asked = await connection.accepts("0001")
        error = pb.Error(code=pb.GPU_OUT_OF_MEMORY, message="no room")
        connection.says(asked.request_id, failed=pb.Failed(job_id="0001", event_number=1, error=error))
        ended = await command.ended()
    assert (ended.status, ended.out) == (1, "")
    assert "'a star' (job 0001): failed: GPU_OUT_OF_MEMORY: no room" in ended.err


async def test_ctrl_c_cancels_the_jobs(reactor: Any, tmp_path: Path) -> None:
    """Interrupted, generate cancels its jobs at the server, waits for them to say so, and has status 130."""
    async with FakeServer(reactor) as server:
        command = await Command.start(
            "generate", "a star", "a moon", f"--out={tmp_path}", ATELIER_SERVER=server.address
        )
        connection = await server.greeted()
        asked = {job_id: (await connection.accepts(job_id)).request_id for job_id in ("0001", "0002")}
        await command.says("accepted as 0001")
        await command.says("accepted as 0002")
        command.interrupt()
        for _ in asked:
            cancel = await connection.hears("cancel")
            job_id = cancel.message.job_id
            requested = pb.CancelRequested(job_id=job_id, state=pb.JOB_PROCESSING)
            connection.says(cancel.request_id, cancel_requested=requested)
            connection.says(asked[job_id], canceled=pb.Canceled(job_id=job_id, event_number=2))
        ended = await command.ended()
    assert ended.status == 130
    assert "interrupted: cancelling 2 jobs" in ended.err
    assert "2 cancelled" in ended.err
    assert "Traceback" not in ended.err


async def test_a_second_ctrl_c_does_not_wait(reactor: Any, tmp_path: Path) -> None:
    """If the server does not answer the cancels, a second Ctrl-C ends the command at once."""
    async with FakeServer(reactor) as server:
        command = await Command.start("generate", "a star", f"--out={tmp_path}", ATELIER_SERVER=server.address)
        connection = await server.greeted()
        await connection.accepts("0001")
        await command.says("accepted as 0001")
        command.interrupt()
        await connection.hears("cancel")
        command.interrupt()
        ended = await command.ended()
    assert ended.status == 130
    assert "Traceback" not in ended.err


async def test_generate_survives_a_dropped_connection(reactor: Any, tmp_path: Path) -> None:
    """The job is watched again over the next connection, and a line says that it was lost and found."""
    async with FakeServer(reactor) as server:
        command = await Command.start("generate", "a star", f"--out={tmp_path}", ATELIER_SERVER=server.address)
        connection = await server.greeted()
        await connection.accepts("0001")
        await command.says("accepted as 0001")
        connection.drop()
        again = await server.greeted()
        watch = await again.hears("watch")
        again.sends_picture(watch.request_id, "0001", PICTURE)
        again.finishes(watch.request_id, "0001", 2, PICTURE)
        ended = await command.ended()
    assert ended.status == 0
    assert "trying again in" in ended.err
    assert "again" in ended.err


async def test_status_and_models(reactor: Any) -> None:
    """As JSON they are the wire's messages with numbers and names; as text a person can read them."""
    async with FakeServer(reactor) as server:

        async def asked(*arguments: str) -> str:
            command = await Command.start(*arguments, ATELIER_SERVER=server.address)
            connection = await server.greeted()
            if arguments[0] == "status":
                request = await connection.hears("get_server_status")
                answer = pb.ServerStatus(state=pb.READY, jobs_succeeded=2**40, device="cpu")
                connection.says(request.request_id, server_status=answer)
            else:
                request = await connection.hears("list_models")
                model = pb.Model(name="demo", state=pb.MODEL_READY, solvers=["euler"], description="[small|big]")
                connection.says(request.request_id, models=pb.Models(models=[model]))
            ended = await command.ended()
            assert ended.status == 0, ended.err
            return ended.out

        status = json.loads(await asked("status", "--json"))
        assert (status["state"], status["jobs_succeeded"], status["device"]) == ("READY", 2**40, "cpu")
        models = json.loads(await asked("models", "--json"))["models"]
        assert (models[0]["state"], models[0]["solvers"]) == ("MODEL_READY", ["euler"])
        assert "ready" in await asked("status")
        assert "[small|big]" in await asked("models")


async def test_a_reader_that_has_gone_is_no_traceback(reactor: Any) -> None:
    """With stdout closed by its reader, a command ends with status 1 and says nothing."""
    async with FakeServer(reactor) as server:
        command = await Command.start("status", "--json", ATELIER_SERVER=server.address)
        connection = await server.greeted()
        request = await connection.hears("get_server_status")
        command.close_stdout()
        connection.says(request.request_id, server_status=pb.ServerStatus(state=pb.READY))
        ended = await command.ended()
    assert (ended.status, ended.err) == (1, "")


async def test_cancel_says_what_the_job_was(reactor: Any) -> None:
    """cancel prints the job's state at that moment."""
    async with FakeServer(reactor) as server:
        command = await Command.start("cancel", "0001", ATELIER_SERVER=server.address)
        connection = await server.greeted()
        cancel = await connection.hears("cancel")
        requested = pb.CancelRequested(job_id="0001", state=pb.JOB_SUCCEEDED)
        connection.says(cancel.request_id, cancel_requested=requested)
        ended = await command.ended()
    assert (ended.status, ended.out) == (0, "job 0001 had succeeded already\n")


@pytest.mark.parametrize("fetch", [True, False])
async def test_watch_follows_a_job_to_its_end(reactor: Any, tmp_path: Path, fetch: bool) -> None:
    """watch fetches the pictures only with --out, and prints where they are."""
    async with FakeServer(reactor) as server:
        command = await Command.start(
            "watch", "0001", *([f"--out={tmp_path}"] if fetch else []), ATELIER_SERVER=server.address
        )
        connection = await server.greeted()
        for _ in range(2):  # once for the prompt, once by watch()
            asked = await connection.hears("get_job")
            connection.says(asked.request_id, job=pb.Job(job_id="0001", prompt="a star", state=pb.JOB_SUCCEEDED))
        watch = await connection.hears("watch")
        assert watch.message.inline_pictures == fetch
        if fetch:
            connection.sends_picture(watch.request_id, "0001", PICTURE)
        connection.finishes(watch.request_id, "0001", 4, PICTURE)
        ended = await command.ended()
    assert ended.status == 0, ended.err
    assert ended.out.strip() == (str(tmp_path / "a-star-0001-0.png") if fetch else "jobs/0001/0.png")
