"""What was answered before and is asked again: answered from there, by all the ways of a job but the engine's."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ai.custom.cards import ClassPath, CustomCard
from ai.types import GenerationError, Picture
from server import events
from server.commands import AdapterUse, Predict
from server.job import JobState
from server.jobs.announcing import Announcers
from server.jobs.answers import Answers
from server.pools import InlinePool
from server.webhook import Channel, OutboxCall
from tests.server.fakes import CARD, OTHER_CARD, TEXT_CARD, Recorder, picture_key, settle
from tests.server.house import ADA, BOB, House
from watermark import ImageMark, Signature, TextMark, encode_png

SAME: dict[str, Any] = {"prompt": "a red star", "seed": 7, "num_images": 2, "signature": Signature(TextMark("Ada"))}
CUSTOM = CustomCard(
    name="scaler",
    path=ClassPath("a.b", "C"),
    input_schema={"scale": {"type": "integer", "default": 2}},
    repeatable=True,
    code=("/srv/models/scaler.py",),
)


def a_house(**given: Any) -> House:
    """One that answers as before for an hour."""
    cards = given.pop("cards", (CARD, OTHER_CARD, TEXT_CARD, CUSTOM))
    return House(answer_seconds=3600.0, cards=cards, **given)


async def painted(house: House, **wishes: Any) -> str:
    """A job that the engine has painted; its id."""
    job = await house.job(**{**SAME, **wishes})
    await settle()
    house.painter.paint(job.id)
    await settle()
    assert (await house.kept(job.id)).state is JobState.SUCCEEDED
    return job.id


async def is_answered(house: House, **wishes: Any) -> bool:
    """Whether such a job has its end without the engine."""
    job = await house.job(**{**SAME, **wishes})
    await settle()
    if job.id in house.painter.known:
        house.lifecycle.cancel(job.id)
        house.painter.confirm_cancel(job.id)
        await settle()
        return False
    kept = await house.kept(job.id)
    assert (kept.state, kept.cached) == (JobState.SUCCEEDED, True)
    return True


def opened(png: bytes) -> Image.Image:
    """A stored picture."""
    return Image.open(io.BytesIO(png))


async def test_the_same_again_is_not_painted_again() -> None:
    """The second job says what any other says, and has the same pictures as its own: under its keys, and naming it."""
    house = a_house()
    first = await painted(house)
    job, watcher = await house.followed(**SAME)
    await settle()
    assert job.id not in house.painter.known
    assert watcher.kinds == ["Accepted", "Progress", "Succeeded"]
    progress = watcher.events[1]
    assert isinstance(progress, events.Progress)
    assert (progress.phase, progress.fraction) == (events.Phase.FINISHING, 1.0)
    kept = await house.kept(job.id)
    assert (kept.state, kept.attempts, kept.figures) == (JobState.SUCCEEDED, 1, {"cached": 1.0})
    assert kept.started_at is not None
    assert [one.key for one in kept.artifacts] == [picture_key(job.id), picture_key(job.id, 1)]
    assert [one.seed for one in kept.artifacts] == [7, 8]
    for before, now in zip((await house.kept(first)).artifacts, kept.artifacts, strict=True):
        old, new = opened(house.artifacts.stored[before.key]), opened(house.artifacts.stored[now.key])
        assert (new.tobytes(), new.size) == (old.tobytes(), old.size)
        assert new.info == {**old.info, "job_id": job.id}
        assert new.info["prompt"] == "a red star"
    assert house.is_free()


async def test_who_does_not_want_it_has_all_painted() -> None:
    """It is off unless a setting says how long an answer holds."""
    house = House()
    await painted(house)
    assert not await is_answered(house)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 8},
        {"prompt": "a red Star"},
        {"negative_prompt": "blue"},
        {"num_images": 1},
        {"num_inference_steps": 19},
        {"guidance_scale": 4.5},
        {"width": 72},
        {"solver": "euler"},
        {"signature": None},
        {"signature": Signature(TextMark("Ada"), opacity=0.5)},
        {"signature": Signature(ImageMark(encode_png(Image.new("RGB", (8, 8), "red"), {})))},
        {"owner": BOB},
    ],
    ids=str,
)
async def test_what_is_not_the_same_is_painted(other: dict[str, Any]) -> None:
    """Whatever a picture follows from, how it is signed, and whose it is."""
    house = a_house()
    await painted(house)
    assert not await is_answered(house, **other)
    assert await is_answered(house)


async def test_how_it_is_told_changes_nothing() -> None:
    """Priority, previews, a deadline and the name it is stored under are not part of a picture."""
    house = a_house()
    await painted(house)
    assert await is_answered(
        house, priority=5, preview_every_steps=2, deadline_seconds=9.0, object_key="generations/gen-7.png"
    )
    assert {"generations/gen-7.png", "generations/gen-7-1.png"} <= set(house.artifacts.stored)


async def test_an_image_mark_counts_by_its_pixels() -> None:
    """Two of the same size are told apart."""
    house = a_house()
    red, blue = (
        Signature(ImageMark(encode_png(Image.new("RGB", (8, 8), colour), {}))) for colour in ("#ff0000", "#0000ff")
    )
    await painted(house, signature=red)
    assert not await is_answered(house, signature=blue)
    assert await is_answered(house, signature=red)


async def test_an_init_image_counts_by_its_pixels() -> None:
    """The same file again is the same; another is not."""
    house = a_house()
    red, blue = (encode_png(Image.new("RGB", (64, 64), colour), {}) for colour in ("red", "blue"))
    await painted(house, init_image=red, strength=0.5)
    assert not await is_answered(house, init_image=blue, strength=0.5)
    assert not await is_answered(house, init_image=red, strength=0.6)
    assert await is_answered(house, init_image=red, strength=0.5)


async def test_who_names_no_seed_has_a_new_picture_each_time() -> None:
    """Its seed was drawn; who names that one has the same again."""
    house = a_house()
    first = await painted(house, seed=None)
    assert not await is_answered(house, seed=None)
    assert await is_answered(house, seed=(await house.kept(first)).request.seed)


async def test_adapters_count_by_their_content_and_scale_in_any_order(tmp_path: Any) -> None:
    """A file that has changed under its name is another adapter; one that was moved is the same."""
    styles = {name: tmp_path / f"{name}.safetensors" for name in ("ink", "chalk", "charcoal")}
    for name, path in styles.items():
        path.write_bytes(name.encode())
    house = a_house(cards=(CARD, replace(CARD, name="styled", adapters=styles)))

    def worn(*names: str) -> dict[str, Any]:
        return {"model": "styled", "adapters": tuple(AdapterUse(name, 0.5) for name in names)}

    await painted(house, **worn("ink", "chalk"))
    assert await is_answered(house, **worn("chalk", "ink"))
    assert not await is_answered(house, **worn("ink"))
    styles["charcoal"].write_bytes(b"chalk")
    assert await is_answered(house, **worn("ink", "charcoal"))
    styles["ink"].write_bytes(b"another ink")
    assert not await is_answered(house, **worn("ink", "chalk"))


async def test_fetched_adapters_are_held_until_the_answer_is_there(tmp_path: Any) -> None:
    """As for any job; then they are let go. What was fetched anew, and is another file, is another adapter."""
    house = a_house()
    house.adapters.root = str(tmp_path)
    fox = tmp_path / "s3:" / "styles" / "fox.safetensors"
    fox.parent.mkdir(parents=True)
    fox.write_bytes(b"fox")
    worn = {"adapters": (AdapterUse("s3://styles/fox.safetensors"),)}
    await painted(house, **worn)
    assert await is_answered(house, **worn)
    fox.write_bytes(b"a younger fox")
    assert not await is_answered(house, **worn)
    assert sum(house.adapters.held.values()) == 0
    assert house.is_free()


async def test_a_model_whose_files_change_is_not_answered_from_before(tmp_path: Any) -> None:
    """Nobody knows which of them the engine has in memory, until the next start."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    house = a_house(cards=(CARD, replace(CARD, name="mine", source=str(tmp_path))))
    await painted(house, model="mine")
    assert await is_answered(house, model="mine")
    weights.write_bytes(b"new weights")
    assert not await is_answered(house, model="mine")
    await painted(house, model="mine")
    assert not await is_answered(house, model="mine")


