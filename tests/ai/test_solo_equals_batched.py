"""The engine's promise, over whole runs of the tiny networks: the same picture, whoever shares the batch.

`ATELIER_SOLO_EXAMPLES` is how many random crowds are tried; `make test` tries a few dozen, the same ones each time, and a
fifth as many in each of the number formats of 16 bits, which a CPU is slow at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ai import stepping
from ai.adapters import stacks
from ai.adapters.residents import Worn
from ai.cards import ModelCard
from ai.families import load
from ai.families.family import Model
from ai.lineup import Kept
from ai.schedules import SOLVERS
from ai.types import AdapterUse, Canceled, EngineEvent, EngineSettings, Failed, GenerationRequest
from tests.ai.adapters.made import make, save_kohya, save_peft
from tests.ai.drive import Bench, a_request, an_image, denoise, open_rows, pixels, relative_error

EXAMPLES = int(os.environ.get("ATELIER_SOLO_EXAMPLES", "25"))
CPU = EngineSettings(device="cpu", adapter_slots=4)  # fewer than a crowd wants at once

# What docs/promises.md publishes, on the CPU, by number format; in float32 less, since networks as small as these make less of
# what is rounded differently. A batch of another size is summed in another order, and fewer bits round more.
PIXELS = {"float32": 1, "float16": 2, "bfloat16": 8}  # of 255
LATENTS = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}  # of their standard deviation

PLAIN = st.builds(
    a_request,
    model=st.sampled_from(["epsilon", "v"]),
    prompt=st.sampled_from(["a red cat", "", "two blue cats on a mat"]),
    negative_prompt=st.sampled_from(["", "red"]),
    width=st.sampled_from([64, 80]),
    num_inference_steps=st.integers(1, 6),
    guidance_scale=st.sampled_from([0.0, 1.0, 2.5, 7.5]),
    seed=st.integers(0, 3),
    num_images=st.sampled_from([1, 1, 2]),
    priority=st.integers(0, 1),
    owner=st.sampled_from(["ann", "ben"]),
    solver=st.sampled_from(SOLVERS),
    adapters=st.lists(
        st.builds(
            AdapterUse, st.sampled_from(["one", "one", "two", "wide", "torn"]), st.sampled_from([1.0, 0.4, -0.7])
        ),
        max_size=3,
    ).map(tuple),
)


def from_image(request: GenerationRequest, strength: float) -> GenerationRequest:
    """The same request, from an image of its size; with a strength of 0 the request itself."""
    if not strength:
        return request
    image = an_image(request.width, request.height, seed=request.seed)
    return replace(request, init_image=image, strength=strength)


REQUESTS = st.builds(from_image, PLAIN, st.sampled_from([0.0, 0.0, 0.5, 1.0]))


@dataclass(frozen=True)
class Guest:
    """A request; when it comes and when it is cancelled, if ever, counted in deliveries."""

    request: GenerationRequest
    joins: int = 0
    cancelled: int | None = None


PLANS = st.lists(st.builds(Guest, REQUESTS, st.integers(0, 5), st.none() | st.integers(0, 8)), min_size=2, max_size=6)


@dataclass(frozen=True)
class House:
    """The models, each with its adapters, and each request's pictures when it is alone (kept: the same ones come often)."""

    settings: EngineSettings
    models: Mapping[str, Model]
    cards: Mapping[str, ModelCard]
    alone: dict[GenerationRequest, list[NDArray[np.int16]] | str]

    def solo(self, request: GenerationRequest) -> list[NDArray[np.int16]] | str:
        """What a request gives alone in an engine of its own: its pictures, or why there are none."""
        key = replace(request, request_id="solo", priority=0, owner="")
        if key not in self.alone:
            bench = Bench(lambda card, _: self.models[card.name], self.settings, cards=list(self.cards.values()))
            bench.paint(key)
            end = bench.end("solo")
            assert not isinstance(end, Canceled)
            self.alone[key] = str(end.error) if isinstance(end, Failed) else [pixels(one) for one in end.pictures]
        return self.alone[key]

    def differs(self, plan: Sequence[Guest], max_batch: int = 16, reading: int = 0) -> Iterator[str]:
        """Paint a crowd; what is not as if everyone were alone."""
        bench = crowd(self, plan, max_batch, reading)
        for number, guest in enumerate(plan):
            end, wanted = bench.end(str(number)), self.solo(guest.request)
            if isinstance(end, Canceled):
                if guest.cancelled is None:
                    yield f"{guest.request}: canceled by nobody"
            elif isinstance(end, Failed):
                if str(end.error) != wanted:
                    yield f"{guest.request}: {end.error}"
            elif isinstance(wanted, str):
                yield f"{guest.request}: painted, and alone {wanted}"
            else:
                yield from (
                    f"{guest.request}: other pixels"
                    for one, other in zip(end.pictures, wanted, strict=True)
                    if np.abs(pixels(one) - other).max() > PIXELS[self.settings.dtype]
                )


