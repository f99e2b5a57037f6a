"""Open streams end soon after what they were opened with is good no more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.task import Clock

from server.errors import Code, Refusal
from server.identity import Identities, unknown_token
from server.principal import Principal
from server.vigil import AT_ONCE, EVERY, Vigil
from tests.server.fakes import settle

ADA = Principal(owner="ada", user_id="1")


class Book:
    """As much of `Identities` as a vigil asks. What is `stale` has to be asked for again, and `good` says whose it is then."""

    def __init__(self, good: Mapping[str, Principal | Refusal]) -> None:
        self.good = dict(good)
        self.stale = False
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    def fresh(self, principal: Principal) -> bool:
        """Whether what was said of it still holds."""
        return not self.stale

    async def principal(self, token: str) -> Principal:
        """Whose it is."""
        self.asked.append(token)
        if self.gate is not None:
            await self.gate.wait()
        found = self.good[token]
        if isinstance(found, Refusal):
            raise found
        return found


class Scene:
    """A vigil, and who was told that they may hear no more."""

    def __init__(self, **good: Principal | Refusal) -> None:
        self.clock: Any = Clock()
        self.book = Book(good)
        self.vigil = Vigil(cast(Identities, self.book), self.clock)
        self.lost: list[Code] = []

    def watch(self, token: str, principal: Principal = ADA) -> Any:
        """One more stream."""
        return self.vigil.watch(principal, token, lambda refusal: self.lost.append(refusal.code))

    async def look(self) -> None:
        """A second later."""
        self.clock.advance(EVERY)
        await settle()


async def test_who_is_known_no_more_is_told_once() -> None:
    """Each stream of that credential; others go on, and nothing ticks when there is none."""
    scene = Scene(a=ADA, b=unknown_token())
    leave = scene.watch("a")
    scene.watch("b"), scene.watch("b")
    await scene.look()
    assert (scene.lost, scene.book.asked) == ([], []), "nobody is asked for whose credential is fresh"
    scene.book.stale = True
    await scene.look()
    await scene.look()
    assert scene.lost == [Code.UNAUTHENTICATED] * 2
    assert scene.book.asked.count("b") == 1, "once for all of its streams"
    leave()
    leave()
    assert scene.clock.getDelayedCalls() == []


async def test_while_nobody_can_say_streams_go_on() -> None:
    """The database is away: they are asked for again at each look, one at a time."""
    scene = Scene(a=Refusal(Code.UNAVAILABLE, "away"))
    scene.watch("a")
    scene.book.stale = True
    await scene.look()
    await scene.look()
    assert (scene.lost, len(scene.book.asked)) == ([], 2)
    scene.book.gate = asyncio.Event()
    await scene.look()
    await scene.look()
    assert len(scene.book.asked) == 3, "the last answer is waited for"
    scene.book.good["a"] = unknown_token()
    scene.book.gate.set()
    await settle()
    assert scene.lost == [Code.UNAUTHENTICATED]


async def test_a_look_asks_for_so_many() -> None:
    """A thousand credentials that expire together are not asked for in one moment."""
    scene = Scene(**{f"t{number:03}": ADA for number in range(AT_ONCE + 5)})
    for token in scene.book.good:
        scene.watch(token)
    scene.book.stale = True
    scene.book.gate = asyncio.Event()
    await scene.look()
    assert len(scene.book.asked) == AT_ONCE
    await scene.look()
    assert len(set(scene.book.asked)) == AT_ONCE + 5
    scene.book.gate.set()
    await settle()


async def test_the_settings_tokens_are_not_looked_at() -> None:
    """They hold for as long as the server runs."""
    scene = Scene()
    scene.watch("a", Principal(owner="shop"))()
    assert scene.clock.getDelayedCalls() == []
