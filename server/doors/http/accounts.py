"""Accounts over HTTP: /v1/auth as the prediction platform has it, API keys, and what admins look after.

register {username, email, password} → the account, 400 where a name is taken; token (form, JSON or query) → {access_token}, 401.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from server.accounts.records import Act, ApiKey, User
from server.accounts.service import AccountService, Taken
from server.doors.http.errors import answer, documented, time_text
from server.doors.http.identity import Identify, check_registrar
from server.doors.http.multipart import MULTIPART, parse_form
from server.doors.http.parts import HttpParts
from server.errors import Code, Refusal
from server.principal import EVERYDAY, Principal, Role, Scope

MOST = 100  # of a list
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 20  # of a login's form, which has six

Anybody = Annotated[Principal, Depends(Identify(Scope.READ))]
"""Who has an account, whatever for: what they may do with it is the service's to say."""


Admin = Annotated[Principal, Depends(Identify(Scope.ADMIN))]


class RegisterRequest(BaseModel):
    """A new account."""

    username: str = Field(max_length=200, description="3 to 64 letters, digits, dots, _ and -. What you make is its.")
    email: str = Field(max_length=300)
    password: str = Field(max_length=1000, description="8 to 200 characters, hard to guess.")


class UserBody(BaseModel):
    """An account."""

    id: str
    username: str
    email: str
    is_active: bool
    created_at: str
    role: Role


class UsersBody(BaseModel):
    """Accounts, the oldest first."""

    users: list[UserBody]


class TokenBody(BaseModel):
    """An access token, to be sent as `Authorization: Bearer …`."""

    access_token: str
    token_type: Literal["bearer"]
    expires_in: int = Field(description="Seconds.")


class PasswordRequest(BaseModel):
    """A change of password."""

    old_password: str = Field(max_length=1000)
    new_password: str = Field(max_length=1000)


class KeyRequest(BaseModel):
    """A new API key."""

    name: str = Field(max_length=200, description="For you, in lists.")
    scopes: list[Scope] = Field(default=sorted(EVERYDAY), max_length=10, description="What it may be used for.")
    expires_in: float | None = Field(default=None, description="Seconds; none: until it is revoked.")


class KeyBody(BaseModel):
    """An API key: its first characters only."""

    id: str
    name: str
    hint: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="Written down about once a minute.")


class NewKeyBody(KeyBody):
    """One that was just made, and is shown this once."""

    key: str


class KeysBody(BaseModel):
    """Keys, the newest first."""

    keys: list[KeyBody]


class UserChange(BaseModel):
    """What becomes of somebody's account."""

    role: Role | None = None
    is_active: bool | None = None


class ActBody(BaseModel):
    """What somebody did."""

    id: int
    at: str
    who: str
    key_id: str
    action: str
    target: str
    address: str
    detail: str


class AuditBody(BaseModel):
    """What was done, the newest first; `before` is where the next page begins."""

    acts: list[ActBody]
    before: int | None


def routes(parts: HttpParts) -> APIRouter:
    """/v1/auth, /v1/keys, /v1/users, /v1/audit."""
    router = APIRouter(prefix="/v1", tags=["accounts"])
    if parts.accounts is not None:
        _add_logins(router, parts, parts.accounts)
        _add_keys(router, parts.accounts)
        _add_administration(router, parts.accounts)
    return router


_WORDS = {"schema": {"type": "object", "required": ["username", "password"], "properties": {
    "username": {"type": "string"}, "password": {"type": "string"},
}}}  # fmt: skip
_LOGIN = {
    "requestBody": {"required": False, "content": dict.fromkeys(("application/json", FORM, MULTIPART), _WORDS)},
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
        for name in ("username", "password")
    ],
}


def _add_logins(router: APIRouter, parts: HttpParts, accounts: AccountService) -> None:
    @router.post(
        "/auth/register",
        response_model=UserBody,
        responses=documented(400, 403, 429),
        operation_id="register",
    )
    async def register(request: Request, asked: RegisterRequest) -> Response:
        """Make an account, where this server lets you (REGISTRATION)."""
        check_registrar(parts, request)
        try:
            user = await accounts.register(asked.username, asked.email, asked.password, address=address_of(request))
        except Taken as taken:
            return answer(taken, parts.clock.seconds(), status=400, detail=taken.message)
        return JSONResponse(user_body(user))

    @router.post(
        "/auth/token",
        response_model=TokenBody,
        responses=documented(400, 401, 429),
        openapi_extra=_LOGIN,
        operation_id="log_in",
    )
    async def log_in(request: Request) -> Response:
        """An access token, for a name and its password in a form, in JSON or in the query."""
        username, password = await _login(request)
        token = await accounts.log_in(username, password, address=address_of(request))
        seconds = int(accounts.token_seconds)
        return JSONResponse({"access_token": token, "token_type": "bearer", "expires_in": seconds})

    @router.get("/auth/me", response_model=UserBody, operation_id="get_own_account")
    async def get_own_account(asker: Anybody) -> Response:
        """Your account."""
        return JSONResponse(user_body(await accounts.own(asker)))

    @router.post("/auth/password", status_code=204, response_class=Response, operation_id="change_password")
    async def change_password(request: Request, asked: PasswordRequest, asker: Anybody) -> Response:
        """Another password. Access tokens from before hold no more, keys do. Not by an API key."""
        not_by_key(asker)
        await accounts.change_password(asker, asked.old_password, asked.new_password, address=address_of(request))
        return Response(status_code=204)


