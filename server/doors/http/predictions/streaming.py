"""A prediction as server-sent events, as Replicate's clients read them.

id: 7                  the number of the job's event; 12:0, 12:1, … of what its last one is told by; 7+120: of a text's
event: output          piece, after which 120 characters are told
data: https://…        the address of a picture, or more of a text

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
from server.events import Accepted, Canceled, Event, Failed, Output, Preview, Progress, Succeeded
from server.prediction import Done, progress_line

_ID = re.compile(r"(\d{1,15})(?::(\d{1,3}))?(?:\+(\d{1,9}))?", re.ASCII)
_LINES = re.compile(r"\r\n|\r|\n")  # what ends a line of a stream: a reader puts \n between them again
NOTHING = -1


class Heard(NamedTuple):
    """The event that was heard last, the part of it, and how many characters of a text."""

    number: int = NOTHING
    part: int = NOTHING
    told: int = 0


def heard_last(last_event_id: str | None) -> Heard | None:
    """What Last-Event-ID says; None for what is no id of ours."""
    found = _ID.fullmatch(last_event_id or "")
    if found is None:
        return None
    number, part, told = found.groups()
    return Heard(int(number), NOTHING if part is None else int(part), int(told or 0))


def encoding(base_url: str, *, progress: bool, heard: Heard, has_deadline: bool) -> Encode:
    """How the events of one job's stream become bytes; what was heard is left out. A text is told once, whatever its pieces
    overlap by. A job that `has_deadline` is told as canceled by it, as in `server.listing.is_overdue`."""
    told = heard.told

    def spoken(text: str, offset: int) -> str:
        """What of it was not told yet."""
        nonlocal told
        more = text[max(0, told - offset) :]
        told = max(told, offset + len(text))
        return more

    def encode(event: Event) -> bytes:
        if isinstance(event, Progress):
            if event.number <= heard.number:
                return b""
            return _progress(event, told) if progress else _logs(event, told)
        if isinstance(event, Output):
            more = spoken(event.text, event.offset)
            return _sse(f"{event.number}+{told}", "output", more) if more else b""
        parts = _CANCELED if has_deadline and _is_late(event) else _PARTS[type(event)](event, base_url)
        if isinstance(event, Succeeded) and isinstance(event.output, str):
            parts = [
                ("output", spoken(event.output, 0)),
                *parts,
            ]  # also where it is empty: the parts keep their numbers
        from_part = heard.part + 1 if event.number == heard.number else 0
        return b"".join(
            _sse(f"{event.number}:{index}" + (f"+{told}" if told else ""), name, data)
            for index, (name, data) in enumerate(parts)
            if index >= from_part and (data or name != "output")
        )

    return encode


def has_heard_all(heard: Heard, last_event: int, outputs: int, *, failed: bool) -> bool:
    """Whether there is nothing left to tell of an ended job: `done` is the last part of its last event."""
    return heard.number > last_event or (heard.number == last_event and heard.part >= outputs + failed)


def _sse(event_id: str, name: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in _LINES.split(data))
    return f"id: {event_id}\nevent: {name}\n{lines}\n".encode()


def _numbered(event: Progress, told: int) -> str:
    return f"{event.number}+{told}" if told else str(event.number)


def _logs(event: Progress, told: int) -> bytes:
    return _sse(_numbered(event, told), "logs", progress_line(Done(event.fraction, event.step), event.total_steps))


def _progress(event: Progress, told: int) -> bytes:
    body = {
        "progress": round(event.fraction, 4),
        "progress_step": event.step,
        "progress_total": event.total_steps,
        "phase": event.phase.value,
        "eta_seconds": round(event.eta_seconds, 3),
    }
    return _sse(_numbered(event, told), "progress", json.dumps(body, separators=(",", ":")))


_Parts = list[tuple[str, str]]


def _succeeded(event: Succeeded, base_url: str) -> _Parts:
    found = [("output", picture_url(base_url, event.job_id, one)) for one in event.artifacts]
    if event.output is not None and not isinstance(event.output, str):
        found.append(("output", json.dumps(event.output, separators=(",", ":"))))
    return [*found, ("done", "{}")]


_CANCELED: _Parts = [("done", '{"reason":"canceled"}')]


def _is_late(event: Event) -> bool:
    return isinstance(event, Failed) and event.failure.code is Code.DEADLINE_EXCEEDED


_PARTS: dict[type, Callable[..., _Parts]] = {
    Accepted: lambda event, base_url: [],
    Preview: lambda event, base_url: [],
    Succeeded: _succeeded,
    Failed: lambda event, base_url: [("error", event.failure.message), ("done", '{"reason":"error"}')],
    Canceled: lambda event, base_url: _CANCELED,
}
"""What the other events are told by."""
