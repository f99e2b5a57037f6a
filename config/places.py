"""Where pictures may be kept, as a URL says it: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SCHEMES = {"s3": "s3", "gs": "gs", "az": "az", "azure": "az", "file": "file"}
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")


@dataclass(frozen=True, slots=True)
class Place:
    """`scheme` is s3, gs, az or file; `bucket` is a container at Azure, "" for a folder; `prefix` is in no slashes, or a path."""

    scheme: str
    bucket: str
    prefix: str


def read_place(url: str) -> Place:
    """What a URL says. Raises ValueError, whose text does not repeat the URL: someone may have put a key into it."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError("must begin with s3://, gs://, az:// or file:///")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no name, password, ? or # in it; credentials are settings of their own")
    if scheme == "file":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError("must be a whole path: file:///srv/pictures")
        return Place(scheme, "", unquote(parts.path))
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"must name a bucket: {parts.scheme}://bucket or {parts.scheme}://bucket/prefix")
    prefix = parts.path.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise ValueError("must have a prefix without empty parts, . and ..")
    return Place(scheme, parts.netloc, prefix)
