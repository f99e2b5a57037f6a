"""The picture that a prediction begins with: in the request as a data: URI, or at an https address, which is fetched as all
addresses of users are (server.outgoing): at public ones alone, without redirects, so many bytes and seconds and no more.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from server.addresses import AddressRefused, NotSent
from server.errors import Code, Refusal

FIELD = "input.image"
LIMIT = "a data: URI in base64, or an https URL on the public Internet"
SECONDS = 20.0  # for a fetch, from the resolver to the last byte: a slow server's 4 MB
AT_ONCE = 8  # fetches under way; others wait for them, so that what they hold in memory stays bounded

_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


class Fetches(Protocol):
    """Who asks other servers: server.outgoing.Outgoing."""

    def request(
        self, method: str, url: str, *, seconds: float, schemes: tuple[str, ...]
    ) -> AbstractAsyncContextManager[Any]:
        """An answer, within so many seconds. Raises OSError."""
        ...


class Images:
    """Reads them. Without `fetches` no URL is taken."""

    def __init__(self, fetches: Fetches | None, max_bytes: int) -> None:
        self._fetches = fetches
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def read(self, image: str) -> bytes:
        """The file's bytes, undecoded. Raises Refusal."""
        data = _DATA.match(image)
        if data:
            return _from_base64(image, data.end())
        if image[:8].lower() != "https://":
            raise Refusal.invalid(FIELD, LIMIT, image[:40])
        if self._fetches is None:
            raise Refusal.invalid(FIELD, "a data: URI in base64: this server fetches no images", image[:40])
        async with self._turns:
            return await self._fetch(self._fetches, image)

    async def _fetch(self, fetches: Fetches, url: str) -> bytes:
        try:
            async with fetches.request("GET", url, seconds=SECONDS, schemes=("https",)) as answer:
                if answer.status != 200:
                    raise _unfetched(f"its server answered with status {answer.status}")
                read: bytes = await answer.read_at_most(self._max_bytes + 1)
        except AddressRefused as error:
            raise Refusal(Code.INVALID_PARAMETER, f"{FIELD}: {error}", field=FIELD, limit=LIMIT) from None
        except (NotSent, OSError) as error:
            raise _unfetched(str(error)) from None
        if len(read) > self._max_bytes:
            raise _unfetched(f"it has more than {self._max_bytes} bytes, which is the limit")
        return read


def _from_base64(image: str, begin: int) -> bytes:
    try:
        return base64.b64decode(image[begin:], validate=True)
    except (binascii.Error, ValueError):
        raise Refusal.invalid(FIELD, LIMIT, "something else after base64,") from None


def _unfetched(why: str) -> Refusal:
    return Refusal(Code.INVALID_PARAMETER, f"{FIELD} could not be fetched: {why}", field=FIELD, limit=LIMIT)
