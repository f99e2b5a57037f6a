"""Adapters that users upload: a form with the file, which goes to the disk as it comes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from server.catalogue_commands import AddAdapter, ListAdapters, RemoveAdapter
from server.doors.http.bodies import UPLOADS
from server.doors.http.errors import documented, time_text
from server.doors.http.forms import checked, described
from server.doors.http.identity import Owner, Registrar
from server.doors.http.parts import HttpParts, carry_out
from server.doors.http.streamed_forms import StreamedForm, read_streamed
from server.errors import Code, Refusal
from server.landing import Landed
from server.model_records import AdapterRecord, Visibility
from server.replies import AdapterList
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark

MOST = 1000
PICTURE = "signature_image"
FILES = {"file": "The adapter, a .safetensors file.", PICTURE: "The artist's signature, a PNG."}

Skip = Annotated[int, Query(ge=0, le=1_000_000, description="Leave out so many of the first.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many.")]
Word = Annotated[str, Path(max_length=200)]


class AdapterForm(BaseModel):
    """What is said of an adapter beside its file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64, description="1 to 64 letters, digits, dots, _ and -.")
    base_model: str = Field(
        "", max_length=400, description="The model it is for, by its name or id; the default's else."
    )
    description: str = Field("", max_length=2000)
    licence: str = Field("", max_length=200, description="CC-BY-4.0, say.")
    artist: str = Field(
        "", max_length=200, description="Whose style it is; also the signature, unless one comes with it."
    )
    signature: str = Field("", max_length=200, description="The artist's signature as a text.")
    signature_position: str = Field("bottom-right", max_length=20)
    signature_size: str = Field("medium", max_length=20)
    signature_opacity: float = Field(0.7, ge=0, le=1)
    visibility: Literal["private", "public"] = "private"


class AdapterBody(BaseModel):
    """An adapter. A request wears it by its `full_name`; its owner by its `name` too."""

    id: str
    name: str
    full_name: str
    owner_id: str
    description: str
    base_model: str
    family: str
    rank: int
    size_bytes: int
    sha256: str
    licence: str
    artist: str
    signed: bool = Field(description="Whether pictures in this style bear the artist's signature.")
    visibility: str
    created_at: str
    updated_at: str


class AdaptersBody(BaseModel):
    """The newest first."""

    adapters: list[AdapterBody]


def routes(parts: HttpParts) -> APIRouter:
    """/v1/adapters."""
    router = APIRouter(prefix=UPLOADS, tags=["adapters"])
    _add_upload(router, parts)
    _add_looks(router, parts)
    _add_deletes(router, parts)
    return router


def _add_upload(router: APIRouter, parts: HttpParts) -> None:
    @router.post(
        "",
        status_code=201,
        response_model=AdapterBody,
        responses=documented(404, 429),
        operation_id="upload_adapter",
        openapi_extra=described(AdapterForm, FILES, required=["file"]),
    )
    async def upload_adapter(request: Request, asker: Registrar) -> Response:
        """Upload a LoRA. It is checked against the model that it is for, and can be worn from then on."""
        if parts.landing is None:
            raise Refusal(Code.UNAVAILABLE, "this server takes no uploads")
        small = {PICTURE: parts.request_limits.max_signature_image_bytes}
        async with parts.landing.file() as landed:
            kind = request.headers.get("content-type", "")
            form = await read_streamed(kind, request.stream(), large="file", sink=landed.write, small=small)
            await landed.done()
            command = _command(asker.owner, form, landed)
            record: AdapterRecord = await carry_out(parts, command)
        return JSONResponse(adapter_body(record), 201)


