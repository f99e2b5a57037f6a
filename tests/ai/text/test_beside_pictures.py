"""Texts and pictures of one device: one loop, one shelf, one budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from ai.cards import Card, read_card
from ai.engine import Engine
from ai.fleet import Fleet
from ai.types import (
    Answered,
    EngineEvent,
    EngineSettings,
    Failed,
    Finished,
    GenerationError,
    GenerationRequest,
    ModelReady,
    ModelUnloaded,
    Request,
    Stepped,
    TextRequest,
)
from tests.ai.drive import a_request
from tests.ai.text.made import CPU, card, load, make, request

E = TypeVar("E")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts."""
    return make(tmp_path_factory.mktemp("words"))


def an_engine(words: Path, painter: Path, settings: EngineSettings = CPU) -> tuple[Engine, list[EngineEvent]]:
    """One that has both, and what it tells."""
    events: list[EngineEvent] = []
    cards: list[Card] = [read_card("paint", str(painter)), card(words)]
    return Engine(cards, settings, lambda: None, events.extend), events


def a_picture(request_id: str = "picture") -> GenerationRequest:
    """Of a few steps."""
    return a_request(request_id, model="paint", num_inference_steps=6)


def made(words: Path, painter: Path, *requests: Request, settings: EngineSettings = CPU) -> list[EngineEvent]:
    """All of them together, to their ends."""
    engine, events = an_engine(words, painter, settings)
    for one in requests:
        engine.submit(one)
    engine.run()
    return events


def of(events: list[EngineEvent], kind: type[E]) -> list[E]:
    """Those of a kind."""
    return [event for event in events if isinstance(event, kind)]


def test_neither_changes_the_other_and_they_take_turns(words: Path, epsilon_folder: Path) -> None:
    """Picture and text are what each is alone; tokens are written between the picture's steps."""
    texts = [request(f"text-{seed}", seed=seed, max_length=60) for seed in range(3)]
    together = made(words, epsilon_folder, a_picture(), *texts)
    (picture,), (wanted,) = of(together, Finished), of(made(words, epsilon_folder, a_picture()), Finished)
    assert picture.pictures == wanted.pictures
    alone = [end for text in texts for end in of(made(words, epsilon_folder, text), Answered)]
    assert {one.request_id: one.output for one in of(together, Answered)} == {
        one.request_id: one.output for one in alone
    }
    steps = [event.request_id for event in together if isinstance(event, Stepped)]
    first, last = steps.index("picture"), len(steps) - steps[::-1].index("picture")
    assert any(name.startswith("text") for name in steps[first:last])


def test_a_model_goes_when_the_other_needs_its_room(words: Path, epsilon_folder: Path) -> None:
    """Under a budget for one at a time both are loaded in turn, and all requests end well."""
    engine, events = an_engine(words, epsilon_folder)
    engine.load("paint")
    engine.run()
    painter = engine.numbers().memory.models
    room = EngineSettings(device="cpu", torch_threads=1, memory_limit=painter + load(words).weight_bytes // 2)
    engine, events = an_engine(words, epsilon_folder, room)
    for one in (request("first"), a_picture(), request("last")):
        engine.submit(one)
        engine.run()
    assert [event.model for event in events if isinstance(event, ModelReady)] == ["words", "paint", "words"]
    assert [event.model for event in events if isinstance(event, ModelUnloaded)] == ["words", "paint"]
    assert len(of(events, Answered)) == 2
    assert len(of(events, Finished)) == 1


def test_each_kind_of_model_refuses_the_other_s_requests(words: Path, epsilon_folder: Path) -> None:
    """By the engine's own words."""
    events = made(words, epsilon_folder, replace(request("text"), model="paint"), replace(a_picture(), model="words"))
    errors = [event.error for event in events if isinstance(event, Failed)]
    assert [type(error) for error in errors] == [GenerationError, GenerationError]
    assert {str(error) for error in errors} == {"model: 'paint' writes no texts", "model: 'words' paints nothing"}


def test_a_fleet_shares_texts_among_its_devices(words: Path) -> None:
    """Each device writes some; all end with what they have alone."""
    events: list[EngineEvent] = []
    engines: list[Engine] = []

    def make_engine(settings: EngineSettings, deliver: object) -> Engine:
        engines.append(Engine([card(words)], settings, lambda: None, deliver))  # type: ignore[arg-type]
        return engines[-1]

    settings = replace(CPU, max_batch=2)
    fleet = Fleet([settings, settings], make_engine, events.extend)
    asked: list[TextRequest] = [request(f"r{seed}", seed=seed) for seed in range(6)]
    for one in asked:
        fleet.submit(one)
    for _ in range(3):
        for engine in engines:
            engine.run()
    outputs = {event.request_id: event.output for event in events if isinstance(event, Answered)}
    alone: list[EngineEvent] = []
    for one in asked:
        engine = Engine([card(words)], CPU, lambda: None, alone.extend)
        engine.submit(one)
        engine.run()
    assert outputs == {event.request_id: event.output for event in alone if isinstance(event, Answered)}
    assert all(engine.numbers().tokens for engine in engines)
    assert fleet.numbers().tokens == sum(engine.numbers().tokens for engine in engines)
