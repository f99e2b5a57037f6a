"""Texts in an engine: greedy as transformers' generate, the same alone and together, begun and ended at any token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ai.engine import Engine
from ai.text.cache import RowCache
from ai.types import (
    Answered,
    Canceled,
    DeadlineExceeded,
    EngineEvent,
    EngineSettings,
    Failed,
    GenerationError,
    InputError,
    ModelLoadError,
    OutOfMemory,
    Saved,
    Spoke,
    Started,
    Stepped,
    TextRequest,
)
from tests.ai.text.made import CONTEXT, CPU, KINDS, card, load, make, request

PROMPTS = ["a small red", "der große", "日本", "a", "background on star small a red blue", ""]


@pytest.fixture(scope="module", params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's, of each architecture."""
    return make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model's."""
    return make(tmp_path_factory.mktemp("words"))


class House:
    """An engine that runs when it is told to."""

    def __init__(self, folder: Path, settings: EngineSettings = CPU, **given: Any) -> None:
        self.events: list[EngineEvent] = []
        self.engine = Engine([card(folder)], settings, lambda: None, self.events.extend, **given)

    def write(self, *requests: TextRequest) -> dict[str, str]:
        """All of them together, to their ends."""
        for one in requests:
            self.engine.submit(one)
        self.engine.run()
        return self.outputs

    @property
    def outputs(self) -> dict[str, str]:
        """By request."""
        return {event.request_id: event.output for event in self.events if isinstance(event, Answered)}

    def of(self, request_id: str, *kinds: type) -> list[Any]:
        """A request's events."""
        return [
            event
            for event in self.events
            if getattr(event, "request_id", "") == request_id and isinstance(event, kinds)
        ]

    def error(self, request_id: str) -> Exception:
        """Why it failed."""
        (failed,) = self.of(request_id, Failed)
        error: Exception = failed.error
        return error


def mixed(count: int = 6) -> list[TextRequest]:
    """Requests of all kinds: prompts, lengths, samplings and seeds."""
    ways: Sequence[dict[str, Any]] = (
        {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.7, "top_k": 0}, {"temperature": 1.8, "top_k": 0}, {"top_k": 1},
        {"temperature": 0.5, "top_p": 0.9},
    )  # fmt: skip
    return [
        request(f"r{index}", PROMPTS[index % 6], seed=index, max_length=12 + 7 * (index % 4), **ways[index % 6])
        for index in range(count)
    ]


def test_greedy_is_what_transformers_generates(folder: Path) -> None:
    """Token for token, in a batch of different prompts."""
    asked = [replace(one, temperature=0.0, max_length=30) for one in mixed() if one.prompt]
    written = House(folder).write(*asked)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for one in asked:
        given = tokenizer(one.prompt, return_tensors="pt")
        whole = network.generate(
            given["input_ids"],
            attention_mask=given["attention_mask"],
            do_sample=False,
            max_new_tokens=30,
            pad_token_id=0,
        )[0]
        told = tokenizer.decode(whole, skip_special_tokens=True)
        assert tokenizer.decode(given["input_ids"][0]) + written[one.request_id] == told


def test_alone_and_together_a_text_is_the_same(folder: Path) -> None:
    """Whatever the others ask for."""
    together = House(folder).write(*mixed())
    assert together == {one.request_id: House(folder).write(one)[one.request_id] for one in mixed()}
    assert len(set(together.values())) == len(together)


def test_rows_that_are_swapped_are_noticed(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the test above: with two rows' keys exchanged on the way, texts are others."""
    right = House(words).write(*mixed())
    leave = RowCache.leave

    def swapped(self: RowCache, row: int) -> None:
        leave(self, row)
        if self.count > 1:
            for layer in self._layers:
                layer.keys[:2] = layer.keys[:2].flip(0)

    monkeypatch.setattr(RowCache, "leave", swapped)
    wrong = House(words).write(*mixed())
    assert wrong != right


def test_who_comes_later_changes_nobody_s_text(words: Path) -> None:
    """Rows join and leave at any token; one that is cancelled is gone at the next."""
    alone = {one.request_id: House(words).write(one)[one.request_id] for one in mixed(12)}
    house, later = House(words), mixed(12)
    deliver = house.events.extend
    tokens = 0

    def join(events: Sequence[EngineEvent]) -> None:
        nonlocal tokens
        deliver(events)
        tokens += 1
        if later and tokens % 3 == 0:
            house.engine.submit(later.pop(0))
        if tokens == 20:
            house.engine.cancel("r3")

    house.engine._teller._deliver = join
    house.write(later.pop(0))
    while later:
        house.write(later.pop(0))
    assert house.of("r3", Canceled, Answered)
    outputs = house.outputs
    assert outputs == {name: alone[name] for name in outputs}
    assert len(outputs) >= 11


def test_the_same_seed_is_the_same_text_and_another_another(words: Path) -> None:
    """At any temperature but 0."""
    first = House(words).write(request("a", seed=1), request("b", seed=1), request("c", seed=2))
    assert first["a"] == first["b"] != first["c"]


def test_what_is_told_on_the_way_is_the_text(folder: Path) -> None:
    """Pieces follow each other without gaps, Started comes first, Answered last, with the tokens counted."""
    house = House(folder)
    house.write(*mixed())
    for one in mixed():
        events = house.of(one.request_id, Started, Stepped, Spoke, Answered)
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Answered)
        at = 0
        for piece in house.of(one.request_id, Spoke):
            assert piece.offset == at
            at += len(piece.text)
        assert "".join(piece.text for piece in house.of(one.request_id, Spoke)) == events[-1].output
        assert 1 <= events[-1].figures["output_token_count"] <= one.max_length
    assert house.engine.numbers().memory.latents == 0
    assert house.engine.numbers().tokens == sum(
        event.figures["output_token_count"] for event in house.events if isinstance(event, Answered)
    )


