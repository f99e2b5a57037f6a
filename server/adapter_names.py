"""Names of adapters that no model's card knows: they say where the files are.

storage:KEY           a .safetensors file in the storage, or a folder that holds one under a known name
storage:style:N       what a licensing backend keeps for its style N: a folder models/style_N or models/style-N
ada/ink:SHA256        an adapter that Ada uploaded, by its file's content: so are requests recorded that name `ink` or `ada/ink`
https://HOST/PATH     a .safetensors file at a host that the operator allows; http, s3 and others are read where the address
                      is one of the storage's own, and then it is a KEY
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ai.adapters.folder import SUFFIX
from ai.pickles import PICKLES
from server.addresses import AddressRefused, check_url
from server.errors import Code, Refusal
from server.object_keys import key_parts

STORAGE = "storage:"
STYLE = "storage:style:"
MAX_NAME = 2000  # characters; signed addresses have several hundred
UPLOADED = "adapters/"  # where uploaded ones lie in the storage
_UPLOADED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([A-Za-z0-9_-][A-Za-z0-9._-]{0,63}):([0-9a-f]{64})")
_NUMBER = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file in the storage."""

    key: str


@dataclass(frozen=True, slots=True)
class StoredFolders:
    """The first of these that holds an adapter; no slash at their ends."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebFile:
    """One file elsewhere."""

    url: str


Place = StoredFile | StoredFolders | WebFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which places are allowed.

    `keys` are what a key may begin with ("models/"), `hosts` whole names, or their ends with a dot in front (".example.com"),
    `own` the addresses under which others know the storage ("https://bucket.s3.amazonaws.com/").
    """

    keys: Sequence[str] = ()
    hosts: Sequence[str] = ()
    own: Sequence[str] = ()


def is_fetched(name: str) -> bool:
    """Whether a name says where its files are; names on cards have no colon."""
    return ":" in name


def registered_name(owner: str, name: str, sha256: str) -> str:
    """What requests are recorded with that wear an uploaded adapter: its content is in the name, so that it stays the same."""
    return f"{owner}/{name}:{sha256}"


def is_registered(name: str) -> bool:
    """Whether it is such a name."""
    return _UPLOADED.fullmatch(name) is not None


def shown_name(name: str) -> str:
    """An adapter's name as its user says it."""
    return name.partition(":")[0] if is_registered(name) else name


def upload_key(owner: str, name: str, sha256: str) -> str:
    """Where an uploaded adapter lies in the storage."""
    return f"{UPLOADED}{owner}/{name}/{sha256}{SUFFIX}"


def read_name(name: str, rules: Rules) -> Place:
    """What a name means. Raises Refusal (ADAPTER_INVALID) for what is never fetched."""
    if len(name) > MAX_NAME:
        raise _refused(f"its name has {len(name)} characters", f"at most {MAX_NAME} characters")
    if found := _UPLOADED.fullmatch(name):
        return StoredFile(upload_key(found[1], found[2], found[3]))
    if name.startswith(STYLE):
        return _style(name.removeprefix(STYLE))
    if name.startswith(STORAGE):
        return _stored(name.removeprefix(STORAGE), rules)
    bare = name.partition("?")[0]
    for base in rules.own:
        if bare.startswith(base):
            return _stored(unquote(bare.removeprefix(base)), rules)
    return _web(name, rules)


def check_host(url: str, rules: Rules) -> None:
    """Raise Refusal unless a file may be fetched from there."""
    try:
        host, _ = check_url(url, ("https",))
    except AddressRefused as error:
        raise _refused(str(error), "storage:KEY, storage:style:N or an https address") from None
    if not any(host == allowed or (allowed.startswith(".") and host.endswith(allowed)) for allowed in rules.hosts):
        raise _refused(f"{host[:100]} is not an allowed host", "an address at a host in ATELIER_ADAPTER_HOSTS")


def _style(number: str) -> Place:
    if not _NUMBER.fullmatch(number):
        raise _refused("a style has a number", "storage:style:NUMBER")
    return StoredFolders((f"models/style_{int(number)}", f"models/style-{int(number)}"))


def _stored(key: str, rules: Rules) -> Place:
    inner = key.removesuffix("/")
    try:
        key_parts(inner)
    except ValueError:
        raise _refused(
            "its key leads elsewhere, or nowhere", "a key a/b/c without .., empty parts and controls"
        ) from None
    if not any(key.startswith(prefix) for prefix in rules.keys):
        raise _refused("its key is not one of adapters", f"a key that begins with {' or '.join(rules.keys)}")
    if key.endswith(SUFFIX):
        return StoredFile(key)
    _refuse_pickle(inner)
    return StoredFolders((inner,))


def _web(url: str, rules: Rules) -> Place:
    check_host(url, rules)
    _refuse_pickle(urlsplit(url).path)
    return WebFile(url)


def _refuse_pickle(path: str) -> None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in PICKLES:
        raise _refused(f"{suffix} files are pickles, which can run code", f"a {SUFFIX} file")


def _refused(why: str, limit: str) -> Refusal:
    return Refusal(Code.ADAPTER_INVALID, why, limit=limit)
