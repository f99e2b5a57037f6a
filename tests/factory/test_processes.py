"""Custom models in real processes: what they do to others, which is nothing."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ai.custom.desk import UNLOAD_GRACE
from ai.types import (
    Answered,
    Canceled,
    DeadlineExceeded,
    EngineError,
    Failed,
    Finished,
    GenerationError,
    InputError,
    MemoryLimitExceeded,
    ModelLoadError,
    ModelReady,
    Previewed,
    Spoke,
    Started,
    Stepped,
)
from factory.processes import LINES_A_MINUTE
from tests.ai.custom.hosted import a_card, error_of, hosting

GOOD = a_card("good", "Echo")


def is_there(process: int) -> bool:
    """Whether a process runs."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_a_prediction_is_made_in_a_process_that_stays_for_the_next() -> None:
    """Started, then the output; both predictions say the same process, which is not the server's."""
    async with hosting(GOOD) as hosted:
        first = await hosted.ask("good", "first", text="ha", times=2, voice="loud")
        second = await hosted.ask("good", "second", text="ho")
        assert isinstance(first, Answered)
        assert isinstance(second, Answered)
        assert first.output["said"] == "HAHA"
        assert first.output["process"] == second.output["process"] != os.getpid()
        assert [event.request_id for event in hosted.of(Started)] == ["first", "second"]
        assert len(hosted.of(ModelReady)) == 1


async def test_what_it_yields_is_told_on_the_way() -> None:
    """Progress, text with its offsets, a preview; the text is the output where nothing is returned."""
    async with hosting(a_card("teller", "Teller")) as hosted:
        end = await hosted.ask("teller", words=3)
        assert isinstance(end, Answered)
        assert end.output == "word 0 word 1 word 2 "
        assert [(event.offset, event.text) for event in hosted.of(Spoke)] == [(7 * n, f"word {n} ") for n in range(3)]
        assert [event.fraction for event in hosted.of(Stepped)] == pytest.approx([0, 1 / 3, 2 / 3])
        (preview,) = hosted.of(Previewed)
        assert (preview.width, preview.height, preview.rgb) == (4, 2, bytes([1, 2, 3]) * 8)


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        ("raise", GenerationError, "model bad: ValueError: no such luck"),
        ("exit", GenerationError, "model bad: SystemExit: 3"),
        ("os_exit", GenerationError, "model bad: its process ended (exit status 3)"),
        ("kill", GenerationError, "model bad: its process ended (signal 9)"),
        ("fault", GenerationError, "model bad: its process ended (signal 11)"),
        ("memory_error", MemoryLimitExceeded, "model bad: found no more memory: MemoryError: no more"),
        ("garble", GenerationError, "model bad: its process wrote what is no answer, and was ended: a message of"),
        ("object", GenerationError, "model bad: predict returned what is no plain data: Object of type object is not"),
        ("nan", GenerationError, "model bad: predict returned what is no plain data: Out of range float values"),
        ("loop", GenerationError, "model bad: predict returned what is no plain data: Circular reference"),
        ("too_much", GenerationError, "model bad: predict returned more than 1,000,000 bytes of JSON"),
        ("large_picture", GenerationError, "model bad: predict gave pictures of 12,000,000 bytes; 1,000,000 are allowed"),
        ("empty_picture", GenerationError, "model bad: predict gave a picture without a pixel"),
        ("yield_nonsense", GenerationError, "model bad: predict yielded object: it may yield str, Progress and Preview"),
        ("yield_too_far", GenerationError, "model bad: predict yielded a Progress of 1.5, which is not 0 to 1"),
        ("yield_too_much", GenerationError, "model bad: predict yielded more than 1,000,000 characters"),
    ],
)  # fmt: skip
async def test_a_predict_that_does_wrong_fails_its_own_request(
    trouble: str, kind: type[EngineError], said: str
) -> None:
    """Its error names the model and the reason in one line; the next request, in a new process if need be, goes well."""
    async with hosting(a_card("bad", "Troubled"), GOOD) as hosted:
        error = error_of(await hosted.ask("bad", trouble=trouble))
        assert type(error) is kind
        assert str(error).startswith(said)
        assert "\n" not in str(error)
        assert isinstance(await hosted.ask("good", "other", text="ha"), Answered)
        again = await hosted.ask("bad", "again", trouble="print")
        assert isinstance(again, Answered)


async def test_eating_memory_is_ended_and_the_others_go_on() -> None:
    """The keeper sees what is resident and ends it; a request of another model, under way meanwhile, is not harmed."""
    async with hosting(a_card("bad", "Troubled"), a_card("deaf", "Deaf")) as hosted:
        beside = asyncio.ensure_future(hosted.ask("deaf", "beside", seconds=1.0))
        error = error_of(await hosted.ask("bad", trouble="eat"))
        assert isinstance(error, MemoryLimitExceeded)
        assert "200 MB are its limit" in str(error)
        assert isinstance(await beside, Answered)


