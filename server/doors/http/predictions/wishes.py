"""How a request wants to be answered, and by when its job is to be canceled: the headers Prefer (RFC 7240) and Cancel-After.

Prefer: wait            the answer is held until the job has ended, for 60 s at most
Prefer: wait=5          … for 5 s
Prefer: respond-async   not at all (as without the header)
Cancel-After: 1m30s     h, m and s; a number alone is seconds
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header

from server.doors.http.prefer import preferences
from server.errors import Refusal

LONGEST_WAIT = 60  # seconds: Replicate's own, and proxies close what is silent for longer
SOONEST_CANCEL, LATEST_CANCEL = 5, 86_400  # seconds

PreferHeader = Annotated[str, Header(max_length=200, description="wait, wait=n (1 to 60 s), or respond-async.")]
CancelAfterHeader = Annotated[str, Header(max_length=40, description="Cancel it then: 90s, 1m30s, 2h; from 5s to 24h.")]

_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s?)?", re.ASCII)
_SECONDS = re.compile(r"\d{1,4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preference:
    """`wait` in seconds, 0: answer at once. `applied` is what the answer says of it ("": nothing was wished for)."""

    wait: int = 0
    applied: str = ""

    @property
    def asynchronous(self) -> bool:
        """Whether it was asked for not to wait."""
        return bool(self.applied) and not self.wait


def preference(header: str) -> Preference:
    """What Prefer says; preferences that are not ours are left aside, as the RFC has it. Raises Refusal."""
    told = preferences([header])
    if "wait" in told:
        value = told["wait"]
        wait = LONGEST_WAIT if value is None else _wait(value)
        return Preference(wait, f"wait={wait}")
    return Preference(0, "respond-async") if "respond-async" in told else Preference()


def cancel_after(header: str) -> float | None:
    """Seconds from the job's admission to its cancel; None where nothing is said. Raises Refusal."""
    if not header:
        return None
    found = _DURATION.fullmatch(header.strip())
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    after = hours * 3600 + minutes * 60 + seconds
    if not SOONEST_CANCEL <= after <= LATEST_CANCEL:
        raise Refusal.invalid("Cancel-After", "5s to 24h, as in 90s, 1m30s, 2h", header)
    return float(after)


def _wait(value: str) -> int:
    seconds = int(value) if _SECONDS.fullmatch(value) else 0
    if not 1 <= seconds <= LONGEST_WAIT:
        raise Refusal.invalid("Prefer", f"wait=1 to wait={LONGEST_WAIT}", f"wait={value}")
    return seconds