def test_a_text_ends_before_its_stop(words: Path) -> None:
    """Which is not told, though tokens cut it anywhere."""
    whole = House(words).write(request("a", max_length=40, temperature=0.9))["a"]
    stop = whole[5:9]
    ended = House(words).write(request("a", max_length=40, temperature=0.9, stop=(stop, "never")))["a"]
    assert ended == whole[: whole.find(stop)]


@pytest.mark.parametrize(
    ("prompt", "length", "field", "limit"),
    [
        ("x" * 200, 1, "input.prompt", f"at most {CONTEXT - 1} tokens"),
        ("x" * 90, 20, "input.max_length", "at most 6 beside this prompt"),
    ],
)
def test_a_prompt_beyond_the_context_is_refused_with_its_limit(
    words: Path, prompt: str, length: int, field: str, limit: str
) -> None:
    """Only the tokenizer could tell; the others are written."""
    house = House(words)
    written = house.write(request("long", prompt, max_length=length), request("short"))
    error = house.error("long")
    assert isinstance(error, InputError)
    assert (error.field, error.limit) == (field, limit)
    assert list(written) == ["short"]


def test_a_text_that_fills_the_context_is_written_to_its_end(words: Path) -> None:
    """The last place of all is used."""
    written = House(words).write(request("a", "x" * 90, max_length=CONTEXT - 90, temperature=0.0))
    assert "a" in written


def test_more_texts_than_rows_take_turns_by_priority_and_owner(words: Path) -> None:
    """Two at a time: the urgent one first, then one of each owner."""
    house = House(words, replace(CPU, max_texts=2))
    house.write(
        request("a1", owner="ada"), request("a2", owner="ada"), request("a3", owner="ada"), request("b1", owner="bob"),
        request("urgent", owner="ada", priority=5),
    )  # fmt: skip
    began = [event.request_id for event in house.events if isinstance(event, Started)]
    assert began[:2] == ["urgent", "b1"]
    assert len(house.outputs) == 5


def test_a_text_that_does_not_fit_the_budget_fails_alone(words: Path) -> None:
    """With what the model itself takes, a short one has room, a long one never has."""
    weights = load(words).weight_bytes
    house = House(words, replace(CPU, memory_limit=weights + 60_000))
    written = house.write(request("short", max_length=4), request("long", max_length=90))
    assert isinstance(house.error("long"), OutOfMemory)
    assert list(written) == ["short"]


@pytest.mark.parametrize("wrong", ["nan", "inf"])
def test_a_model_s_mistake_is_its_rows_own(words: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """What is not a number, or beyond all, fails those that were written, and whoever comes after is written."""
    house = House(words)
    from ai.text.model import TextModel

    step, calls = TextModel.step, [0]

    def broken(self: TextModel, tokens: Any, rows: Any) -> torch.Tensor:
        calls[0] += 1
        logits = step(self, tokens, rows)
        return logits.fill_(float(wrong)) if calls[0] == 3 else logits  # the first two are the check's and a sound one

    monkeypatch.setattr(TextModel, "step", broken)
    house.write(request("a"), request("b"))
    assert isinstance(house.error("a"), GenerationError)
    assert isinstance(house.error("b"), GenerationError)
    assert "c" in house.write(request("c"))


def test_cancel_save_and_stop(words: Path) -> None:
    """A saved text has nothing worth keeping; a stopped engine cancels what it has."""
    house = House(words)
    house.engine.submit(request("a"))
    house.engine.submit(request("b"))
    house.engine.cancel("a")
    house.engine.save("b")
    house.engine.stop()
    house.engine.run()
    assert house.of("a", Canceled, Answered) == [Canceled("a")]
    assert house.of("b", Saved, Canceled) == [Saved("b", ()), Canceled("b")]


def test_a_text_too_late_is_given_up(words: Path) -> None:
    """By the engine's own clock."""
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    house = House(words, clock=clock)
    house.write(request("a", deadline_seconds=5.0, max_length=60))
    assert isinstance(house.error("a"), DeadlineExceeded)


@pytest.mark.parametrize("wrong", ["pickle", "damaged", "no tokenizer", "gone"])
def test_a_folder_that_is_no_model_is_told(tmp_path: Path, wrong: str) -> None:
    """Its requests fail with what is wrong; nothing is unpickled."""
    folder = make(tmp_path)
    house = House(folder)
    if wrong == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif wrong == "damaged":
        (folder / "model.safetensors").write_bytes(b"\0" * 100)
    elif wrong == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "model.safetensors").unlink()
    house.write(request("a"))
    error = house.error("a")
    assert isinstance(error, ModelLoadError)
    assert wrong != "pickle" or "pickle" in str(error)