async def test_memory_that_its_children_eat_is_its_own() -> None:
    """Also where they have a session of their own."""
    async with hosting(a_card("bad", "Troubled")) as hosted:
        error = error_of(await hosted.ask("bad", trouble="eat_in_children"))
        assert isinstance(error, MemoryLimitExceeded)


@pytest.mark.parametrize("kind", ["Deaf", "DeafToAll"])
async def test_a_predict_that_hangs_is_killed_at_its_deadline(kind: str) -> None:
    """Even while it holds Python's lock; the next request has a new process."""
    async with hosting(a_card("slow", kind, predict_seconds=0.5)) as hosted:
        error = error_of(await hosted.ask("slow"))
        assert isinstance(error, DeadlineExceeded)
        assert str(error) == "model slow: predict took more than 0.5 s, and was ended"
        assert isinstance(error_of(await hosted.ask("slow", "again")), DeadlineExceeded)
        assert len(hosted.of(ModelReady)) == 2


async def test_what_it_prints_goes_to_the_log_and_nowhere_else(capfd: pytest.CaptureFixture[str]) -> None:
    """Not into its answers, and not to the server's own terminal."""
    with capture_logs() as logged:
        async with hosting(a_card("bad", "Troubled")) as hosted:
            end = await hosted.ask("bad", trouble="print")
            assert isinstance(end, Answered)
            assert end.output == "printed"
    lines = {line["line"] for line in logged if line["event"] == "custom.printed"}
    assert {"garbage on stdout", "\x00\ufffd garbage below Python", "garbage on stderr"} <= lines
    assert capfd.readouterr() == ("", "")


async def test_a_forked_process_says_nothing() -> None:
    """One answer comes of a predict that returns twice."""
    async with hosting(a_card("bad", "Troubled")) as hosted:
        assert isinstance(await hosted.ask("bad", trouble="fork"), Answered)
        assert isinstance(await hosted.ask("bad", "again", trouble="print"), Answered)
        assert [event.output for event in hosted.of(Answered)] == ["forked", "printed"]


async def test_what_it_leaves_behind_is_ended_with_it() -> None:
    """A process in a session of its own, whose parent is gone, does not outlive the model."""
    async with hosting(a_card("bad", "Troubled")) as hosted:
        end = await hosted.ask("bad", trouble="leave_children")
        assert isinstance(end, Answered)
        (left,) = end.output
        assert is_there(left)
    assert not is_there(left)


