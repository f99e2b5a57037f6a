"""multipart/form-data as browsers, curl and httpx send it; and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.doors.http.multipart import MAX_FIELD_BYTES, MAX_PART_HEADER_BYTES, MAX_PARTS, Form, Upload, parse_form
from server.errors import Code, Refusal

TYPE = "multipart/form-data; boundary=x-1"


def part(headers: str, content: bytes) -> bytes:
    """A part under its boundary."""
    return b"--x-1\r\n" + headers.encode() + b"\r\n\r\n" + content + b"\r\n"


def a_field(name: str, content: bytes) -> bytes:
    """A text."""
    return part(f'Content-Disposition: form-data; name="{name}"', content)


def a_file(name: str, content: bytes, filename: str = "a.png", kind: str = "image/png") -> bytes:
    """An upload."""
    return part(
        f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\nContent-Type: {kind}', content
    )


def read(*parts: bytes, kind: str = TYPE) -> Form:
    """The form of these parts."""
    return parse_form(kind, b"".join(parts) + b"--x-1--\r\n")


def test_fields_and_files_are_told_apart() -> None:
    """By the filename; contents are kept to the byte, line ends and dashes in them too."""
    content = b"\r\n--x-\r\n\x00--x-1"
    form = read(a_field("prompt", "별\r\nb".encode()), a_file("image", content))
    assert form.text("prompt") == "별\r\nb"
    assert form.upload("image") == Upload("a.png", "image/png", content)
    assert form.text("other") is None


def test_what_browsers_send_of_an_empty_form() -> None:
    """Fields that nobody filled in are not there; nor is a file that nobody chose."""
    form = read(a_field("seed", b""), a_file("image", b"", "", "application/octet-stream"))
    assert form.text("seed") is None
    with pytest.raises(Refusal, match="image must be a file, sent as a part with a filename"):
        form.upload("image")


@pytest.mark.parametrize(
    ("disposition", "name", "filename"),
    [
        ('form-data; name="image"; filename="a\\"b.png"', "image", 'a"b.png'),
        ("form-data; name=image; filename=a.png", "image", "a.png"),
        ("Form-Data; filename=\"; name=y\"; NAME=\"image\"", "image", "; name=y"),
        ("form-data; name=\"image\"; filename=\"a.png\"; filename*=UTF-8''b.png", "image", "a.png"),
        ('form-data; name="image"; filename="%22.png"', "image", "%22.png"),
    ],
)  # fmt: skip
def test_names_are_read_in_every_way_they_are_written(disposition: str, name: str, filename: str) -> None:
    """Quoted, escaped, bare."""
    form = read(part(f"content-disposition: {disposition}\r\ncontent-type: IMAGE/PNG; q=1", b"x"))
    assert form.upload(name) == Upload(filename, "image/png", b"x")


@pytest.mark.parametrize(
    "kind", ['multipart/form-data; boundary="x-1"', "Multipart/Form-Data;charset=utf-8;Boundary=x-1"]
)
def test_the_boundary_may_be_quoted(kind: str) -> None:
    """Or stand among other parameters."""
    assert read(a_field("a", b"b"), kind=kind).text("a") == "b"


def test_what_stands_around_the_form_is_left_out() -> None:
    """A preamble, an epilogue, blanks behind a boundary."""
    body = b"for people\r\n" + a_field("a", b"b").replace(b"--x-1\r\n", b"--x-1 \t\r\n") + b"--x-1--\r\nmore --x-1"
    assert parse_form(TYPE, body).text("a") == "b"


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=x-1",
     "multipart/form-data; boundary=" + "x" * 71],
)  # fmt: skip
def test_another_kind_of_body_is_refused(kind: str) -> None:
    """By the header that says so."""
    with pytest.raises(Refusal) as caught:
        read(kind=kind)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "Content-Type")


BROKEN = {
    "nothing": b"",
    "no boundary": b"prompt=x",
    "cut within a part": a_field("a", b"b"),
    "cut within headers": b"--x-1\r\nContent-Disposition: form-da",
    "another boundary": a_field("a", b"b") + b"--x-12\r\n--x-1--\r\n",
    "no name": part("Content-Disposition: form-data", b"x") + b"--x-1--",
    "an empty name": a_field("", b"x") + b"--x-1--",
    "no headers": b"--x-1\r\n\r\nx\r\n--x-1--",
    "another disposition": part('Content-Disposition: attachment; name="a"', b"x") + b"--x-1--",
    "headers without end": part("x" * MAX_PART_HEADER_BYTES, b"x") + b"--x-1--",
    "headers of no encoding": b'--x-1\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n--x-1--',
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_form_is_malformed(body: bytes) -> None:
    """Truncated ones among them."""
    with pytest.raises(Refusal) as caught:
        parse_form(TYPE, body)
    assert (caught.value.code, caught.value.field) == (Code.MALFORMED_MESSAGE, "body")


def test_parts_are_counted_before_they_are_read() -> None:
    """As many as are allowed are taken; one more, and a million more, are refused."""
    assert len(read(*[a_field(f"f{n}", b"x") for n in range(MAX_PARTS - 1)]).fields) == MAX_PARTS - 1
    for more in (MAX_PARTS, 100_000):
        with pytest.raises(Refusal, match="body must be a form of fewer than 64 parts"):
            read(*[a_field("f", b"x")] * more)


def test_a_field_has_a_limit_and_an_encoding() -> None:
    """Both are told by the field's name."""
    assert read(a_field("prompt", b"x" * MAX_FIELD_BYTES)).text("prompt") == "x" * MAX_FIELD_BYTES
    for content, said in ((b"x" * (MAX_FIELD_BYTES + 1), "at most 400000 bytes"), (b"\xff", "a text in UTF-8")):
        with pytest.raises(Refusal, match=f"prompt must be {said}"):
            read(a_field("prompt", content))


def test_one_of_each() -> None:
    """A field that is given twice, two files and an empty one are refused, not chosen from."""
    form = read(a_field("seed", b"1"), a_field("seed", b"2"), *[a_file("image", b"x")] * 2, a_file("mask", b""))
    with pytest.raises(Refusal, match="seed must be given once, not '2 times'"):
        form.text("seed")
    with pytest.raises(Refusal, match="image must be one file, not '2 files'"):
        form.upload("image")
    with pytest.raises(Refusal, match="mask must be a file with something in it"):
        form.upload("mask")


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(body: bytes) -> None:
    """Whatever comes is a form, or a Refusal."""
    for sent in (body, b"--x-1\r\n" + body, a_field("a", body), a_file("a", body) + b"--x-1--"):
        try:
            parse_form(TYPE, sent)
        except Refusal:
            continue
