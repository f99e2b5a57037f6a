"""Which adapters are in the slots: held, shared, let go, waited for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ai.adapters import residents
from ai.adapters.adapter import Adapter
from ai.adapters.residents import Outfit, Residents
from ai.types import AdapterError, AdapterUse, EngineError
from tests.ai.fakes import FakeAdapters

NAMES = ("a", "b", "c", "d", "two-16", "three-17", "torn")


class Hall:
    """Residents of four slots, whose line is served when a test says so, and what their customers heard."""

    def __init__(self, paths: dict[str, Path] | None = None, slots: FakeAdapters | None = None) -> None:
        self.slots = slots or FakeAdapters(count=4)
        self.works: list[Callable[[], None]] = []
        self.heard: list[tuple[Outfit, EngineError | None]] = []
        self.residents = Residents(paths or {name: Path(name) for name in NAMES}, self.slots, self.works.append)

    def ask(self, *uses: str | tuple[str, float]) -> Outfit:
        """Ask for adapters, and let the line wait."""
        wanted = [AdapterUse(use) if isinstance(use, str) else AdapterUse(*use) for use in uses]
        return self.residents.wear(wanted, lambda outfit, error: self.heard.append((outfit, error)))

    def serve(self) -> None:
        """Do what a thread would do."""
        while self.works:
            self.works.pop(0)()

    def wear(self, *uses: str | tuple[str, float]) -> Outfit:
        """Ask, and serve the line."""
        outfit = self.ask(*uses)
        self.serve()
        return outfit

    def error(self, outfit: Outfit) -> str:
        """What its customer heard."""
        (error,) = [str(error) for one, error in self.heard if one is outfit]
        return error


def came(outfit: Outfit) -> bool:
    """Whether it is complete by now."""
    return outfit.ready


def slots_of(outfit: Outfit) -> list[tuple[int, ...]]:
    """The slots of each adapter of an outfit that came."""
    assert came(outfit)
    return [resident.slots for resident, _ in outfit.worn]


def test_what_is_there_is_held_at_once() -> None:
    """The first to ask waits for the reading; the next has it without, in the same slots, at a scale of its own."""
    hall = Hall()
    first = hall.ask(("a", 0.5))
    assert not came(first)
    hall.serve()
    assert hall.heard == [(first, None)]
    second = hall.ask(("a", -2.0))
    assert slots_of(second) == slots_of(first)
    assert [worn.scale for worn in (*first.worn, *second.worn)] == [0.5, -2.0]
    assert hall.slots.reads == ["a"]
    assert (hall.residents.loads, hall.residents.hits) == (1, 1)


def test_who_needs_no_reading_waits_for_nobody_s() -> None:
    """While another's adapter is being read, one that is there is held at once."""
    hall = Hall()
    hall.wear("a")
    cold = hall.ask("b")
    assert came(hall.ask("a"))
    assert not came(cold)
    hall.serve()
    assert came(cold)


def test_slots_by_rank() -> None:
    """Eight ranks a slot; nobody's slots are another's, and none of them is the zeros'."""
    hall = Hall(slots=FakeAdapters(count=6))
    used = [slot for name in ("a", "two-16", "three-17") for slots in slots_of(hall.wear(name)) for slot in slots]
    assert sorted(used) == [1, 2, 3, 4, 5, 6]


def test_the_least_recently_used_goes_first() -> None:
    """And never one that is held; recently used is what was asked for or let go of lately."""
    hall = Hall()
    outfits = {name: hall.wear(name) for name in "abcd"}
    hashes = {name: outfit.worn[0].resident.content_hash for name, outfit in outfits.items()}
    for name in "bca":
        outfits[name].release()
    hall.ask("b").release()  # now c has waited longest
    assert came(hall.wear("two-16"))
    assert set(hall.residents.contents) >= {hashes["b"], hashes["d"]}
    assert not {hashes["c"], hashes["a"]} & set(hall.residents.contents)


def test_where_all_slots_are_held_the_next_waits() -> None:
    """In the order of asking, also those whose adapters are there; each is told when its turn has come."""
    hall = Hall()
    holder, other = hall.wear("a", "b"), hall.wear("c", "d")
    wide, warm = hall.wear("two-16"), hall.wear("a")
    assert not came(wide)
    assert not came(warm), "it would keep from letting go what the first in line waits for"
    holder.release()
    hall.serve()
    assert came(wide)
    assert not came(warm)
    other.release()
    hall.serve()
    assert came(warm)
    assert [outfit for outfit, _ in hall.heard] == [holder, other, wide, warm]
    assert hall.slots.reads.count("two-16") == 1, "what was read is kept until there is room"


def test_two_who_want_each_other_s_slots() -> None:
    """Whoever stands first gets all it wants, then the next: nobody holds a part and waits for ever."""
    hall = Hall(slots=FakeAdapters(count=2))
    running = hall.wear("a")
    first, second = hall.wear("b", "c"), hall.wear("c", "b")
    assert not came(first)
    assert not came(second)
    running.release()
    hall.serve()
    assert came(first), "it held one slot and got the other"
    assert not came(second) or slots_of(second) == slots_of(first)[::-1]
    first.release()
    hall.serve()
    assert came(second)


def test_more_than_there_are_slots() -> None:
    """Is refused by name, with the limit, and leaves nothing held."""
    hall = Hall()
    outfit = hall.wear("two-16", "three-17")
    assert hall.error(outfit) == (
        "adapters: with three-17 (rank 17) they need 5 slots of rank 8; there are 4 (adapter_slots)"
    )
    assert came(hall.wear("a", "b", "c", "d"))


