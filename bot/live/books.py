"""The books of live sessions: what each sent and heard, its gaps, its losses. They add up over processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class SessionBooks:
    """One session, over all of its connections. Seconds of the run."""

    number: int
    sent: int = 0
    results: int = 0
    missed: int = 0  # results that the server made and this reader was too slow for, by gaps of their sequence
    dropped: int = 0  # frames that the server did not run: overtaken, or late
    skipped: int = 0  # frames that the bot itself was too late to send, or had no connection for
    openings: int = 0
    outages: list[float] = field(default_factory=list)  # from the last result before a loss to the first after it
    longest_gap: float = 0.0  # between two results of one connection, or from its opening to the first
    problem: str = ""  # why it ended, or was never there


class SessionCounter:
    """Keeps one session's books by what happens to it; all moments are seconds of the run."""

    def __init__(self, books: SessionBooks) -> None:
        self.books = books
        self._opened_at: float | None = None
        self._heard_at: float | None = None  # the latest result, over all connections
        self._lost = False  # since then
        self._sequence = 0
        self._dropped = 0  # of the present session

    def begin(self, at: float) -> None:
        """Frames are sent from now on: nothing was to be heard before."""
        if self._opened_at is not None:
            self._opened_at = at

    def opened(self, at: float) -> None:
        """It is open, or open again."""
        self._lost = self.books.openings > 0
        self.books.openings += 1
        self._opened_at, self._sequence, self._dropped = at, 0, 0

    def heard(self, at: float, sequence: int, dropped: int) -> None:
        """A result."""
        books = self.books
        books.results += 1
        if self._lost and self._heard_at is not None:
            books.outages.append(at - self._heard_at)
        else:
            before = self._heard_at if self._heard_at is not None else self._opened_at
            books.longest_gap = max(books.longest_gap, at - (at if before is None else before))
        self._lost = False
        books.missed += max(0, sequence - self._sequence - 1)
        books.dropped += max(0, dropped - self._dropped)
        self._heard_at, self._sequence, self._dropped = at, sequence, dropped

    def end(self, at: float) -> None:
        """The run is over: a session that has heard nothing for long counts that too."""
        before = self._heard_at if self._heard_at is not None else self._opened_at
        if before is None:
            self.books.problem = self.books.problem or "it was never opened"
        elif self._lost:
            self.books.outages.append(at - before)
        else:
            self.books.longest_gap = max(self.books.longest_gap, at - before)


@dataclass(slots=True)
class LiveBooks:
    """All sessions of a run."""

    sessions: list[SessionBooks] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)  # frames that were refused, by why

    @classmethod
    def merged(cls, parts: Iterable[dict[str, Any]]) -> LiveBooks:
        """Of several processes, as each gives itself `as_json`."""
        whole = cls()
        for part in parts:
            whole.sessions += [SessionBooks(**told) for told in part["sessions"]]
            for why, count in part["refused"].items():
                whole.refused[why] = whole.refused.get(why, 0) + count
        whole.sessions.sort(key=lambda books: books.number)
        return whole

    def as_json(self) -> dict[str, Any]:
        """For `merged`, and for the record."""
        return {"sessions": [asdict(books) for books in self.sessions], "refused": dict(self.refused)}

    def total(self, what: str) -> int:
        """Of all sessions."""
        return sum(getattr(books, what) for books in self.sessions)

    @property
    def outages(self) -> list[float]:
        """Of all sessions, seconds."""
        return [seconds for books in self.sessions for seconds in books.outages]

    def starved(self, after: float) -> list[SessionBooks]:
        """Those that heard nothing for so many seconds though they were connected, or nothing at all."""
        return [books for books in self.sessions if books.longest_gap > after or not books.results]