def _add_keys(router: APIRouter, accounts: AccountService) -> None:
    @router.post("/keys", status_code=201, response_model=NewKeyBody, operation_id="create_key")
    async def create_key(request: Request, asked: KeyRequest, asker: Anybody) -> Response:
        """A key for a program of yours; it is shown this once. Not by an API key."""
        not_by_key(asker)
        key, secret = await accounts.create_key(
            asker, asked.name, frozenset(asked.scopes), asked.expires_in, address=address_of(request)
        )
        return JSONResponse({**key_body(key), "key": secret}, 201)

    @router.get("/keys", response_model=KeysBody, operation_id="list_keys")
    async def list_keys(asker: Anybody) -> Response:
        """Yours, the newest first."""
        return JSONResponse({"keys": [key_body(key) for key in await accounts.keys(asker)]})

    @router.delete(
        "/keys/{key_id}",
        status_code=204,
        response_class=Response,
        responses=documented(404),
        operation_id="revoke_key",
    )
    async def revoke_key(request: Request, key_id: Annotated[str, Path(max_length=64)], asker: Anybody) -> Response:
        """It holds no more: here at once, on other nodes within IDENTITY_CACHE_SECONDS. A key may revoke itself alone."""
        if asker.key_id != key_id:
            not_by_key(asker)
        await accounts.revoke_key(asker, key_id, address=address_of(request))
        return Response(status_code=204)


def _add_administration(router: APIRouter, accounts: AccountService) -> None:
    @router.get("/users", response_model=UsersBody, operation_id="list_users")
    async def list_users(
        asker: Admin,
        skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
    ) -> Response:
        """Every account, for admins."""
        found = await accounts.users(asker, skip=skip, most=limit)
        return JSONResponse({"users": [user_body(user) for user in found]})

    @router.patch("/users/{username}", response_model=UserBody, responses=documented(404), operation_id="change_user")
    async def change_user(
        request: Request,
        username: Annotated[str, Path(max_length=64)],
        asked: UserChange,
        asker: Admin,
    ) -> Response:
        """Somebody's role, and whether they may come in: one who may not is out at once, with all keys. For admins."""
        user = await accounts.set_user(
            asker, username, role=asked.role, is_active=asked.is_active, address=address_of(request)
        )
        return JSONResponse(user_body(user))

    @router.get("/audit", response_model=AuditBody, operation_id="read_audit")
    async def read_audit(
        asker: Admin,
        before: Annotated[int, Query(ge=0, le=2**53)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
        who: Annotated[str, Query(max_length=64, description="What one alone did.")] = "",
    ) -> Response:
        """What admins and keys did, the newest first. For admins."""
        found = await accounts.acts(asker, before=before, most=limit, who=who)
        more = found[-1][0] if len(found) == limit else None
        return JSONResponse({"acts": [act_body(number, act) for number, act in found], "before": more})


def not_by_key(asker: Principal) -> None:
    """Raise Refusal for a key: whoever finds one must not be able to make themselves at home."""
    if asker.key_id:
        raise Refusal(Code.PERMISSION_DENIED, "this takes an access token: log in at /v1/auth/token")


def address_of(request: Request) -> str:
    """Where a request came from, "" over a UNIX socket."""
    return request.client.host if request.client else ""


async def _login(request: Request) -> tuple[str, str]:
    """A name and a password. Raises Refusal."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    given: dict[str, Any] = dict(request.query_params)
    if kind == MULTIPART:
        form = parse_form(request.headers.get("content-type", ""), body)
        given.update({name: values[0] for name, values in form.fields.items()})
    elif kind == FORM:
        given.update(_form(body))
    elif body:
        given.update(_json(body))
    named = [given.get(name) for name in ("username", "password")]
    for name, value in zip(("username", "password"), named, strict=True):
        if not isinstance(value, str) or not value or len(value) > 1000:
            limit = "a text, in a form, in JSON or in the query"
            raise Refusal(Code.INVALID_PARAMETER, f"{name} must be {limit}", field=name, limit=limit)
    return str(named[0]), str(named[1])


def _form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        raise Refusal(Code.MALFORMED_MESSAGE, "the body is no form", field="body", limit=FORM) from None


def _json(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise Refusal(Code.MALFORMED_MESSAGE, "the body is no JSON object", field="body", limit="JSON, or a form")
    return told


def user_body(user: User) -> dict[str, Any]:
    """As UserBody."""
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "is_active": user.is_active,
        "created_at": time_text(user.created_at),
        "role": user.role.value,
    }


def key_body(key: ApiKey) -> dict[str, Any]:
    """As KeyBody."""
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "scopes": sorted(key.scopes),
        "created_at": time_text(key.created_at),
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used_at": _time(key.last_used_at),
    }


def act_body(number: int, act: Act) -> dict[str, Any]:
    """As ActBody."""
    return {
        "id": number,
        "at": time_text(act.at),
        "who": act.who,
        "key_id": act.key_id,
        "action": act.action,
        "target": act.target,
        "address": act.address,
        "detail": act.detail,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else time_text(seconds)