async def test_it_inherits_no_secret_and_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the environment what is named, and of what is open its own pipes alone."""
    monkeypatch.setenv("INTERNAL_API_TOKEN", "a-token-that-nobody-else-may-see-0123456789")
    monkeypatch.setenv("HF_HOME", "/models/hub")
    async with hosting(a_card("bad", "Troubled"), named=["HF_HOME"]) as hosted:
        end = await hosted.ask("bad", trouble="inherited")
        assert isinstance(end, Answered)
        found = end.output["environment"]
        assert found["HF_HOME"] == "/models/hub"
        assert found["CUDA_VISIBLE_DEVICES"] == ""
        assert "INTERNAL_API_TOKEN" not in found
        open_files = end.output["descriptors"]
        assert all(place.startswith("pipe:") or place == "/dev/null" for place in open_files.values()), open_files
        assert len(open_files) == 5  # nothing, the log twice, requests, answers


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("LoadRaises", "model ill: load: RuntimeError: the weights are gone"),
        ("LoadExits", "model ill: load: its process ended (exit status 7)"),
        ("LoadHangs", "model ill: load took more than 3 s"),
        ("LoadEats", "model ill: load: its process took"),
        ("nowhere.at.all:Class", "model ill: load: ModuleNotFoundError: No module named 'nowhere'"),
        ("tests.ai.custom.odd:Nobody", "model ill: load: tests.ai.custom.odd has no class Nobody"),
    ],
)
async def test_a_model_that_cannot_be_loaded_fails_its_requests_alone(kind: str, said: str) -> None:
    """All that wait for it, and those that come soon without another try; other models do not notice."""
    async with hosting(a_card("ill", kind), GOOD, load_seconds=3.0) as hosted:
        both = await asyncio.gather(
            hosted.ask("ill", "one"), hosted.ask("ill", "two"), hosted.ask("good", "three", text="ha")
        )
        for end in both[:2]:
            assert isinstance(error_of(end), ModelLoadError)
            assert str(error_of(end)).startswith(said)
        assert isinstance(both[2], Answered)
        began = time.monotonic()
        assert isinstance(error_of(await hosted.ask("ill", "soon")), ModelLoadError)
        assert time.monotonic() - began < 0.5


async def test_input_that_the_class_does_not_take_names_the_field() -> None:
    """It was checked before, against what the class said of itself; here it is once more."""
    async with hosting(GOOD) as hosted:
        error = error_of(await hosted.ask("good", text="ha", times=9))
        assert isinstance(error, InputError)
        assert error.field == "times"
        assert isinstance(error_of(await hosted.ask("good", "again")), InputError)


async def test_a_flood_of_pieces_is_gathered() -> None:
    """All of the text comes, in few events; and the printed lines do not drown the log."""
    with capture_logs() as logged:
        async with hosting(a_card("chatty", "Chatty")) as hosted:
            end = await hosted.ask("chatty", pieces=20_000)
    assert isinstance(end, Answered)
    assert end.output == "a" * 20_000
    spoke = hosted.of(Spoke)
    assert "".join(event.text for event in spoke) == end.output
    assert len(spoke) + len(hosted.of(Stepped)) < 1_000
    assert len([line for line in logged if line["event"] == "custom.printed"]) <= 2 * LINES_A_MINUTE
    assert sum(line["lines"] for line in logged if line["event"] == "custom.printed_more") > 19_000


async def test_cancelling_asks_first() -> None:
    """A predict that yields stops at its next yield, and the process stays."""
    async with hosting(a_card("patient", "Patient")) as hosted:
        ended = asyncio.ensure_future(hosted.ask("patient"))
        await hosted.until("one", Stepped)
        hosted.host.cancel("one")
        assert isinstance(await ended, Canceled)
        assert isinstance(await hosted.ask("patient", "next", seconds=0.0), Answered)
        assert len(hosted.of(ModelReady)) == 1


async def test_cancelling_kills_what_does_not_listen() -> None:
    """After two seconds; the next request has a new process, at once."""
    async with hosting(a_card("deaf", "Deaf")) as hosted:
        ended = asyncio.ensure_future(hosted.ask("deaf"))
        await hosted.until("one", Started)
        hosted.host.cancel("one")
        assert isinstance(await ended, Canceled)
        assert isinstance(await hosted.ask("deaf", "next", seconds=0.0), Answered)
        assert len(hosted.of(ModelReady)) == 2


async def test_made_loaded_and_unloaded(tmp_path: Path) -> None:
    """Each once, in a process that ends by itself."""
    async with hosting(a_card("stored", f"tests.ai.custom.odd:Stored@{tmp_path}")) as hosted:
        await hosted.ask("stored", "one", word="first")
        await hosted.ask("stored", "two", word="second")
    assert (tmp_path / "life").read_text().split() == ["made", "loaded", "first", "second", "unloaded"]


async def test_an_unload_that_raises_is_an_end_too(caplog: pytest.LogCaptureFixture) -> None:
    """Which the log tells; nobody waits for the process to be killed."""
    async with hosting(a_card("sorry", "UnloadRaises")) as hosted:
        await hosted.ask("sorry")
        began = time.monotonic()
    assert time.monotonic() - began < UNLOAD_GRACE / 2
    assert "RuntimeError: not yet" in caplog.text


async def test_what_it_takes_is_told_to_the_lodgings() -> None:
    """As its keeper measures it: Python with Pillow and what it needs, in megabytes."""
    async with hosting(GOOD) as hosted:
        await hosted.ask("good", text="ha")
        await hosted.room.takes_more("good", 15_000_000)
        assert [told[0] for told in hosted.room.told if told[0] != "takes"] == ["lodge", "busy", "idle"]


async def test_a_picture_goes_in_and_out() -> None:
    """As bytes beside the JSON, and as pixels."""
    import base64
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (8, 6), (10, 20, 30)).save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    async with hosting(a_card("halves", "Halves")) as hosted:
        end = await hosted.ask("halves", image=address)
        assert isinstance(end, Finished)
        (picture,) = end.pictures
        assert (picture.width, picture.height, picture.rgb) == (4, 3, bytes([10, 20, 30]) * 12)
        bad = error_of(await hosted.ask("halves", "bad", image="data:image/png;base64,aGVsbG8="))
        assert isinstance(bad, InputError)


async def test_a_keeper_that_is_killed_takes_its_model_along() -> None:
    """The kernel sees to that; the request fails, and the next has a new process."""
    async with hosting(a_card("deaf", "Deaf"), GOOD) as hosted:
        ended = asyncio.ensure_future(hosted.ask("deaf"))
        await hosted.until("one", Started)
        process = hosted.host._desks["deaf"]._process
        os.kill(process.pid, 9)  # type: ignore[union-attr]
        error = error_of(await ended)
        assert str(error) == "model deaf: its process was ended from outside"
        assert isinstance(await hosted.ask("deaf", "next", seconds=0.0), Answered)
        assert isinstance(hosted.of(Failed)[0].error, GenerationError)
