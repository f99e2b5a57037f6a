"""multipart/form-data (RFC 7578), read from a body that is in memory whole: no file is written, nothing is decoded.

    form  = preamble, then for each part: CRLF "--" boundary CRLF headers CRLF CRLF content, then CRLF "--" boundary "--"
    field = a part with a name;  upload = one with a name and a filename

How much of a body is read at all is the door's business (server.doors.http.bodies); here its parts are counted, and measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request

from server.errors import Code, Refusal

MULTIPART = "multipart/form-data"
MAX_PARTS = 64  # the longest form here has 14 fields
MAX_PART_HEADER_BYTES = 4096  # a name, a file's name and a type; browsers send two hundred bytes
MAX_FIELD_BYTES = 400_000  # of a text: a hundred thousand characters, of which no server takes so many

_BOUNDARY = re.compile(
    r'boundary=(?:"([^"\\\r\n]{1,70})"|([^\s;,"]{1,70}))\s*(?:;|$)', re.IGNORECASE
)  # RFC 2046, 5.1.1
_PARAMETER = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.IGNORECASE)
_ESCAPED = re.compile(r'\\(["\\])')  # curl's way; browsers write %22


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it came; `content_type` is what its sender says, in lower case, "" where it says nothing."""

    filename: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent, by name, in its order."""

    fields: Mapping[str, tuple[str, ...]]
    uploads: Mapping[str, tuple[Upload, ...]]

    def text(self, name: str) -> str | None:
        """A field; None where it is not there, or empty, as browsers send those that nobody filled in. Raises Refusal."""
        values = self.fields.get(name, ())
        if len(values) > 1:
            raise Refusal.invalid(name, "given once", f"{len(values)} times")
        return values[0] or None if values else None

    def upload(self, name: str) -> Upload:
        """The one file under a name, with something in it. Raises Refusal."""
        files = self.uploads.get(name, ())
        if not files or files == (Upload("", files[0].content_type, b""),):  # a form whose file nobody chose
            raise Refusal.invalid(name, "a file, sent as a part with a filename", self.fields.get(name, (None,))[0])
        if len(files) > 1:
            raise Refusal.invalid(name, "one file", f"{len(files)} files")
        if not files[0].data:
            raise Refusal.invalid(name, "a file with something in it", "an empty one")
        return files[0]


async def read_form(request: Request) -> Form:
    """The form in a request's body. Raises Refusal."""
    return parse_form(request.headers.get("content-type", ""), await request.body())


def parse_form(content_type: str, body: bytes) -> Form:
    """The form in a body of that Content-Type. Raises Refusal."""
    fields: dict[str, tuple[str, ...]] = {}
    uploads: dict[str, tuple[Upload, ...]] = {}
    for part in _parts(boundary_of(content_type), body):
        name, sent = _read_part(part)
        if isinstance(sent, Upload):
            uploads[name] = (*uploads.get(name, ()), sent)
        else:
            fields[name] = (*fields.get(name, ()), sent)
    return Form(fields, uploads)


def boundary_of(content_type: str) -> bytes:
    """What stands between the parts. Raises Refusal."""
    kind, _, parameters = content_type.partition(";")
    found = _BOUNDARY.search(parameters)
    if kind.strip().lower() != MULTIPART or found is None:
        raise Refusal.invalid("Content-Type", f"{MULTIPART} with a boundary", content_type)
    return (found[1] or found[2]).encode("latin-1", "replace")


def _parts(boundary: bytes, body: bytes) -> list[bytes]:
    """Each part's headers and content."""
    _, *pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)
    if len(pieces) > MAX_PARTS:
        raise Refusal.invalid("body", f"a form of fewer than {MAX_PARTS} parts", "more")
    parts: list[bytes] = []
    for piece in pieces:
        if piece.startswith(b"--"):
            return parts
        padding, line_end, part = piece.partition(b"\r\n")
        if not line_end or padding.strip(b" \t"):
            break
        parts.append(part)
    raise malformed("the form ends before its last boundary")


def _read_part(part: bytes) -> tuple[str, str | Upload]:
    end = part.find(b"\r\n\r\n", 0, MAX_PART_HEADER_BYTES)
    if end < 0:
        raise malformed(f"a part of the form has no end of its headers within {MAX_PART_HEADER_BYTES} bytes")
    found, content = part_of(part[:end]), part[end + 4 :]
    if found.filename is not None:
        return found.name, Upload(found.filename, found.content_type, content)
    return found.name, _text(found.name, content)


@dataclass(frozen=True, slots=True)
class Part:
    """What a part's headers say of it; a text has no file's name."""

    name: str
    filename: str | None
    content_type: str


def part_of(lines: bytes) -> Part:
    """A part by its headers. Raises Refusal."""
    headers = _headers(lines)
    disposition, parameters, rest = headers.get("content-disposition", "").partition(";")
    told = {
        key.lower(): _ESCAPED.sub(r"\1", quoted) or bare for key, quoted, bare in _PARAMETER.findall(parameters + rest)
    }
    name = told.get("name", "")[:200]
    if disposition.strip().lower() != "form-data" or not name:
        raise malformed("a part of the form has no name")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Part(name, told.get("filename"), content_type)


def _headers(lines: bytes) -> dict[str, str]:
    try:
        pairs = [line.partition(":") for line in lines.decode().split("\r\n")]
    except UnicodeDecodeError:
        raise malformed("a part of the form has headers that are not UTF-8") from None
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _text(name: str, content: bytes) -> str:
    if len(content) > MAX_FIELD_BYTES:
        raise Refusal.invalid(name, f"at most {MAX_FIELD_BYTES} bytes", f"{len(content)} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refusal.invalid(name, "a text in UTF-8", "something else") from None


def malformed(message: str) -> Refusal:
    """A body that is no form."""
    return Refusal(Code.MALFORMED_MESSAGE, message, field="body", limit=MULTIPART)
