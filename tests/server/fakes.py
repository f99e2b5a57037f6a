"""What the jobs' rooms stand on, for tests: an engine, a storage, threads and a watcher that check what they are given."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ai.cards import Card, ModelCard
from ai.families.known import Defaults
from ai.text.cards import TextCard
from ai.types import (
    Answered,
    Canceled,
    EngineError,
    EngineEvent,
    EngineNumbers,
    Failed,
    Finished,
    GenerationRequest,
    Phase,
    Picture,
    Previewed,
    Request,
    Saved,
    SavedImage,
    Spoke,
    Started,
    Stepped,
)
from server import events
from server.errors import Code, JobFailure, Refusal
from server.interfaces import FetchedAdapter

P = ParamSpec("P")
T = TypeVar("T")

CARD = ModelCard(
    name="demo",
    source="models/demo",
    defaults=Defaults(width=64, height=72, num_inference_steps=20, guidance_scale=4.0),
    solvers=("dpmpp_2m", "euler"),
)
STYLES = {name: Path(f"models/other/adapters/{name}") for name in ("chalk", "ink", *map("style-{}".format, range(20)))}
OTHER_CARD = ModelCard(
    name="other", source="models/other", size_multiple=64, min_size=128, adapters=STYLES, most_steps={"lcm": 8}
)
TEXT_CARD = TextCard(name="words", source="models/words", context=64)


async def settle() -> None:
    """Let every coroutine go on until all of them wait for something that a test has to bring about."""
    for _ in range(50):
        await asyncio.sleep(0)


async def finished(task: asyncio.Future[Any]) -> bool:
    """Whether it is done; if not it is given up, so that it troubles no other test."""
    await settle()
    if task.done():
        await task
        return True
    task.cancel()
    await settle()
    return False


class FakePainter:
    """A `Painter` that paints when it is told to. It knows a request from submit to its last event, as the engine does."""

    def __init__(self, cards: Sequence[Card] = (CARD, OTHER_CARD)) -> None:
        self._cards = tuple(cards)
        self.known: dict[str, GenerationRequest] = {}
        self.texts: dict[str, Any] = {}  # and whatever else paints nothing
        self.cancels: list[str] = []
        self.saves: dict[str, tuple[SavedImage, ...]] = {}  # by request
        self.refuses: EngineError | None = None  # raised by the next submit
        self.deliver: Callable[[Sequence[EngineEvent]], None] | None = None

    @property
    def cards(self) -> Sequence[Card]:
        """Every model, the default first."""
        return self._cards

    def add(self, card: Card) -> None:
        """One more."""
        self._cards = (*self._cards, card)

    def remove(self, model: str) -> None:
        """One less; nothing that is known may name it."""
        assert model not in {request.model for request in self.known.values()}
        self._cards = tuple(card for card in self._cards if card.name != model)

    def submit(self, request: Request) -> None:
        """Take a request; its id must be new, and its values complete."""
        assert request.request_id not in self.known
        assert request.request_id not in self.texts
        kinds = {card.name: card.model_type for card in self._cards}
        assert (kinds[request.model] == "text-to-image") == isinstance(request, GenerationRequest)
        if self.refuses is not None:
            raise self.refuses
        if isinstance(request, GenerationRequest):
            self.known[request.request_id] = request
        else:
            self.texts[request.request_id] = request

    def cancel(self, request_id: str) -> None:
        """Note it; `confirm_cancel` answers it. Unknown ones are ignored."""
        assert isinstance(request_id, str)
        if request_id in self.known or request_id in self.texts:
            self.cancels.append(request_id)

    def save(self, request_id: str) -> None:
        """Tell what `saves` has of it."""
        if request_id in self.known or request_id in self.texts:
            self._tell(Saved(request_id, self.saves.get(request_id, ())))

    def numbers(self) -> EngineNumbers:
        """Numbers that can be told apart."""
        return EngineNumbers(running=len(self.known), waiting=3, last_batch=7, steps=99, step_seconds=0.25)

    # What a test lets it do

    def start(self, request_id: str) -> None:
        """Seat it."""
        assert request_id in self.known or request_id in self.texts
        self._tell(Started(request_id))

    def step(self, request_id: str, step: int) -> None:
        """Make a step."""
        request: Request = self.known.get(request_id) or self.texts[request_id]
        total, phase = request.steps, Phase.WRITING if request_id in self.texts else Phase.DENOISING
        self._tell(Stepped(request_id, phase, step, total, step / total, float(total - step)))

    def preview(self, request_id: str, image_index: int, step: int, colour: int = 0) -> None:
        """Show what an image is becoming: 8 by 8 pixels of one grey."""
        assert image_index < self.known[request_id].num_images
        self._tell(Previewed(request_id, image_index, step, 8, 8, bytes([colour]) * 192))

    def finish(self, request_id: str, *warnings: str) -> None:
        """Paint every image of it, each of another grey."""
        request = self.known.pop(request_id)
        pictures = tuple(
            Picture(
                request.seed + index,
                request.width,
                request.height,
                bytes([index]) * (request.width * request.height * 3),
            )
            for index in range(request.num_images)
        )
        self._tell(Finished(request_id, pictures, warnings))

    def speak(self, request_id: str, offset: int, text: str) -> None:
        """Say more of a text."""
        assert request_id in self.texts
        self._tell(Spoke(request_id, offset, text))

    def answer(self, request_id: str, text: str) -> None:
        """End a text; a word is a token."""
        del self.texts[request_id]
        self._tell(Answered(request_id, text, {"input_token_count": 2, "output_token_count": len(text.split())}))

    def depict(self, request_id: str, *pictures: Picture) -> None:
        """End a custom model's request with pictures of its own."""
        del self.texts[request_id]
        self._tell(Finished(request_id, pictures, ()))

    def fail(self, request_id: str, error: EngineError) -> None:
        """Fail it."""
        self.known.pop(request_id, None) or self.texts.pop(request_id)
        self._tell(Failed(request_id, error))

    def confirm_cancel(self, request_id: str) -> None:
        """Free its row, as it was asked to."""
        assert request_id in self.cancels, "nobody asked for that"
        self.known.pop(request_id, None) or self.texts.pop(request_id)
        self._tell(Canceled(request_id))

    def paint(self, request_id: str) -> None:
        """Start, a step, finish."""
        self.start(request_id)
        self.step(request_id, 1)
        self.finish(request_id)

    def _tell(self, event: EngineEvent) -> None:
        assert self.deliver is not None
        self.deliver([event])


