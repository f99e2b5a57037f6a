"""What this machine lets a run do: open files, and where there are too few, what to change."""

from __future__ import annotations

import resource
from pathlib import Path

SPARE = 64  # files of the process's own: libraries, logs, the loop
_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


class TooMany(Exception):
    """More than this machine allows as it is set up. The text says what to change."""


def allow_connections(count: int, processes: int) -> None:
    """Raise the soft limit of open files to what one of `processes` needs for its share. Raises TooMany."""
    each = -(-count // processes)
    needed = each + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > soft and (hard == resource.RLIM_INFINITY or needed <= hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    elif needed > soft:
        enough = -(-count // max(1, hard - SPARE))
        raise TooMany(
            f"{count:,} connections need {needed:,} open files in each of {processes} process(es), which may have {hard:,}: "
            f"raise it (ulimit -n {needed}), or take --processes {enough}, or fewer users"
        )
    ports = _local_ports()
    if ports and count > ports:
        raise TooMany(
            f"{count:,} connections from one address to one server need as many local ports, and there are {ports:,}: widen "
            "net.ipv4.ip_local_port_range (sysctl), or take fewer users, or more machines"
        )


def _local_ports() -> int:
    """How many; 0 where it is not known."""
    try:
        first, last = map(int, _PORTS.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return 0
    return last - first + 1