async def test_an_answer_holds_for_so_long() -> None:
    """From when it was painted, however often it was given meanwhile."""
    house = a_house()
    await painted(house)
    await house.pass_time(1800.0)
    assert await is_answered(house)
    await house.pass_time(1801.0)
    assert not await is_answered(house)
    await painted(house)
    assert await is_answered(house)


@pytest.mark.parametrize("how", ["deleted", "damaged", "cut", "unreadable"])
async def test_where_the_pictures_are_gone_it_is_painted_anew(how: str) -> None:
    """Deleted by the cleaning or by hand, not what was stored, or in a storage that is away; then the new ones are given."""
    house = a_house()
    first = await painted(house)
    key = picture_key(first, 1)
    png = house.artifacts.stored[key]
    if how == "deleted":
        await house.artifacts.delete(key)
    elif how == "damaged":
        house.artifacts.stored[key] = png[:-20] + bytes(20)
    elif how == "cut":
        house.artifacts.stored[key] = png[:-20]
    else:
        house.artifacts.read_error = OSError("away")
    stored = set(house.artifacts.stored)
    second = await house.job(**SAME)
    await settle()
    assert second.id in house.painter.known
    assert set(house.artifacts.stored) == stored, "nothing half copied is left"
    house.painter.paint(second.id)
    await settle()
    house.artifacts.read_error = None
    assert await is_answered(house)