def _add_looks(router: APIRouter, parts: HttpParts) -> None:
    async def listed(owner: str) -> tuple[AdapterRecord, ...]:
        found: AdapterList = await carry_out(parts, ListAdapters(owner=owner))
        return found.adapters

    @router.get("", response_model=AdaptersBody, operation_id="list_adapters")
    async def list_adapters(owner: Owner, skip: Skip = 0, limit: Limit = MOST) -> Response:
        """Uploaded adapters that you may use."""
        return JSONResponse({"adapters": [adapter_body(one) for one in (await listed(owner))[skip : skip + limit]]})

    @router.get("/{adapter}", response_model=AdapterBody, responses=documented(404), operation_id="get_adapter")
    async def get_adapter(adapter: Word, owner: Owner) -> Response:
        """One of yours by its name, or any by its id."""
        return JSONResponse(adapter_body(_find(await listed(owner), owner, adapter)))

    @router.get(
        "/{adapter_owner}/{name}",
        response_model=AdapterBody,
        responses=documented(404),
        operation_id="get_adapter_of_owner",
    )
    async def get_of_owner(adapter_owner: Word, name: Word, owner: Owner) -> Response:
        """One by its full name."""
        return JSONResponse(adapter_body(_find(await listed(owner), owner, f"{adapter_owner}/{name}")))


def _add_deletes(router: APIRouter, parts: HttpParts) -> None:
    @router.delete("/{adapter}", status_code=204, responses=documented(404), operation_id="delete_adapter")
    async def delete_adapter(adapter: Word, asker: Registrar) -> Response:
        """Nobody wears it from now on; jobs that do are finished."""
        await carry_out(parts, RemoveAdapter(owner=asker.owner, adapter=adapter))
        return Response(status_code=204)

    @router.delete(
        "/{adapter_owner}/{name}", status_code=204, responses=documented(404), operation_id="delete_adapter_of_owner"
    )
    async def delete_of_owner(adapter_owner: Word, name: Word, asker: Registrar) -> Response:
        """The same, by its full name."""
        await carry_out(parts, RemoveAdapter(owner=asker.owner, adapter=f"{adapter_owner}/{name}"))
        return Response(status_code=204)


def adapter_body(record: AdapterRecord) -> dict[str, Any]:
    """As AdapterBody."""
    return {
        "id": record.id,
        "name": record.name,
        "full_name": record.full_name,
        "owner_id": record.owner,
        "description": record.description,
        "base_model": record.base,
        "family": record.family,
        "rank": record.rank,
        "size_bytes": record.size_bytes,
        "sha256": record.sha256,
        "licence": record.licence,
        "artist": record.artist,
        "signed": record.signature is not None,
        "visibility": record.visibility.value,
        "created_at": time_text(record.created_at),
        "updated_at": time_text(record.updated_at),
    }


def _find(there: tuple[AdapterRecord, ...], owner: str, wanted: str) -> AdapterRecord:
    full = wanted if "/" in wanted else f"{owner}/{wanted}"
    for record in there:
        if wanted == record.id or full == record.full_name:
            return record
    text = f"there is no adapter {wanted[:60]!r}"
    raise Refusal(Code.ADAPTER_NOT_FOUND, text, field="adapter", limit="the name or id of an adapter")


def _command(owner: str, form: StreamedForm, landed: Landed) -> AddAdapter:
    """Raises Refusal, RequestValidationError."""
    if not form.streamed or not landed.size:
        raise Refusal.invalid("file", "a .safetensors file with something in it, sent as a part with a filename", None)
    texts = {name: value for name, value in form.texts.items() if value}  # browsers send those that nobody filled in
    told = checked(AdapterForm, texts)
    return AddAdapter(
        owner=owner,
        name=told.name,
        path=landed.path,
        size_bytes=landed.size,
        sha256=landed.sha256,
        base=told.base_model,
        description=told.description,
        licence=told.licence,
        artist=told.artist,
        signature=_signature(told, form.files.get(PICTURE, b"")),
        visibility=Visibility(told.visibility),
    )


def _signature(told: AdapterForm, picture: bytes) -> Signature | None:
    """A picture, else a text, else the artist's name; none where nothing is said. Raises Refusal."""
    text = told.signature or told.artist
    try:
        position, size = Position.named(told.signature_position), Size.named(told.signature_size)
        if not picture and not text:
            return None
        return Signature(
            mark=ImageMark(picture) if picture else TextMark(text),
            position=position,
            size=size,
            opacity=told.signature_opacity,
            artist=told.artist,
        )
    except SignatureError as error:
        field = (
            PICTURE if error.field == "image" else "signature" if error.field == "text" else f"signature_{error.field}"
        )
        raise Refusal(Code.INVALID_PARAMETER, error.message, field=field, limit=error.limit) from error