def crowd(house: House, plan: Sequence[Guest], max_batch: int, reading: int) -> Bench:
    """Everything that an engine delivered for a plan. Adapters are brought `reading` deliveries after they were asked for."""
    aside: list[tuple[int, Callable[[], None]]] = []  # when it is to be done, and what

    bench = Bench(
        lambda card, _: house.models[card.name],
        replace(house.settings, max_batch=max_batch),
        cards=list(house.cards.values()),
        aside_adapters=lambda work: aside.append((len(bench.deliveries) + reading, work)),
    )
    submitted: set[int] = set()

    def follow_plan(events: Sequence[EngineEvent]) -> None:
        for number, guest in enumerate(plan):
            if number not in submitted and len(bench.deliveries) >= guest.joins:
                submitted.add(number)
                bench.engine.submit(replace(guest.request, request_id=str(number)))
            if number in submitted and guest.cancelled == len(bench.deliveries):
                bench.engine.cancel(str(number))
        for due, work in [*aside]:
            if due <= len(bench.deliveries):
                aside.remove((due, work))
                work()

    bench.on_deliver = follow_plan
    follow_plan([])
    bench.engine.run()
    while len(submitted) < len(plan) or aside:
        bench.deliveries.append([])  # time passes for those still to come
        follow_plan([])
        bench.engine.run()
    return bench


@pytest.fixture(scope="module")
def houses(epsilon_folder: Path, v_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], House]:
    """By number format: both tiny models with three adapters, one of which takes two slots, and one that is damaged."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "torn.safetensors").write_bytes(b"no adapter")
    adapters = {
        "one": save_kohya(make(seed=1), folder / "one"),
        "two": save_peft(make(seed=2, rank=3), folder / "two"),
        "wide": save_kohya(make(seed=3, rank=11), folder / "wide"),
        "torn": folder / "torn.safetensors",
    }
    cards = {
        name: ModelCard(name=name, source=str(source), adapters=adapters)
        for name, source in (("epsilon", epsilon_folder), ("v", v_folder))
    }

    @cache
    def build(dtype: str) -> House:
        settings = replace(CPU, dtype=dtype)
        return House(settings, {name: load(card, settings) for name, card in cards.items()}, cards, {})

    return build


@pytest.fixture(scope="module")
def house(houses: Callable[[str], House]) -> House:
    """The one of float32."""
    return houses("float32")


def tried(examples: int) -> settings:
    """Try so many random crowds, the same ones each time."""
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=health)


CROWDS = {"plan": PLANS, "max_batch": st.sampled_from([1, 3, 16]), "reading": st.integers(0, 3)}


@tried(EXAMPLES)
@given(**CROWDS)
def test_solo_equals_batched(house: House, plan: Sequence[Guest], max_batch: int, reading: int) -> None:
    """With any mix of requests, adapters and solvers that join, fail and are cancelled at any time, each picture is the one
    painted alone."""
    assert list(house.differs(plan, max_batch, reading)) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@tried(max(1, EXAMPLES // 5))
@given(**CROWDS)
def test_in_half_precision(
    dtype: str, houses: Callable[[str], House], plan: Sequence[Guest], max_batch: int, reading: int
) -> None:
    """So it is in number formats of 16 bits, within what is published for each."""
    assert list(houses(dtype).differs(plan, max_batch, reading)) == []


# Without guidance a row alone is a batch of one, which matrix products take another way than a batch of several.
MIXED = [
    a_request(f"{solver} {scale}", solver=solver, guidance_scale=scale, num_inference_steps=12 + seed, seed=seed)
    for seed, solver in enumerate(SOLVERS)
    for scale in (1.0, 5.0)
]


@pytest.mark.parametrize("dtype", LATENTS)
@pytest.mark.parametrize("family", ["v", "xl"])
def test_latents(family: str, dtype: str, v_folder: Path, xl_folder: Path) -> None:
    """Of every solver, with guidance and without, rows end together where each ends alone, within what is published."""
    source = {"v": v_folder, "xl": xl_folder}[family]
    model = load(ModelCard(name="tiny", source=str(source)), replace(CPU, dtype=dtype))
    together = denoise(model, open_rows(model, MIXED))
    for request, latents in zip(MIXED, together, strict=True):
        (alone,) = denoise(model, open_rows(model, [request]))
        assert relative_error(latents, alone) < LATENTS[dtype], request.request_id


# Of one size and length, so that all rows stand at the same places in the same batches.
THREE = [
    Guest(a_request(model="epsilon", seed=seed, solver="euler_a", adapters=(AdapterUse(name, scale),)))
    for seed, name, scale in ((1, "one", 1.0), (2, "two", 0.4), (3, "one", -0.7))
]


def swap_first_two(items: Sequence[Any]) -> list[Any]:
    """The first two the other way round."""
    return [items[1], items[0], *items[2:]] if len(items) > 1 else list(items)


def swap_first_pictures(told: Sequence[Sequence[Worn]]) -> list[Sequence[Worn]]:
    """The first row, and the first of another picture, the other way round (a guided picture has two rows)."""
    other = next((number for number, row in enumerate(told) if row is not told[0]), 0)
    return [told[other], *told[1:other], told[0], *told[other + 1 :]] if other else list(told)


def swap_slots(told: Sequence[Sequence[Worn]]) -> list[list[Worn]]:
    """Two rows wear each other's adapter, at their own scale."""
    others = swap_first_pictures(told)
    return [
        [Worn(worn.resident, mine.scale) for mine, worn in zip(row, other, strict=True)]
        for row, other in zip(told, others, strict=True)
    ]