def test_one_that_is_refused() -> None:
    """Fails who asked for it, and nobody behind; its companions are let go; it is not read again while it is the same."""
    hall = Hall()
    bad, good = hall.ask("a", "torn", "b"), hall.ask("c")
    hall.serve()
    assert hall.error(bad) == "adapter torn: not a sound safetensors file"
    assert came(good)
    assert not bad.worn
    again = hall.wear("torn")
    assert hall.error(again) == hall.error(bad)
    assert hall.slots.reads == ["a", "torn", "c"]
    assert came(hall.wear("a", "b", "d")), "nothing of the refused request is held"


def test_given_up_while_it_is_read() -> None:
    """Nobody is told, nothing is held, and the next in line is served."""
    hall = Hall()
    outfit = hall.ask("a", "b")
    hall.slots.on_read = lambda name: outfit.release() if name == "a" else None
    behind = hall.ask("c")
    hall.serve()
    assert [one for one, _ in hall.heard] == [behind]
    assert hall.slots.reads == ["a", "c"]
    assert not outfit.worn
    behind.release()
    assert came(hall.wear("two-16", "d", "b"))


def test_given_up_while_it_waits_for_room() -> None:
    """The next in line is served."""
    hall = Hall()
    holder = hall.wear("a", "b", "c")
    wide, behind = hall.ask("two-16"), hall.ask("d")
    hall.serve()
    assert not came(behind)
    wide.release()
    hall.serve()
    assert came(behind)
    assert came(holder)


class Texts(FakeAdapters):
    """The content of a file is another adapter's name."""

    def read(self, path: Path) -> Adapter:
        """By what stands in it."""
        return super().read(Path(path.read_text(encoding="utf-8")))


def test_an_adapter_is_its_content(tmp_path: Path) -> None:
    """A file that changes is another adapter from then on, while who wears the old one keeps it; what is the same shares."""
    paths = {name: tmp_path / name for name in "xyz"}
    for path in paths.values():
        path.write_text("old", encoding="utf-8")
    hall = Hall(paths, Texts(count=2))
    before, same = hall.wear("x"), hall.wear("y")
    assert slots_of(before) == slots_of(same)
    paths["x"].write_text("changed", encoding="utf-8")
    after = hall.wear("x")
    assert slots_of(after) != slots_of(before)
    assert slots_of(hall.wear("z")) == slots_of(before)
    os.utime(paths["y"], ns=(1, 1))  # written anew as it was
    assert slots_of(hall.wear("y")) == slots_of(before)


class Unwritable(FakeAdapters):
    """The device has no room for one adapter."""

    def write(self, slots: Sequence[int], adapter: Adapter) -> None:
        """At first."""
        if self.reads == ["a"]:
            raise MemoryError("no room")
        super().write(slots, adapter)


def test_slots_that_cannot_be_written() -> None:
    """Fail the request, and are free again."""
    hall = Hall(slots=Unwritable(count=1))
    bad = hall.wear("a")
    assert "no room" in hall.error(bad)
    assert came(hall.wear("b"))


@pytest.mark.parametrize("wanted", [1, 3])
def test_two_hundred_in_rotation(wanted: int) -> None:
    """Slots are used again and again; never are there more adapters than slots."""
    paths = {f"{n}": Path(f"{n}") for n in range(200)}
    hall = Hall(paths)
    for n in range(200):
        outfit = hall.wear(*(f"{(n + more) % 200}" for more in range(wanted)))
        assert came(outfit)
        assert len(hall.residents.contents) <= 4
        outfit.release()
    assert hall.residents.loads >= 200


def test_idle_ones_can_be_dropped() -> None:
    """What is held stays."""
    hall = Hall()
    held, idle = hall.wear("a"), hall.wear("b")
    idle.release()
    hall.residents.drop_idle()
    assert hall.residents.contents == (held.worn[0].resident.content_hash,)


def test_a_request_s_own_files_come_before_the_card_s() -> None:
    """By name, for that request alone; the same content under two paths is read twice and held once."""
    hall = Hall()
    fetched = hall.residents.wear(
        [AdapterUse("a"), AdapterUse("https://x.test/f")], _nobody, {"a": "b", "https://x.test/f": "c"}
    )
    hall.serve()
    assert hall.slots.reads == ["b", "c"]
    card = hall.wear("b")
    assert slots_of(card) == slots_of(fetched)[:1]
    assert hall.slots.reads == ["b", "c"], "it is known by where it lies, whatever it is called"
    assert hall.error(hall.wear("a")) == "None"


def test_what_comes_after_the_question_mark_of_an_address_is_not_told() -> None:
    """It may be a key: neither the refusal nor the log has it."""
    hall = Hall()
    use = AdapterUse("https://x.test/torn?token=s3cret")
    outfit = hall.residents.wear([use], lambda outfit, error: hall.heard.append((outfit, error)), {use.name: "torn"})
    hall.serve()
    assert "adapter https://x.test/torn: " in hall.error(outfit)
    assert "s3cret" not in hall.error(outfit)


def test_refusals_of_files_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users name as many as they like; the oldest is read again if it is asked for again."""
    monkeypatch.setattr(residents, "REFUSALS_KEPT", 2)
    hall = Hall(slots=Torn(count=4))
    for name in ("a", "b", "c", "c", "a"):
        hall.error(hall.wear(name))
    assert hall.slots.reads == ["a", "b", "c", "a"]


class Torn(FakeAdapters):
    """Nothing in it can be read."""

    def read(self, path: Path) -> Adapter:
        """Raises AdapterError."""
        self.reads.append(path.name)
        raise AdapterError("torn")


def _nobody(outfit: Outfit, error: EngineError | None) -> None:
    assert error is None
