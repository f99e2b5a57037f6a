"""What a slow reader is still owed, of a text above all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from server.events import Canceled, Event, Output, Phase, Progress
from server.latest import LONGEST, LatestEvents


def output(number: int, offset: int, text: str) -> Output:
    """A piece."""
    return Output(number=number, job_id="job-1", offset=offset, text=text)


def progress(number: int) -> Progress:
    """How far it is."""
    return Progress(
        number=number, job_id="job-1", phase=Phase.WRITING, step=1, total_steps=2, fraction=0.5, eta_seconds=1.0
    )


def heard(latest: LatestEvents) -> list[Event]:
    """All that is to be told now."""
    return list(iter(latest.take, None))


@given(some.lists(some.tuples(some.text(min_size=1, max_size=5), some.booleans()), max_size=30))
def test_a_slow_reader_gets_the_whole_text_in_fewer_pieces(pieces: list[tuple[str, bool]]) -> None:
    """Whenever it reads, what it has read is the text so far, without a gap."""
    latest, written, read = LatestEvents(), "", ""
    for number, (text, reads) in enumerate(pieces, 1):
        latest.add(output(number, len(written), text))
        written += text
        if reads:
            for event in heard(latest):
                assert isinstance(event, Output)
                assert event.offset == len(read)
                read += event.text
            assert read == written
    latest.add(Canceled(number=99, job_id="job-1"))
    assert read + "".join(event.text for event in heard(latest) if isinstance(event, Output)) == written


def test_pieces_and_progress_come_in_their_order() -> None:
    """By the number of the latest piece."""
    latest = LatestEvents()
    for event in (output(1, 0, "once"), progress(2), output(3, 4, " upon")):
        latest.add(event)
    assert heard(latest) == [progress(2), output(3, 0, "once upon")]


def test_what_is_told_again_takes_the_place_of_what_was_not_read() -> None:
    """In another life of the server a text begins at 0 again: the reader goes by offsets."""
    latest = LatestEvents()
    latest.add(output(5, 10, "later"))
    latest.add(output(100_001, 0, "onc"))
    latest.add(output(100_002, 3, "e"))
    latest.add(output(100_003, 2, "ce upon"))
    assert heard(latest) == [output(100_003, 0, "once upon")]


def test_a_long_text_is_told_in_parts_that_a_frame_has_room_for() -> None:
    """All under the number of its latest piece."""
    latest = LatestEvents()
    latest.add(output(1, 5, "x" * (LONGEST + 1)))
    assert heard(latest) == [output(1, 5, "x" * LONGEST), output(1, 5 + LONGEST, "x")]