def picture_key(job_id: str, index: int = 0) -> str:
    """Where a job's picture is that was asked for when the clock of a House begins."""
    return f"jobs/1970-01-12-13/{job_id}-{index}.png"


class FakeArtifacts:
    """An `ArtifactStore` in memory. It can fail, wait for `gate`, and notes what was read."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.reads: list[tuple[str, int, int]] = []
        self.deletes: list[str] = []
        self.delete_error: Exception | None = None
        self.put_error: Exception | None = None
        self.read_error: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.reading = 0
        self.most_reading = 0  # at once

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Keep a PNG under a key of the server's own."""
        assert key.startswith(("jobs/", "generations/"))
        assert ".." not in key
        assert data.startswith(b"\x89PNG")
        assert content_type == "image/png"
        assert sha256 == hashlib.sha256(data).hexdigest()
        await self._wait()
        if self.put_error is not None:
            raise self.put_error
        self.stored[key] = data

    async def address(self, key: str) -> str:
        """A public one."""
        return f"https://pictures.test/{key}"

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """A piece of what was put."""
        assert offset >= 0
        assert size > 0
        self.reads.append((key, offset, size))
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        await self._wait()
        self.reading -= 1
        if self.read_error is not None:
            raise self.read_error
        if key not in self.stored:
            raise FileNotFoundError(key)
        return self.stored[key][offset : offset + size]

    async def delete(self, key: str) -> None:
        """Forget it, if it is there."""
        self.deletes.append(key)
        if self.delete_error is not None:
            raise self.delete_error
        self.stored.pop(key, None)

    async def _wait(self) -> None:
        if self.gate is not None:
            await self.gate.wait()


class FakeAdapterSource:
    """An `AdapterSource` of adapters under /fetched. It can wait for `gate`, and counts who holds what."""

    def __init__(self) -> None:
        self.root = "/fetched"
        self.gate: asyncio.Event | None = None
        self.failures: dict[str, JobFailure] = {}  # by name
        self.asked: list[str] = []
        self.held: Counter[str] = Counter()

    def check(self, name: str) -> None:
        """Refuses what has "never" in its name."""
        assert ":" in name
        if "never" in name:
            raise Refusal(Code.ADAPTER_INVALID, "it never can be", limit="another")

    async def fetch(self, name: str) -> FetchedAdapter:
        """Its file, held until it is released, once."""
        self.check(name)
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if name in self.failures:
            raise self.failures[name]
        self.held[name] += 1
        return FetchedAdapter(f"{self.root}/{name}", lambda: self._release(name))

    def _release(self, name: str) -> None:
        assert self.held[name] > 0
        self.held[name] -= 1


class HoldingPool:
    """A `Pool` whose work waits until `gate` is set, and then fails with `error` if there is one."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.asked = 0

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait, then do `work`."""
        assert callable(work)
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return work(*args, **kwargs)


class Recorder:
    """A `Watcher` that keeps what it hears, and refuses events out of order or after the end."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []

    def job_event(self, event: events.Event) -> None:
        """Take one event."""
        assert not self.ended, f"{event} after the end"
        assert not self.events or event.number > self.events[-1].number, (
            f"{event} after number {self.events[-1].number}"
        )
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        """The names of the events' types."""
        return [type(event).__name__ for event in self.events]

    @property
    def ended(self) -> bool:
        """Whether the terminal event was heard."""
        return bool(self.events) and isinstance(self.events[-1], events.TerminalEvent)

    @property
    def failure(self) -> JobFailure:
        """Why the job failed."""
        last = self.events[-1]
        assert isinstance(last, events.Failed), f"it did not fail: {last}"
        return last.failure

    @property
    def succeeded(self) -> events.Succeeded:
        """What came of the job."""
        last = self.events[-1]
        assert isinstance(last, events.Succeeded), f"it did not succeed: {last}"
        return last