def swap_scales(told: Sequence[Sequence[Worn]]) -> list[list[Worn]]:
    """Two rows wear their own adapter at each other's scale."""
    others = swap_first_pictures(told)
    return [
        [Worn(worn.resident, yours.scale) for worn, yours in zip(row, other, strict=True)]
        for row, other in zip(told, others, strict=True)
    ]


def mutate_worn(change: Callable[[Sequence[Sequence[Worn]]], list[list[Worn]]], patch: pytest.MonkeyPatch) -> None:
    """Tell a batch something else of what its rows wear."""
    sound = stacks.AdapterStacks.line_up
    patch.setattr(stacks.AdapterStacks, "line_up", lambda self, told: sound(self, change(told)))


def mutate_noise(patch: pytest.MonkeyPatch) -> None:
    """Give the first two rows the noise of each other's generator."""
    noise = stepping.Stack._noise

    def swapped(self: stepping.Stack) -> torch.Tensor | None:
        drawn = noise(self)
        return None if drawn is None else torch.stack(swap_first_two(drawn.unbind()))

    patch.setattr(stepping.Stack, "_noise", swapped)


MUTATIONS: Mapping[str, Callable[[pytest.MonkeyPatch], None]] = {
    "slot": lambda patch: mutate_worn(swap_slots, patch),
    "scale": lambda patch: mutate_worn(swap_scales, patch),
    "generator": mutate_noise,
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_property_can_fail(mutation: str, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that swaps one row's adapter slot, scale or generator with another's is found out, and no sound one is."""
    assert list(house.differs(THREE)) == []
    with monkeypatch.context() as patch:
        MUTATIONS[mutation](patch)
        assert len(list(house.differs(THREE))) >= 2


def test_what_is_kept_for_some_rows_is_not_for_others(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that took what the layers kept for one batch into the next one is found out."""
    first, second = THREE[:1], THREE[1:2]
    assert list(house.differs(first)) + list(house.differs(second)) == []
    sound, kept = stacks.AdapterStacks.line_up, Kept()
    monkeypatch.setattr(stacks.AdapterStacks, "line_up", lambda self, told: replace(sound(self, told), kept=kept))
    assert list(house.differs(first)) == []
    assert len(list(house.differs(second))) == 1


def test_adapters_that_fail_and_that_wait(house: House) -> None:
    """The crowds above hold both: a damaged adapter, and more than there are slots."""
    torn = Guest(a_request(model="epsilon", adapters=(AdapterUse("torn"),)))
    many = [
        Guest(a_request(model="epsilon", seed=n, adapters=(AdapterUse(name),)))
        for n, name in enumerate(("one", "two", "wide"))
    ]
    wide = Guest(a_request(model="epsilon", adapters=(AdapterUse("one"), AdapterUse("wide"), AdapterUse("two"))))
    assert list(house.differs([torn, *many, wide])) == []
    assert "torn.safetensors: not a sound safetensors file" in str(house.solo(torn.request))
