"""One text on its way: what it was asked with, the tokens so far, what of it can be told. Imports no torch before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai.text.detokenising import Decode, Detokeniser
from ai.text.stopping import StopWatch
from ai.types import Answered, Phase, Spoke, Stepped, TextRequest

if TYPE_CHECKING:
    from torch import Generator

TELL_EVERY = 0.05  # seconds between two events of a text: nobody reads faster, and each crosses to another thread


@dataclass(slots=True, eq=False)
class Waiting:
    """A text that has no row yet; its prompt's tokens, once the model was there to say them."""

    request: TextRequest
    arrival: int
    submitted_at: float
    prompt: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        """Tokens that it may come to have, with its prompt."""
        return len(self.prompt) + self.request.max_length

    @property
    def deadline(self) -> float:
        """When it is too late."""
        seconds = self.request.deadline_seconds
        return float("inf") if seconds is None else self.submitted_at + seconds


class Row:
    """A text that is being written. `token` is the latest, which the next pass reads."""

    __slots__ = (
        "_detokeniser", "_ends", "_generator", "_said", "_stops", "_told", "_told_at", "_unsaid", "device_seconds", "ended",
        "token", "waiting", "written",
    )  # fmt: skip

    def __init__(self, waiting: Waiting, decode: Decode, ends: frozenset[int], generator: Generator) -> None:
        request = waiting.request
        self.waiting = waiting
        self.token = waiting.prompt[-1]
        self.written = 0
        self.ended = False
        self.device_seconds = 0.0  # its share of the time of the passes it was part of
        self._ends = ends
        self._generator = generator
        self._detokeniser = Detokeniser(decode, waiting.prompt)
        self._stops = StopWatch(request.stop)
        self._said: list[str] = []  # what was told
        self._told = 0  # characters of it
        self._unsaid: list[str] = []
        self._told_at = float("-inf")

    @property
    def request(self) -> TextRequest:
        """What was asked."""
        return self.waiting.request

    def draw(self) -> float:
        """Its own next number from 0 up to 1; how many there were depends on its own tokens alone."""
        from torch import float64, rand  # this module is known where torch is not loaded

        return 0.0 if self.request.temperature == 0 else rand((), generator=self._generator, dtype=float64).item()

    def take(self, token: int) -> None:
        """The token that comes next."""
        self.token = token
        self.written += 1
        over = token in self._ends
        if not over:
            self._add(self._stops.add(self._detokeniser.add(token)))
        self.ended = over or self._stops.stopped or self.written >= self.request.max_length
        if self.ended and not self._stops.stopped:
            self._add(self._stops.add(self._detokeniser.flush()))
        if self.ended and not self._stops.stopped:
            self._add(self._stops.flush())

    def news(self, now: float, seconds_per_token: float) -> list[Stepped | Spoke]:
        """What is to be told now: not each token by itself, but for the first."""
        if not self.ended and now - self._told_at < TELL_EVERY:
            return []
        self._told_at = now
        total = self.request.max_length
        left = (total - self.written) * seconds_per_token
        fraction = self.written / total
        told: list[Stepped | Spoke] = [
            Stepped(self.request.request_id, Phase.WRITING, self.written, total, fraction, left, self.device_seconds)
        ]
        text = "".join(self._unsaid)
        if text:
            told.append(Spoke(self.request.request_id, self._told, text))
            self._said.append(text)
            self._told += len(text)
            self._unsaid = []
        return told

    def answer(self) -> Answered:
        """The end, after all was told."""
        figures = {"input_token_count": len(self.waiting.prompt), "output_token_count": self.written}
        return Answered(self.request.request_id, "".join(self._said), figures)

    def _add(self, text: str) -> None:
        if text:
            self._unsaid.append(text)


def next_in_line(waiting: Iterable[Waiting], rows: Sequence[Row]) -> Waiting | None:
    """Who is next: by priority, then by how few of the owner's are being written, then who came first."""
    busy = Counter(row.request.owner for row in rows)
    return min(waiting, key=lambda one: (-one.request.priority, busy[one.request.owner], one.arrival), default=None)
