"""Whose request it is: the same tokens and keys as over TCP, as `Authorization: Bearer …` (or `Token …`), or as `X-API-Key`.

Without tokens in the settings only this machine is served, as TCP does. A browser on this machine may carry requests of any web
page to us, so that what comes without a token must name us by a name of this machine (a page can point a name of its own here)
and must not come from a page of another origin, unless CORS_ORIGINS has it. With an anonymous owner other names are served too:
those that no stranger can have point here, since a page under such a name asks without an Origin for what it was itself loaded
from. CORS_ORIGINS=* lets every page in anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection

from server.doors.http.parts import HttpParts, parts_of
from server.errors import Code, Refusal
from server.identity import address_of, comes_from_here, host_name, is_loopback
from server.principal import Principal, Scope

_SCHEMES = ("bearer", "token")
_LOOKING = frozenset({"GET", "HEAD"})  # and a WebSocket, which has no method
ANONYMOUS = frozenset({Scope.GENERATE, Scope.READ})


_KEPT = "principal"  # in a request's state: whoever asks second does not ask again


async def principal_of(parts: HttpParts, connection: HTTPConnection) -> Principal:
    """Who asks. Raises Refusal (UNAUTHENTICATED, PERMISSION_DENIED, UNAVAILABLE)."""
    state = connection.scope.setdefault("state", {})
    found: Principal | None = state.get(_KEPT)
    if found is None:
        found = state[_KEPT] = await _found(parts, connection)
    return found


async def _found(parts: HttpParts, connection: HTTPConnection) -> Principal:
    headers = connection.headers
    token = given_token(headers)
    identities = parts.identities
    if identities.is_ours(token) or (identities.authenticates and (token or not parts.anonymous_owner)):
        return await identities.principal(token)
    _check_page(parts, connection)
    if parts.anonymous_owner:
        return Principal(owner=parts.anonymous_owner, scopes=ANONYMOUS)
    _check_is_here(headers)
    return await identities.principal(token)


def watched(connection: HTTPConnection, lost: Callable[[Refusal], None]) -> Callable[[], None]:
    """As `Vigil.watch`, for as long as the request is answered; it has been found out whose it is."""
    principal: Principal | None = connection.scope.get("state", {}).get(_KEPT)
    if principal is None:
        return lambda: None
    return parts_of(connection).vigil.watch(principal, given_token(connection.headers), lost)


async def owner_who_may(parts: HttpParts, connection: HTTPConnection, scope: Scope) -> str:
    """Whose things a request is about. Raises Refusal, also where their credential is not for this."""
    principal = await principal_of(parts, connection)
    principal.check(scope)
    return principal.owner


def given_token(headers: Headers) -> str:
    """The token, or "". Raises Refusal for another scheme: a password would otherwise be left out in silence."""
    told = headers.get("authorization")
    if told is None:
        return headers.get("x-api-key", "")
    scheme, _, token = told.strip().partition(" ")
    if scheme.lower() not in _SCHEMES:
        limit = "Bearer TOKEN"
        raise Refusal(Code.UNAUTHENTICATED, f"Authorization must be {limit}", field="Authorization", limit=limit)
    return token.strip()


def _check_page(parts: HttpParts, connection: HTTPConnection) -> None:
    if "*" in parts.cors_origins:
        return
    origin, host = connection.headers.get("origin"), connection.headers.get("host", "")
    if origin is None:  # no browser, or a page that reads what it was itself loaded from
        _check_name(parts, host_name(host) or "")
        return
    if origin in parts.cors_origins:
        return
    if origin.partition("://")[2] != host or not _is_ours(parts, connection, host_name(host) or ""):
        text = "requests of this web page are not taken; CORS_ORIGINS names those that may call"
        raise Refusal(Code.PERMISSION_DENIED, text, field="Origin")


def _check_name(parts: HttpParts, name: str) -> None:
    """Refuse a name that a stranger can have in the public DNS, and have lead here: one with dots that is not ours."""
    if "." not in name or address_of(name) or is_loopback(name) or name == _base_name(parts):
        return
    text = "without a token this server is called by an address, or by the name in ATELIER_HTTP_BASE_URL"
    raise Refusal(Code.PERMISSION_DENIED, text, field="Host")


def _base_name(parts: HttpParts) -> str:
    return host_name(parts.base_url.partition("://")[2]) or ""


def _is_ours(parts: HttpParts, connection: HTTPConnection, name: str) -> bool:
    """Whether a page under this name is ours: any other name its owner can have lead here (DNS rebinding), so that Origin and
    Host agree."""
    if not name:
        return False
    if is_loopback(name) or name == _base_name(parts):
        return True
    address, _ = connection.scope.get("server") or ("", None)
    here = address_of(address)
    return here is not None and here == address_of(name)


def _check_is_here(headers: Headers) -> None:
    if not comes_from_here(headers):
        text = (
            "without tokens only this machine is served, by a name of its own and through no proxy; "
            "set ATELIER_TOKENS, or ATELIER_HTTP_ANONYMOUS_OWNER"
        )
        raise Refusal(Code.PERMISSION_DENIED, text, field="Host")


def check_registrar(parts: HttpParts, connection: HTTPConnection) -> None:
    """Raise Refusal (PERMISSION_DENIED) where somebody may not make an account."""
    if parts.registration == "off":
        raise Refusal(Code.PERMISSION_DENIED, "accounts are made by those who run this server", limit="REGISTRATION")
    _check_page(parts, connection)
    client = connection.client.host if connection.client else ""
    if parts.registration == "here" and not (is_loopback(client) and comes_from_here(connection.headers)):
        text = "accounts are made on the server's own machine, or where ATELIER_REGISTRATION=open"
        raise Refusal(Code.PERMISSION_DENIED, text, limit="REGISTRATION")


class Identify(SecurityBase):
    """A dependency that FastAPI also documents. `scope` is what the route needs; None: read to look, generate to do."""

    def __init__(self, scope: Scope | None = None) -> None:
        self.model = HTTPBearer(
            description="A token of this server, an API key or an access token; X-API-Key takes it as well."
        )
        self.scheme_name = "token"
        self._scope = scope

    async def __call__(self, connection: HTTPConnection) -> Principal:
        """Raises Refusal."""
        principal = await principal_of(parts_of(connection), connection)
        looks = connection.scope.get("method", "GET") in _LOOKING
        principal.check(self._scope or (Scope.READ if looks else Scope.GENERATE))
        return principal


class _Own(Identify):
    async def __call__(self, connection: HTTPConnection) -> str:  # type: ignore[override]
        return (await super().__call__(connection)).owner


Owner = Annotated[str, Depends(_Own())]
"""A route's parameter: whose things it is about."""

Asker = Annotated[Principal, Depends(Identify())]
"""The same, with what they may do."""

Registrar = Annotated[Principal, Depends(Identify(Scope.MODELS))]
"""Of routes that change models or adapters."""
