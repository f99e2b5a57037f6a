"""A prediction as server-sent events, as Replicate's clients read them.

id: 7                  the number of the job's event; 12:0, 12:1, … of what its last one is told by
event: output          the address of a picture
data: https://…

Events: `output`, `logs` (how far it is, a line as tqdm writes it), `error` (why it failed), and at last `done`, whose data is {},
{"reason": "error"} or {"reason": "canceled"}. Who asks with ?progress=true hears `progress`, JSON, in place of `logs`:
Replicate's own client breaks at an event that it does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from server.doors.http.events import Encode
from server.doors.http.pictures import picture_url
from server.errors import Code
from server.events import Accepted, Canceled, Event, Failed, Preview, Progress, Succeeded
from server.prediction import Done, progress_line

_ID = re.compile(r"(\d{1,15})(?::(\d{1,3}))?", re.ASCII)
NOTHING = -1


class Heard(NamedTuple):
    """The event that was heard last, and the part of it."""

    number: int = NOTHING
    part: int = NOTHING


def heard_last(last_event_id: str | None) -> Heard | None:
    """What Last-Event-ID says; None for what is no id of ours."""
    found = _ID.fullmatch(last_event_id or "")
    if found is None:
        return None
    number, part = found.groups()
    return Heard(int(number), NOTHING if part is None else int(part))


def encoding(base_url: str, *, progress: bool, heard: Heard) -> Encode:
    """How one stream's events become bytes; what was heard is left out."""

    def encode(event: Event) -> bytes:
        if isinstance(event, Progress):
            return _progress(event) if progress else _logs(event)
        parts = _PARTS[type(event)](event, base_url)
        from_part = heard.part + 1 if event.number == heard.number else 0
        return b"".join(
            _sse(f"{event.number}:{index}", name, data)
            for index, (name, data) in enumerate(parts)
            if index >= from_part
        )

    return encode


def has_heard_all(heard: Heard, last_event: int, pictures: int, *, failed: bool) -> bool:
    """Whether there is nothing left to tell of an ended job: `done` is the last part of its last event."""
    return heard.number > last_event or (heard.number == last_event and heard.part >= pictures + failed)


def _sse(event_id: str, name: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"id: {event_id}\nevent: {name}\n{lines}\n".encode()


def _logs(event: Progress) -> bytes:
    return _sse(str(event.number), "logs", progress_line(Done(event.fraction, event.step), event.total_steps))


def _progress(event: Progress) -> bytes:
    told = {
        "progress": round(event.fraction, 4),
        "progress_step": event.step,
        "progress_total": event.total_steps,
        "phase": event.phase.value,
        "eta_seconds": round(event.eta_seconds, 3),
    }
    return _sse(str(event.number), "progress", json.dumps(told, separators=(",", ":")))


_Parts = list[tuple[str, str]]


def _succeeded(event: Succeeded, base_url: str) -> _Parts:
    return [("output", picture_url(base_url, event.job_id, one)) for one in event.artifacts] + [("done", "{}")]


def _failed(event: Failed, base_url: str) -> _Parts:
    if event.failure.code is Code.DEADLINE_EXCEEDED:
        return [("done", '{"reason":"canceled"}')]
    return [("error", event.failure.message), ("done", '{"reason":"error"}')]


_PARTS: dict[type, Callable[..., _Parts]] = {
    Accepted: lambda event, base_url: [],
    Preview: lambda event, base_url: [],
    Succeeded: _succeeded,
    Failed: _failed,
    Canceled: lambda event, base_url: [("done", '{"reason":"canceled"}')],
}
"""What the other events are told by."""
