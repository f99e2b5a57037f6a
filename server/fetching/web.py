"""A file at an https address of a host that the operator allows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit

from server.adapter_names import Rules, WebFile, check_host
from server.addresses import AddressRefused
from server.errors import Code, JobFailure, Refusal
from server.fetching.origins import RemoteFile, file_name
from server.interfaces import ObjectChanged
from server.outgoing import Answer, Outgoing

MAX_REDIRECTS = 5  # a host, its mirror, its store of large files
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({401, 403, 404, 410, 451})
_BUSY = frozenset({408, 425, 429})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class WebOrigin:
    """`seconds` are for one request, its whole answer included."""

    def __init__(self, outgoing: Outgoing, place: WebFile, rules: Rules, seconds: float) -> None:
        self._outgoing = outgoing
        self._url = place.url
        self._rules = rules
        self._seconds = seconds

    async def look(self) -> Sequence[RemoteFile]:
        """The file as it is now. A first byte is asked for, since signed addresses are often signed for GET alone."""
        async with self._ask(self._url, {"Range": "bytes=0-0"}) as answer:
            size = _whole_size(answer)
            if size == 0:
                raise JobFailure(Code.ADAPTER_INVALID, f"{self._shown} is empty")
            etag = _etag(answer)
        name = file_name(urlsplit(self._url).path, ".safetensors")
        return [RemoteFile(name, size, etag, lambda offset: self._pieces(offset, size, etag))]

    async def _pieces(self, offset: int, size: int | None, etag: str) -> AsyncIterator[bytes]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._ask(self._url, headers) as answer:
            if _etag(answer) != etag or _whole_size(answer) not in (None, size):
                raise ObjectChanged(f"{self._shown}: has changed")
            skip = offset if answer.status == 200 else 0
            while piece := await answer.read():
                yield piece[skip:]
                skip = max(0, skip - len(piece))

    @asynccontextmanager
    async def _ask(self, url: str, headers: Mapping[str, str], redirects: int = 0) -> AsyncIterator[Answer]:
        """An answer with the file in it, from wherever it leads to among the allowed hosts."""
        try:
            check_host(url, self._rules)
            asking = self._outgoing.request("GET", url, seconds=self._seconds, headers=headers, schemes=("https",))
            async with asking as answer:
                if answer.status not in _REDIRECTS:
                    self._check(answer.status)
                    yield answer
                    return
                following = urljoin(url, answer.header("location"))
            if redirects >= MAX_REDIRECTS:
                raise JobFailure(Code.ADAPTER_INVALID, f"{self._shown} leads on and on")
            async with self._ask(following, headers, redirects + 1) as answer:
                yield answer
        except Refusal as refusal:
            raise JobFailure(Code.ADAPTER_INVALID, f"{self._shown} leads elsewhere: {refusal.message}") from None
        except AddressRefused as error:
            raise JobFailure(Code.ADAPTER_INVALID, f"{self._shown}: {error}") from None

    def _check(self, status: int) -> None:
        if status in (200, 206):
            return
        if status in _GONE:
            raise JobFailure(Code.ADAPTER_NOT_FOUND, f"{self._shown} is not there for us: its host answered {status}")
        if status in _BUSY or status >= 500:
            raise OSError(f"{self._shown}: its host answered {status}")
        raise JobFailure(Code.ADAPTER_INVALID, f"{self._shown} cannot be fetched: its host answered {status}")

    @property
    def _shown(self) -> str:
        return self._url.partition("?")[0]


def _whole_size(answer: Answer) -> int | None:
    """The file's size; None where the host does not say."""
    if answer.status == 206:
        found = _RANGE.fullmatch(answer.header("content-range"))
        return int(found[2]) if found else None
    return answer.length


def _etag(answer: Answer) -> str:
    return answer.header("etag") or answer.header("last-modified")