async def test_the_same_at_once_is_painted_for_each() -> None:
    """Nobody waits for another's picture; whoever comes later has it."""
    house = a_house()
    jobs = await asyncio.gather(*(house.job(**SAME) for _ in range(3)))
    await settle()
    assert set(house.painter.known) == {job.id for job in jobs}
    for job in jobs:
        house.painter.paint(job.id)
    await settle()
    later = await asyncio.gather(*(house.job(**SAME) for _ in range(3)))
    await settle()
    kept = [await house.kept(job.id) for job in later]
    assert all(job.cached for job in kept)
    assert len({artifact.key for job in kept for artifact in job.artifacts}) == 6
    assert house.is_free()


async def test_a_job_can_be_canceled_while_its_pictures_are_copied() -> None:
    """It is canceled, and what was copied is deleted."""
    house = a_house()
    await painted(house)
    stored = set(house.artifacts.stored)
    house.artifacts.gate = asyncio.Event()
    job = await house.job(**SAME)
    await settle()
    house.lifecycle.cancel(job.id)
    await settle()
    house.artifacts.gate.set()
    await settle()
    assert (await house.kept(job.id)).state is JobState.CANCELED
    assert set(house.artifacts.stored) == stored
    assert house.is_free()


async def test_what_failed_or_was_canceled_is_no_answer() -> None:
    """The same is painted."""
    house = a_house()
    failed, canceled = await house.job(**SAME), await house.job(**SAME)
    await settle()
    house.painter.fail(failed.id, GenerationError("no"))
    house.lifecycle.cancel(canceled.id)
    house.painter.confirm_cancel(canceled.id)
    await settle()
    assert not await is_answered(house)


async def test_its_webhook_is_called_as_for_any_job() -> None:
    """With each of its states, once."""

    class Noting:
        def calls(self, job: Any) -> list[OutboxCall]:
            told = f"{job.id} {job.state.value}"
            return [
                OutboxCall(
                    id=told, job_id=job.id, name=job.state.value, channel=Channel.WEBHOOK, payload="{}", position=0
                )
            ]

    house = a_house(announcer=Announcers([Noting()]))
    await painted(house)
    job = await house.job(**SAME)
    await settle()
    names = [name for job_id, name in house.store.calls if job_id == job.id]  # type: ignore[attr-defined]
    assert names == ["queued", "processing", "succeeded"]


