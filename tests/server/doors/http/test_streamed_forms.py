"""Forms that are read as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from server.doors.http.streamed_forms import StreamedForm, read_streamed
from server.errors import Code, Refusal

KIND = "multipart/form-data; boundary=xyz"
BODY = (
    b"preamble\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="name"\r\n\r\nink\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.safetensors"\r\n\r\n'
    b"\r\n--xy\r\n--x one\r\n\x00\xff\r\n"
    b'--xyz  \r\nContent-Disposition: form-data; name="mark"; filename="m.png"\r\nContent-Type: image/png\r\n\r\n\r\n'
    b'--xyz\r\nContent-Disposition: form-data; name="artist"\r\n\r\n\xc3\xbc\r\n--xyz--\r\nepilogue'
)
CONTENT = b"\r\n--xy\r\n--x one\r\n\x00\xff"


async def read(body: bytes, size: int, kind: str = KIND) -> tuple[StreamedForm, bytes]:
    """The form in a body that comes in pieces of one size, and what the large file is."""
    streamed = bytearray()

    async def sink(piece: bytes) -> None:
        streamed.extend(piece)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    return await read_streamed(kind, pieces(), large="file", sink=sink, small={"mark": 10}), bytes(streamed)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
async def test_a_form_is_the_same_in_whatever_pieces_it_comes(size: int) -> None:
    """Also where a boundary, or what looks like one, is torn."""
    form, streamed = await read(BODY, size)
    assert form.texts == {"name": "ink", "artist": "ü"}
    assert form.files == {"mark": b""}
    assert form.streamed
    assert streamed == CONTENT


def part(headers: str, content: bytes = b"x") -> bytes:
    """One part and the end."""
    return b"--xyz\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n--xyz--"


NAME = 'Content-Disposition: form-data; name="name"'


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (BODY[:-20], "body"),
        (b"", "body"),
        (part("Content-Disposition: form-data"), "body"),
        (part(f"{NAME}\r\nX: {'y' * 5000}"), "body"),
        (part('Content-Disposition: form-data; name="file"'), "file"),
        (part(f'{NAME}; filename="x"'), "name"),
        (part('Content-Disposition: form-data; name="mark"; filename="m"', b"y" * 11), "mark"),
        (part(NAME, b"y" * 400_001), "name"),
        (part(NAME, b"\xff"), "name"),
        (part(NAME)[:-2] + b"\r\n" + part(NAME), "name"),
        (b"--xyz nonsense\r\n" + part(NAME), "body"),
    ],
)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_what_is_no_form_is_refused(body: bytes, field: str, size: int) -> None:
    """With the part's name, where it has one."""
    with pytest.raises(Refusal) as caught:
        await read(body, size)
    assert caught.value.field == field
    assert caught.value.code in (Code.INVALID_PARAMETER, Code.MALFORMED_MESSAGE)


async def test_a_form_has_so_many_parts() -> None:
    """As one in memory."""
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="n%d"\r\n\r\nx\r\n' % number for number in range(70)
    )
    with pytest.raises(Refusal, match="fewer than 64 parts"):
        await read(body + b"--xyz--", 100_000)


async def test_another_kind_of_body_is_refused() -> None:
    """By its header."""
    with pytest.raises(Refusal) as caught:
        await read(BODY, 100, "application/json")
    assert caught.value.field == "Content-Type"
