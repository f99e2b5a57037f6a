"""Several hosts in one setting: rabbit1,rabbit2:5673,[fd00::3]:5672."""

from __future__ import annotations

import re

_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\s:,\[\]/@]+))(?::(?P<port>\d{1,5}))?")
_SIX = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # an IPv6 address as it stands has two colons or more


def hosts_of(text: str, port: int) -> tuple[tuple[str, int], ...]:
    """Each host, with its own port or `port`. Raises ValueError for what is none; the text may hold a password by mistake."""
    hosts: list[tuple[str, int]] = []
    for position, part in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        found = _HOST.fullmatch(part)
        if _SIX.fullmatch(part):
            host, own = part, None
        elif found is not None:
            host, own = found["six"] or found["name"], found["port"]
        else:
            raise ValueError(f"entry {position} must be host or host:port")
        if own is not None and not 0 < int(own) < 65_536:
            raise ValueError(f"entry {position} must have a port from 1 to 65535")
        hosts.append((host, port if own is None else int(own)))
    if text and not hosts:
        raise ValueError("must name a host")
    return tuple(hosts)
