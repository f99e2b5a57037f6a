"""What one request still has to say about its job, bounded in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proto import atelier_pb2 as pb
from server.errors import Code, JobFailure
from server.events import Accepted, Canceled, Event, Failed, Phase, Preview, Progress, Succeeded
from server.wire.stream import JobStream, ReadWanted, Wishes
from tests.server.database.contract import ARTIFACT

ALL = Wishes(progress=True, previews=True, inline_pictures=True)
ACCEPTED = Accepted(number=0, job_id="job-1", seed=7)


def progress(number: int) -> Progress:
    """Of that number."""
    return Progress(
        number=number, job_id="job-1", phase=Phase.DENOISING, step=number, total_steps=20, fraction=0.1, eta_seconds=1.0
    )


def preview(number: int, image_index: int = 0) -> Preview:
    """Of that number."""
    return Preview(number=number, job_id="job-1", image_index=image_index, step=number, png=b"png")


def succeeded(number: int, *sizes: int) -> Succeeded:
    """With artifacts of these sizes."""
    artifacts = tuple(replace(ARTIFACT, image_index=i, key=f"k{i}", size=size) for i, size in enumerate(sizes))
    return Succeeded(
        number=number, job_id="job-1", artifacts=artifacts, warnings=(), queued_seconds=0.0, processing_seconds=0.0
    )


class Scene:
    """A stream, and how often it had news."""

    def __init__(self, wishes: Wishes = ALL, *events: Event, duplicate: bool = False) -> None:
        self.news = 0
        self.stream = JobStream(5, "job-1", wishes, duplicate=duplicate, chunk_bytes=4, on_news=self.on_news)
        self.hear(*events)

    def done(self) -> bool:
        """Whether everything was said."""
        return self.stream.done

    def on_news(self, stream: JobStream) -> None:
        """Count."""
        assert stream is self.stream
        self.news += 1

    def hear(self, *events: Event) -> None:
        """Take events."""
        for event in events:
            self.stream.job_event(event)

    def says(self) -> list[Any]:
        """Everything it has to say until it wants something read or has nothing; messages by kind and number."""
        said: list[Any] = []
        while (item := self.stream.next()) is not None:
            if isinstance(item, ReadWanted):
                return [*said, item]
            assert item.request_id == 5
            kind = item.WhichOneof("message") or ""
            message: Any = getattr(item, kind)
            said.append((kind, message.offset if kind == "chunk" else getattr(message, "event_number", 0)))
            if self.stream.done:
                break
        return said


def test_events_are_said_in_order_and_once() -> None:
    """Then there is nothing more until there is news."""
    scene = Scene(ALL, ACCEPTED, progress(1), preview(2))
    assert scene.says() == [("accepted", 0), ("progress", 1), ("preview", 2)]
    assert scene.says() == []
    assert not scene.done()
    scene.hear(Canceled(number=3, job_id="job-1"))
    assert scene.says() == [("canceled", 3)]
    assert scene.done()
    assert scene.news == 4


def test_progress_that_was_overtaken_is_not_said() -> None:
    """Of a thousand steps the latest, of previews the latest of each image, in the order of their numbers."""
    scene = Scene(ALL, ACCEPTED)
    for number in range(1, 1000, 3):
        scene.hear(progress(number), preview(number + 1, 0), preview(number + 2, 1))
    assert scene.says() == [("accepted", 0), ("progress", 997), ("preview", 998), ("preview", 999)]


def test_progress_waits_for_no_picture_and_the_end_comes_last() -> None:
    """What was fleeting is said before the terminal event, never after."""
    scene = Scene(Wishes(progress=True), ACCEPTED, progress(1), succeeded(2, 10))
    assert scene.says() == [("accepted", 0), ("progress", 1), ("result", 2)]


def test_what_was_not_asked_for_is_not_said_and_is_no_news() -> None:
    """Only the beginning and the end are for everyone."""
    scene = Scene(Wishes(), ACCEPTED, progress(1), preview(2), succeeded(3, 10))
    assert scene.says() == [("accepted", 0), ("result", 3)]
    assert scene.news == 2


def test_pictures_are_asked_for_piece_by_piece() -> None:
    """No more than a chunk at a time, in order, without gaps, one picture after the other, then the result."""
    scene = Scene(ALL, ACCEPTED, succeeded(1, 10, 3))
    wanted: list[ReadWanted] = []
    said: list[Any] = []
    while not scene.stream.done:
        *now, last = scene.says()
        said += now
        if isinstance(last, ReadWanted):
            wanted.append(last)
            scene.stream.read(bytes(last.size))
        else:
            said.append(last)
    assert wanted == [ReadWanted("k0", 0, 4), ReadWanted("k0", 4, 4), ReadWanted("k0", 8, 2), ReadWanted("k1", 0, 3)]
    assert said == [("accepted", 0), ("chunk", 0), ("chunk", 4), ("chunk", 8), ("chunk", 0), ("result", 1)]


def test_asking_again_before_the_bytes_came_asks_for_the_same() -> None:
    """Nothing is skipped."""
    scene = Scene(ALL, succeeded(1, 10))
    assert scene.says() == scene.says() == [ReadWanted("k0", 0, 4)]


def test_a_picture_that_cannot_be_read_is_named_in_the_result() -> None:
    """The rest of it is left out, the next one is sent."""
    scene = Scene(ALL, succeeded(1, 10, 3))
    scene.says()
    scene.stream.read(b"0123")
    scene.says()
    scene.stream.unreadable("gone")
    assert scene.says() == [ReadWanted("k1", 0, 3)]
    scene.stream.read(b"abc")
    (chunk, result) = (scene.stream.next(), scene.stream.next())
    assert isinstance(chunk, pb.Envelope)
    assert isinstance(result, pb.Envelope)
    assert chunk.chunk.image_index == 1
    assert list(result.result.warnings) == ["picture 0 could not be read back from the storage: gone"]
    assert scene.stream.done


def test_a_duplicate_is_told_so() -> None:
    """By the request that asked."""
    accepted = Scene(ALL, ACCEPTED, duplicate=True).stream.next()
    assert isinstance(accepted, pb.Envelope)
    assert accepted.accepted.duplicate


def test_a_failed_job_has_no_pictures() -> None:
    """Its failure is the end."""
    scene = Scene(ALL, ACCEPTED, Failed(number=1, job_id="job-1", failure=JobFailure(Code.STORAGE_FAILED, "full")))
    assert scene.says() == [("accepted", 0), ("failed", 1)]
