"""What jobs and live sessions say, as datagrams for all who hear them: each encoded once. Pure: no state, no I/O.

Values and names that do not fit into one datagram are split over several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from proto import atelier_udp_pb2 as udp
from server.errors import AtelierError, Code
from server.events import Canceled, Failed, Progress, Succeeded, TerminalEvent
from server.live.events import LiveClosed, LiveOpened, LiveResult
from server.wire.datagrams import ROOM, to_all

VALUES = 256  # of four bytes in one datagram: 1,024, which leaves 152 for the rest of a LiveResult
BESIDE_NAMES = 96  # bytes of a Names that are no names: a live_id of 40, the numbers, tags and lengths
LONGEST_NAME = 200  # bytes; what is longer is cut
LONGEST_TEXT = 300  # bytes of a text for people
LONGEST_WORD = 100  # bytes of a field's name, of a limit


def live_result(result: LiveResult, sequence: int) -> list[bytes]:
    """The result as datagrams, the first of them numbered `sequence`."""
    return [
        _live_piece(result, sequence + place, first) for place, first in enumerate(_firsts(len(result.values), VALUES))
    ]


def _live_piece(result: LiveResult, sequence: int, first: int) -> bytes:
    message = udp.ServerDatagram()
    said = message.live_result
    said.live_id = result.live_id
    said.sequence = sequence
    said.number = result.number
    said.captured_us = result.captured_us
    said.tick_us = result.tick_us
    said.dropped = result.dropped
    said.first_index = first
    said.total = len(result.values)
    said.values.extend(result.values[first : first + VALUES])
    return to_all(message)


def live_ended(closed: LiveClosed, sequence: int) -> bytes:
    """The end of a session."""
    said = udp.LiveEnded(
        live_id=closed.live_id,
        sequence=sequence,
        code=closed.code,
        code_name=closed.code.name,
        message=cut(closed.message, LONGEST_TEXT),
    )
    return to_all(udp.ServerDatagram(live_ended=said))


def names_of(live_id: str, names: Sequence[str]) -> Iterator[udp.Names]:
    """The names in as few messages as they fit into."""
    piece = udp.Names(live_id=live_id, first_index=0, total=len(names))
    size = BESIDE_NAMES
    for index, name in enumerate(names):
        shown = cut(name, LONGEST_NAME)
        costs = len(shown.encode()) + 3  # its tag and its length
        if size + costs > ROOM:
            yield piece
            piece, size = udp.Names(live_id=live_id, first_index=index, total=len(names)), BESIDE_NAMES
        piece.names.append(shown)
        size += costs
    yield piece


def live_opened(opened: LiveOpened, tag: int) -> udp.LiveOpened:
    """A session as whoever opened it by datagram needs it."""
    model = opened.model
    return udp.LiveOpened(
        tag=tag,
        live_id=opened.live_id,
        model=cut(model.name, LONGEST_NAME),
        input_count=len(model.inputs),
        height=model.height,
        width=model.width,
        output_count=len(model.outputs),
        tick_hz=model.tick_hz,
        next_tick_us=opened.next_tick_us,
    )


def job_progress(event: Progress, sequence: int) -> bytes:
    """How far a job is."""
    said = udp.JobProgress(
        job_id=event.job_id,
        sequence=sequence,
        event_number=event.number,
        phase=event.phase.value,
        step=event.step,
        total_steps=event.total_steps,
        percent=event.fraction * 100,
        eta_seconds=event.eta_seconds,
    )
    return to_all(udp.ServerDatagram(job_progress=said))


def job_ended(event: TerminalEvent, sequence: int) -> bytes:
    """The end of a job."""
    said = udp.JobEnded(job_id=event.job_id, sequence=sequence, event_number=event.number)
    _ENDS[type(event)](said, event)
    return to_all(udp.ServerDatagram(job_ended=said))


def _succeeded(said: udp.JobEnded, event: Succeeded) -> None:
    said.state = udp.JobEnded.SUCCEEDED
    said.pictures = len(event.artifacts)
    said.processing_seconds = event.processing_seconds


def _failed(said: udp.JobEnded, event: Failed) -> None:
    said.state = udp.JobEnded.FAILED
    said.code, said.code_name = event.failure.code, event.failure.code.name
    said.message = cut(event.failure.message, LONGEST_TEXT)


def _canceled(said: udp.JobEnded, event: Canceled) -> None:
    said.state = udp.JobEnded.CANCELED


_ENDS: dict[type, Callable[[udp.JobEnded, Any], None]] = {
    Succeeded: _succeeded,
    Failed: _failed,
    Canceled: _canceled,
}


def refused(error: AtelierError) -> udp.Refused:
    """Why something is not done."""
    return udp.Refused(
        code=error.code,
        code_name=error.code.name,
        field=cut(error.field, LONGEST_WORD),
        limit=cut(error.limit, LONGEST_WORD),
        message=cut(error.message, LONGEST_TEXT),
    )


def evicted(code: Code, message: str) -> udp.Evicted:
    """Why nothing more comes."""
    return udp.Evicted(code=code, code_name=code.name, message=cut(message, LONGEST_TEXT))


def cut(text: str, most: int) -> str:
    """A text of at most so many bytes in UTF-8."""
    data = text.encode("utf-8", "replace")
    return data.decode() if len(data) <= most else data[: most - 3].decode("utf-8", "ignore") + "…"


def _firsts(count: int, step: int) -> range:
    """The index of each piece's first; one piece where there is nothing."""
    return range(0, max(count, 1), step)
