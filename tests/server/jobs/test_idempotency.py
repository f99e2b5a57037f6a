"""One idempotency key of one owner, one job."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest

from server.commands import AdapterUse, Submit
from server.errors import Code, Refusal
from server.job import Job
from server.jobs.admission import hash_of
from server.webhook import HookKind, OutboxCall, Webhook
from tests.server.fakes import HoldingPool, settle
from tests.server.house import ADA, BOB, House
from tests.server.memory import MemoryJobStore
from tests.server.pictures import a_png
from watermark import ImageMark, Position, Signature, TextMark


def a_submit(**wishes: Any) -> Submit:
    """Of Ada's, under a key."""
    return Submit(**{"owner": ADA, "prompt": "a star", "idempotency_key": "key", **wishes})


async def test_the_same_key_and_body_is_the_same_job() -> None:
    """However often it is sent, live or ended: one job, one place, one painting."""
    house = House()
    first = await house.submit(a_submit())
    second = await house.submit(a_submit())
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.job.id == second.job.id == "job-1"
    assert house.places.taken == 1
    house.painter.paint("job-1")
    await settle()
    third = await house.submit(a_submit())
    assert third.duplicate
    assert third.job.state == "succeeded"
    assert house.places.taken == 0
    assert house.lifecycle.live == 0


OTHERS: list[dict[str, Any]] = [
    {"prompt": "another"},
    {"model": "other"},
    {"negative_prompt": "rain"},
    {"width": 64},
    {"height": 72},
    {"num_inference_steps": 20},
    {"guidance_scale": 4.0},
    {"seed": 1001},
    {"num_images": 2},
    {"adapters": (AdapterUse("ink"),)},
    {"solver": "dpmpp_2m"},
    {"priority": 1},
    {"deadline_seconds": 5.0},
    {"signature": Signature(TextMark("Ada"))},
    {"init_image": b"a file"},
    {"init_image": b"a file", "strength": 0.75},
    {"use_refiner": True},
    {"refiner_strength": 0.2},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda wishes: next(iter(wishes)))
def test_every_field_that_was_asked_for_counts_as_body(other: dict[str, Any]) -> None:
    """Also one that names the very default which an absent one gets."""
    assert hash_of(a_submit(**other)) != hash_of(a_submit())


def test_no_field_is_forgotten() -> None:
    """Each field of Submit either counts as body or is known not to."""
    assert {name for other in OTHERS for name in other} | {
        "owner",
        "idempotency_key",
        "preview_every_steps",
        "webhook",
        "object_key",
    } == {entry.name for entry in fields(Submit)}


@pytest.mark.parametrize(
    "wish",
    [
        {"preview_every_steps": 5},
        {"idempotency_key": "another"},
        {"webhook": Webhook(kind=HookKind.BACKEND), "object_key": "generations/gen-1.png"},
    ],
)
def test_the_wishes_and_the_key_itself_do_not_count(wish: dict[str, Any]) -> None:
    """How one wants to be told is no part of what is painted."""
    assert hash_of(a_submit(**wish)) == hash_of(a_submit())


def test_signatures_count_with_all_they_hold() -> None:
    """Text, image bytes, position and artist tell two bodies apart."""
    signatures = [
        Signature(TextMark("Ada")),
        Signature(TextMark("Bob")),
        Signature(TextMark("Ada"), position=Position.TOP_LEFT),
        Signature(TextMark("Ada"), artist="A"),
        Signature(ImageMark(a_png(8, 8))),
        Signature(ImageMark(a_png(8, 9))),
    ]
    assert len({hash_of(a_submit(signature=signature)) for signature in signatures}) == len(signatures)


async def test_the_same_key_with_another_body_is_refused() -> None:
    """IDEMPOTENCY_CONFLICT, which names the field and the first job; that one goes on."""
    house = House()
    await house.submit(a_submit())
    with pytest.raises(Refusal) as caught:
        await house.submit(a_submit(prompt="another"))
    assert (caught.value.code, caught.value.field) == (Code.IDEMPOTENCY_CONFLICT, "idempotency_key")
    assert "job-1" in str(caught.value)
    assert house.places.taken == 1


async def test_a_key_is_its_owner_s() -> None:
    """Two owners' same key are two jobs."""
    house = House()
    first = await house.submit(a_submit())
    second = await house.submit(a_submit(owner=BOB, prompt="something else"))
    assert (second.duplicate, second.job.id != first.job.id) == (False, True)


async def test_a_repeated_request_needs_no_place() -> None:
    """Full or not, the duplicate is answered."""
    house = House(pending=1, pending_per_owner=1)
    await house.submit(a_submit())
    assert (await house.submit(a_submit())).duplicate


async def test_a_repeated_request_is_not_decoded_again() -> None:
    """Its images are those that the first one came with, or it is another request."""
    pool = HoldingPool()
    pool.gate.set()
    house = House(admission_pool=pool)
    picture = a_png(64, 64)  # of noise
    wishes = {"init_image": picture, "signature": Signature(ImageMark(a_png(16, 8)))}
    assert not (await house.submit(a_submit(**wishes))).duplicate
    decoded = pool.asked
    assert (await house.submit(a_submit(**wishes))).duplicate
    with pytest.raises(Refusal, match="belongs to job"):
        await house.submit(a_submit(**wishes | {"init_image": a_png(72, 64)}))
    assert pool.asked == decoded > 0


async def test_two_at_once_under_one_key_are_one_job() -> None:
    """Both looked before either was kept: one is the duplicate, one place is held, one is painted."""
    pool = HoldingPool()
    house = House(admission_pool=pool)
    command = a_submit(signature=Signature(ImageMark(a_png())))
    both = asyncio.gather(house.submit(command), house.submit(command))
    await settle()
    assert pool.asked == 2
    pool.gate.set()
    first, second = await both
    assert first.job.id == second.job.id
    assert sorted([first.duplicate, second.duplicate]) == [False, True]
    assert house.places.taken == house.lifecycle.live == len(house.painter.known) == 1


async def test_two_at_once_under_one_key_with_different_bodies() -> None:
    """One is accepted, the other refused, and one place is held."""
    pool = HoldingPool()
    house = House(admission_pool=pool)
    signature = Signature(ImageMark(a_png()))
    commands = [a_submit(signature=signature), a_submit(signature=signature, prompt="another")]
    both = asyncio.gather(*map(house.submit, commands), return_exceptions=True)
    await settle()
    pool.gate.set()
    _, refusal = await both
    assert isinstance(refusal, Refusal)
    assert refusal.code is Code.IDEMPOTENCY_CONFLICT
    assert house.places.taken == house.lifecycle.live == 1


class EqualNotSame(MemoryJobStore):
    """Returns what it read back, as a database does, and not the object that it was given."""

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """An equal job."""
        from dataclasses import replace

        return replace(await super().admit(job, calls, leased=leased))


async def test_a_store_may_return_an_equal_job() -> None:
    """A new job is new by its id, whichever object the store returns."""
    house = House(store=EqualNotSame(10))
    admitted = await house.submit(a_submit())
    assert not admitted.duplicate
    assert house.places.taken == house.lifecycle.live == 1