async def test_a_text_is_told_whole() -> None:
    """In one piece, with its figures, and as its output."""
    house = a_house()
    first = await house.text(given={"seed": 4})
    await settle()
    house.painter.start(first.id)
    house.painter.answer(first.id, "upon a time")
    await settle()
    job = await house.text(given={"seed": 4})
    watcher = Recorder()
    await house.board.follow(job.id, watcher)
    await settle()
    assert job.id not in house.painter.texts
    told = [(event.offset, event.text) for event in watcher.events if isinstance(event, events.Output)]
    assert told == [(0, "upon a time")]
    assert (watcher.succeeded.output, watcher.succeeded.figures) == (
        "upon a time", {"input_token_count": 2, "output_token_count": 3, "cached": 1.0},
    )  # fmt: skip
    for other in ({"seed": 5}, {"seed": 4, "temperature": 0.5}, {"seed": 4, "stop": ["."]}):
        job = await house.text(given=other)
        await settle()
        assert job.id in house.painter.texts


async def is_scaled_anew(house: House) -> bool:
    """Whether the custom model is asked for this."""
    job = (await house.submit(Predict(owner=ADA, model="scaler", input={}))).job
    await settle()
    if anew := job.id in house.painter.texts:
        house.painter.start(job.id)
        house.painter.depict(job.id, Picture(0, 2, 2, bytes(12)))
        await settle()
    return anew


async def test_a_custom_model_is_known_by_all_the_files_that_it_may_run(tmp_path: Path) -> None:
    """One of them changes, and nothing is answered as before: which of them its process has imported is not known."""
    files = tmp_path / "scaler.py", tmp_path / "filters.py"
    for file in files:
        file.write_text("")
    house = a_house(cards=(CARD, replace(CUSTOM, code=tuple(map(str, files)))))
    assert [await is_scaled_anew(house) for _ in range(2)] == [True, False]
    files[1].write_text("radius = 3")
    assert [await is_scaled_anew(house) for _ in range(2)] == [True, True]


async def test_each_file_of_a_custom_model_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every prediction: there may be hundreds."""
    files = [tmp_path / f"{number}.py" for number in range(5)]
    for file in files:
        file.write_text("")
    house = a_house(cards=(CARD, replace(CUSTOM, code=tuple(map(str, files)))))
    looked: list[str] = []
    look = os.stat

    def noted(path: Any, **given: Any) -> os.stat_result:
        looked.append(str(path))
        return look(path, **given)

    monkeypatch.setattr(os, "stat", noted)
    assert await is_scaled_anew(house)
    assert [path for path in looked if path.startswith(str(tmp_path))] == list(map(str, files))


async def test_of_custom_models_those_that_say_they_are_repeatable() -> None:
    """Another class may look at the clock; of one whose files cannot be told nobody knows when it has changed."""
    for card, answered in (
        (CUSTOM, True),
        (replace(CUSTOM, repeatable=False), False),
        (replace(CUSTOM, code=()), False),
    ):
        house = a_house(cards=(CARD, card))
        assert await is_scaled_anew(house)
        assert await is_scaled_anew(house) is not answered


async def test_records_that_are_away_cost_nobody_a_picture() -> None:
    """It is painted, and its end is told; only it will not be found."""
    house = a_house()
    house.answers.away = True
    await painted(house)
    await painted(house)
    house.answers.away = False
    assert not await is_answered(house)


async def test_settings_that_change_pictures_are_part_of_the_key() -> None:
    """Another number format, or another version of the server, is another picture."""
    house = a_house()
    job = await house.job(**SAME)

    def answers(salt: str) -> Answers:
        return Answers(
            records=house.answers, store=house.store, card=house.catalogue.card, pool=InlinePool(),
            clock=house.clock, seconds=60.0, salt=salt,
        )  # fmt: skip

    assert await answers("float32").key(job, {}) == await answers("float32").key(job, {})
    assert await answers("float32").key(job, {}) != await answers("float16").key(job, {})
