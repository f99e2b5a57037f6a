"""Every bad input gets an Error with its code, field and limit; nobody else notices; the connection lives on."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from tests.integration.conftest import ALICE, BOB
from tests.integration.raw_client import RawClient

GOOD = "a red star on a blue background"
NAN = float("nan")

BAD_SUBMITS: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("empty prompt", {"prompt": ""}, pb.INVALID_PARAMETER, "prompt", "at least 1 character"),
    ("blank prompt", {"prompt": " \n"}, pb.INVALID_PARAMETER, "prompt", "at least 1 character"),
    ("100 kB prompt", {"prompt": "x" * 100_000}, pb.INVALID_PARAMETER, "prompt", "at most 4000 characters"),
    ("long negative prompt", {"negative_prompt": "x" * 4001}, pb.INVALID_PARAMETER, "negative_prompt", "4000"),
    ("width out of range", {"width": 4096}, pb.INVALID_PARAMETER, "width", "64 to 1280, in steps of 8"),
    ("width of no multiple", {"width": 100}, pb.INVALID_PARAMETER, "width", "in steps of 8"),
    ("height too small", {"height": 8}, pb.INVALID_PARAMETER, "height", "64 to 1280"),
    ("width 0", {"width": 0}, pb.INVALID_PARAMETER, "width", "64 to 1280"),
    ("0 steps", {"num_inference_steps": 0}, pb.INVALID_PARAMETER, "num_inference_steps", "1 to 100"),
    ("too many steps", {"num_inference_steps": 101}, pb.INVALID_PARAMETER, "num_inference_steps", "1 to 100"),
    ("NaN guidance", {"guidance_scale": NAN}, pb.INVALID_PARAMETER, "guidance_scale", "0 to 50"),
    ("infinite guidance", {"guidance_scale": float("inf")}, pb.INVALID_PARAMETER, "guidance_scale", "0 to 50"),
    ("negative guidance", {"guidance_scale": -1.0}, pb.INVALID_PARAMETER, "guidance_scale", "0 to 50"),
    ("huge seed", {"seed": 2**64 - 1}, pb.INVALID_PARAMETER, "seed", "0 to"),
    ("0 images", {"num_images": 0}, pb.INVALID_PARAMETER, "num_images", "1 to 4"),
    ("5 images", {"num_images": 5}, pb.INVALID_PARAMETER, "num_images", "1 to 4"),
    ("unknown model", {"model": "nope"}, pb.MODEL_NOT_FOUND, "model", "one of demo"),
    (
        "unknown solver",
        {"solver": "magic"},
        pb.INVALID_PARAMETER,
        "solver",
        "dpmpp_2m, dpmpp_2m_karras, euler, euler_a, ddim, lcm",
    ),
    ("unknown adapter", {"adapters": [pb.AdapterUse(name="x")]}, pb.ADAPTER_NOT_FOUND, "adapters[0].name", "adapter"),
    (
        "NaN scale",
        {"adapters": [pb.AdapterUse(name="x", scale=NAN)]},
        pb.INVALID_PARAMETER,
        "adapters[0].scale",
        "finite",
    ),
    ("init image of no format", {"init_image": b"BM" * 50}, pb.INVALID_PARAMETER, "init_image", "PNG, JPEG or WEBP"),
    ("strength of nothing", {"strength": 0.5}, pb.INVALID_PARAMETER, "strength", "without an init_image"),
    ("wild priority", {"priority": 1000}, pb.INVALID_PARAMETER, "priority", "-100 to 100"),
    ("deadline 0", {"deadline_seconds": 0.0}, pb.INVALID_PARAMETER, "deadline_seconds", "more than 0"),
    ("long key", {"idempotency_key": "k" * 201}, pb.INVALID_PARAMETER, "idempotency_key", "200"),
    ("empty signature", {"signature": pb.Signature()}, pb.INVALID_PARAMETER, "signature.mark", "a text or an image"),
    ("signature of space", {"signature": pb.Signature(text=" ")}, pb.INVALID_PARAMETER, "signature.text", "1"),
    (
        "opacity 2",
        {"signature": pb.Signature(text="a", opacity=2)},
        pb.INVALID_PARAMETER,
        "signature.opacity",
        "0 to 1",
    ),
    (
        "opacity NaN",
        {"signature": pb.Signature(text="a", opacity=NAN)},
        pb.INVALID_PARAMETER,
        "signature.opacity",
        "0 to 1",
    ),
    (
        "unknown position",
        {"signature": pb.Signature(text="a", position=77)},  # type: ignore[arg-type]  # proto3 keeps unknown numbers
        pb.INVALID_PARAMETER,
        "signature.position",
        "0 to 6",
    ),
    ("signature no PNG", {"signature": pb.Signature(image=b"GIF89a")}, pb.INVALID_PARAMETER, "signature.image", "PNG"),
]


@pytest.mark.parametrize(
    ("fields", "code", "field", "limit"), [case[1:] for case in BAD_SUBMITS], ids=[c[0] for c in BAD_SUBMITS]
)
async def test_a_bad_submit_names_its_field_and_limit(
    server: tuple[str, int], fields: dict[str, Any], code: int, field: str, limit: str
) -> None:
    """The Error carries code, field and limit, comes instead of Accepted, and the connection answers on."""
    client = await RawClient.connect(server, ALICE)
    answer = await client.ask(submit=pb.Submit(**{"prompt": GOOD, **fields}))
    error: Any = answer.message
    assert answer.kind == "error"
    assert (error.code, error.field) == (code, field)
    assert limit in error.limit
    assert error.field in error.message or error.limit in error.message
    assert (await client.ask(ping=pb.Ping())).kind == "pong"
    await client.close()


async def raw(server: tuple[str, int], data: bytes, *, hang_up: bool = False) -> list[Any]:
    """Send bytes on a fresh connection, and hear what the server says until it closes."""
    client = await RawClient.connect(server, None)
    client.writer.write(data)
    if hang_up:
        client.writer.write_eof()
    heard = [event.message for event in await client.rest()]
    client.writer.close()
    return heard


async def test_a_huge_length_is_refused_on_its_prefix(server: tuple[str, int]) -> None:
    """A length over the limit gets an Error and a Goodbye without a byte of its body being waited for."""
    error, goodbye = await raw(server, struct.pack(">I", 2**31) + b"xx")
    assert error.code == goodbye.code == pb.FRAME_TOO_LARGE
    assert "4096" in error.limit


async def test_a_browser_that_strays_here_is_told_and_closed(server: tuple[str, int]) -> None:
    """HTTP read as a frame is a huge length, and ends the same way."""
    error, _ = await raw(server, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert error.code == pb.FRAME_TOO_LARGE


async def test_a_truncated_frame_disturbs_nobody(server: tuple[str, int]) -> None:
    """A peer that hangs up in the middle of a frame is forgotten, and others go on."""
    neighbour = await RawClient.connect(server, ALICE)
    assert await raw(server, struct.pack(">I", 100) + b"half", hang_up=True) == []
    assert (await neighbour.ask(ping=pb.Ping())).kind == "pong"
    await neighbour.close()


async def test_garbage_in_a_whole_frame_leaves_the_connection_open(server: tuple[str, int]) -> None:
    """A frame that is no Envelope, one that is empty, and one with an unknown message each get an Error; then a Hello works."""
    client = await RawClient.connect(server, None)
    unknown = pb.Envelope(request_id=9).SerializeToString() + b"\xfa\x3e\x00"  # field 1007, length 0
    for body in (b"\xff\xff\xff", b"", unknown):
        client.writer.write(struct.pack(">I", len(body)) + body)
    codes = [(await client.hear()).message.code for _ in range(3)]  # type: ignore[attr-defined]
    assert codes == [pb.MALFORMED_MESSAGE, pb.UNKNOWN_MESSAGE, pb.UNKNOWN_MESSAGE]
    assert (await client.ask(hello=pb.Hello(protocol_version=1, token=ALICE))).kind == "welcome"
    await client.close()


async def test_hello_may_be_said_again_after_a_refusal_but_not_for_ever(server: tuple[str, int]) -> None:
    """A wrong version and a wrong token are refused by name; a third refusal closes the connection."""
    client = await RawClient.connect(server, None)
    version: Any = (await client.ask(hello=pb.Hello(protocol_version=7, token=ALICE))).message
    assert (version.code, version.field, version.limit) == (pb.UNSUPPORTED_VERSION, "protocol_version", "1")
    token: Any = (await client.ask(hello=pb.Hello(protocol_version=1, token="wrong"))).message
    assert (token.code, token.field) == (pb.UNAUTHENTICATED, "token")
    assert "wrong" not in token.message
    client.say(hello=pb.Hello(protocol_version=1, token=""))
    heard = await client.rest()
    assert [event.kind for event in heard] == ["error", "goodbye"]
    client.writer.close()


async def test_a_request_before_hello_has_to_wait_for_it(server: tuple[str, int]) -> None:
    """HELLO_REQUIRED, and nothing is done."""
    client = await RawClient.connect(server, None)
    body = pb.Envelope(request_id=1, submit=pb.Submit(prompt=GOOD)).SerializeToString()
    client.writer.write(struct.pack(">I", len(body)) + body)
    assert (await client.hear()).message.code == pb.HELLO_REQUIRED  # type: ignore[attr-defined]
    await client.close()


@pytest.mark.parametrize("message", ["cancel", "watch", "get_job"])
async def test_another_owner_s_job_is_not_found(server: tuple[str, int], message: str) -> None:
    """Cancel, Watch and GetJob of a job that is not yours answer exactly as for one that does not exist."""
    alice = await RawClient.connect(server, ALICE)
    alice.submit(GOOD, seed=1, num_inference_steps=3)
    accepted: Any = (await alice.hear()).message
    bob = await RawClient.connect(server, BOB)
    types = {"cancel": pb.Cancel, "watch": pb.Watch, "get_job": pb.GetJob}
    for job_id in (accepted.job_id, "no-such-job", "", "x" * 1000):
        error: Any = (await bob.ask(**{message: types[message](job_id=job_id)})).message
        assert (error.code, error.field) == (pb.JOB_NOT_FOUND, "job_id")
    await alice.close()
    await bob.close()


async def test_bad_submits_beside_good_ones_harm_no_neighbour(server: tuple[str, int]) -> None:
    """Of fifty requests on one connection, every second one bad, each good one gets its picture and each bad one its Error."""
    client = await RawClient.connect(server, ALICE)
    small = {"num_inference_steps": 2, "width": 64, "height": 64}
    requests = [
        client.submit(GOOD, seed=index, **small, solver="" if index % 2 else "magic", progress=True)
        for index in range(50)
    ]
    heard = await client.hear_each(requests)
    for index, request_id in enumerate(requests):
        assert heard[request_id][-1].kind == ("result" if index % 2 else "error")
    await client.close()


async def test_a_request_number_in_use_is_refused(server: tuple[str, int]) -> None:
    """A second Submit under the number of one that is under way is refused, and the first goes on."""
    client = await RawClient.connect(server, ALICE)
    envelope = pb.Envelope(request_id=500, submit=pb.Submit(prompt=GOOD, num_inference_steps=3))
    client.writer.write(client.wire.send(envelope) * 2)
    kinds = [(await client.hear()).kind for _ in range(3)]
    assert sorted(kinds) == ["accepted", "error", "result"]
    await client.close()


async def test_connections_that_come_and_go_leave_nothing_behind(server: tuple[str, int]) -> None:
    """After a hundred connections that broke off at every stage, the server counts one: the one that asks."""
    for index in range(100):
        client = await RawClient.connect(server, ALICE if index % 2 else None)
        client.writer.write(b"\x00\x00"[: index % 3])
        await client.close()
    client = await RawClient.connect(server, ALICE)
    while True:
        status: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
        if status.connections == 1:
            break
        await asyncio.sleep(0)  # each turn of the loop lets the server see another hang-up
    await client.close()
