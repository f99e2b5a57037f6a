"""One model's queue and process, by a clock that a test advances and processes that do what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ai.custom.desk import CANCEL_GRACE, FIRST_PAUSE, LAST_PAUSE, RETRY_SECONDS, UNLOAD_GRACE
from ai.types import (
    Answered,
    Canceled,
    DeadlineExceeded,
    EngineStopped,
    Failed,
    GenerationError,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    OutOfMemory,
    Saved,
    Started,
    Stepped,
)
from tests.ai.custom.hosted import Room, a_request
from tests.ai.custom.office import Office


def test_a_process_is_begun_for_the_first_request_and_kept() -> None:
    """Room is asked for, then it loads, then it predicts one after the other; when there is no more, it is idle."""
    office = Office()
    assert office.processes == []
    office.submit("a", "b")
    assert office.room.told == [("lodge", "model", 256 << 20)]
    assert office.asked() == ["load"]
    office.process.say("loaded")
    office.process.say("done", output=1)
    office.process.say("done", output=2)
    assert office.asked() == ["load", "a", "b"]
    told = office.heard()
    assert [type(event) for event in told] == [ModelLoading, ModelReady, Started, Answered, Started, Answered]
    assert [event.output for event in told if isinstance(event, Answered)] == [1, 2]
    assert office.room.told[1:] == [("busy", "model"), ("busy", "model"), ("idle", "model")]
    assert len(office.processes) == 1


def test_a_higher_priority_comes_first() -> None:
    """Among those that wait; equals in the order in which they came."""
    office = Office()
    office.ready()
    office.submit("first", "second", "third")
    office.submit("urgent", priority=1)
    for _ in range(4):
        office.process.say("done", output="")
    assert office.asked() == ["first", "urgent", "second", "third"]


def test_owners_have_equal_shares() -> None:
    """Among those of one priority; one who asks for much does not hold up who asks for little."""
    office = Office()
    office.ready()
    for name, owner in (("a1", "ann"), ("a2", "ann"), ("a3", "ann"), ("b1", "bob"), ("b2", "bob"), ("c1", "cem")):
        office.host.submit(replace(a_request(name, "model"), owner=owner))
    for _ in range(6):
        office.process.say("done", output="")
    assert office.asked() == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_an_answer_to_an_older_asking_is_none_to_this() -> None:
    """Room that was granted when it was given up already is not taken."""
    office = Office(Room(open=False))
    office.submit("a")
    older = office.room.lodgers["model"]
    office.host.cancel("a")
    office.submit("b")
    older.granted()
    older.leave()
    assert office.processes == []
    office.room.lodgers["model"].granted()
    office.process.say("loaded")
    assert office.asked() == ["load", "b"]


def test_it_waits_for_room() -> None:
    """Nothing is begun before there is some; the line is left when nobody wants it any more."""
    office = Office(Room(open=False))
    office.submit("a", "b")
    assert office.processes == []
    office.host.cancel("a")
    assert "model" in office.room.lodgers
    office.host.cancel("b")
    assert office.room.lodgers == {}
    assert [type(event) for event in office.heard()] == [ModelLoading, Canceled, Canceled, ModelUnloaded]


def test_room_that_there_will_never_be() -> None:
    """Its requests fail with the budget's own error."""
    office = Office(Room(open=False), memory=10**12)
    office.submit("a")
    error = OutOfMemory("model: takes 1,000,000 MB; 100 MB may be used")
    office.room.lodgers.pop("model").refused(error)
    assert [event.error for event in office.heard() if isinstance(event, (Failed, ModelUnavailable))] == [error] * 2


def test_what_it_was_seen_to_take_is_what_it_asks_for_next() -> None:
    """The budget is told as it grows, and the next process asks for that at once."""
    office = Office()
    office.ready()
    office.process.listener.takes(700_000_000)
    assert office.room.told[-1] == ("takes", "model", 700_000_000)
    office.process.over(code=1)
    office.submit("again")
    office.clock.advance(FIRST_PAUSE)
    assert office.room.told[-1] == ("lodge", "model", 700_000_000)


def test_what_it_took_too_much_is_not_what_it_asks_for() -> None:
    """Else one request that made it fill its limit would keep it out of a small budget for good."""
    office = Office()
    office.ready()
    office.process.listener.takes(9_000_000_000)
    office.process.over("memory", peak=9_000_000_000)
    office.submit("next")
    office.clock.advance(FIRST_PAUSE)
    assert office.room.told[-1] == ("lodge", "model", 256 << 20)


def test_a_declared_size_is_the_least_that_counts() -> None:
    """A class that says what it takes is not counted for less before it takes it."""
    office = Office(memory=500_000_000)
    office.ready()
    office.process.listener.takes(100_000_000)
    assert office.room.told[0] == ("lodge", "model", 500_000_000)
    assert office.room.told[-1] == ("takes", "model", 500_000_000)


def test_an_idle_process_goes_when_its_room_is_wanted() -> None:
    """It is asked to unload, and its room is free when it has ended; the next request has another."""
    office = Office()
    office.ready()
    office.room.lodgers["model"].leave()
    assert office.asked() == ["unload"]
    assert "model" in office.room.lodgers
    office.process.say("unloaded")
    office.process.over(code=0)
    assert office.room.lodgers == {}
    assert [type(event) for event in office.heard()] == [ModelUnloaded]
    office.submit("next")
    assert len(office.processes) == 2


def test_an_unload_that_hangs_is_ended() -> None:
    """After its grace."""
    office = Office()
    office.ready()
    office.room.lodgers["model"].leave()
    office.clock.advance(UNLOAD_GRACE - 0.1)
    assert office.process.ends == 0
    office.clock.advance(0.1)
    assert office.process.ends == 1


def test_a_busy_process_goes_after_what_it_is_at() -> None:
    """Those behind it wait in line for room again."""
    office = Office()
    office.ready()
    office.submit("a", "b")
    office.room.lodgers["model"].leave()
    assert office.asked() == ["a"]
    office.process.say("done", output="")
    assert office.asked() == ["a", "unload"]
    office.room.open = False
    office.process.over(code=0)
    assert len(office.processes) == 1
    office.room.lodgers["model"].granted()
    office.process.say("loaded")
    assert office.asked() == ["load", "b"]


def test_processes_that_end_badly_are_begun_again_later_and_later() -> None:
    """The pause doubles, up to a minute, and is forgotten after a prediction that went well."""
    office = Office()
    office.submit(*(f"bad {n}" for n in range(10)), "good", "bad again", "last")
    pauses = []
    for number in range(10):
        office.process.say("loaded")
        office.process.over(signal=11)
        assert len(office.processes) == number + 1
        began = office.clock.seconds()
        while len(office.processes) == number + 1:
            office.clock.advance(FIRST_PAUSE)
        pauses.append(office.clock.seconds() - began)
    assert pauses == [min(FIRST_PAUSE * 2**n, LAST_PAUSE) for n in range(10)]
    failed = [event for event in office.heard() if isinstance(event, Failed)]
    assert [str(event.error) for event in failed] == ["model model: its process ended (signal 11)"] * 10
    office.process.say("loaded")
    office.process.say("done", output="")
    office.process.over(signal=11)
    office.clock.advance(FIRST_PAUSE)
    assert len(office.processes) == 12


def test_a_process_that_ends_while_idle_harms_nobody() -> None:
    """The next request has another."""
    office = Office()
    office.ready()
    office.process.over(signal=9)
    assert [type(event) for event in office.heard()] == [ModelUnloaded]
    office.submit("next")
    office.clock.advance(FIRST_PAUSE)
    assert len(office.processes) == 2


def test_a_deadline_kills_and_the_next_goes_on() -> None:
    """The process is ended, and only then the request told to have failed: its place is free then."""
    office = Office(predict_seconds=5.0)
    office.submit("slow", "next")
    office.process.say("loaded")
    office.clock.advance(4.9)
    assert office.process.ends == 0
    office.clock.advance(0.1)
    assert office.process.ends == 1
    office.process.say("done", output="too late")
    assert not [event for event in office.heard() if isinstance(event, (Answered, Failed))]
    office.process.over("stopped")
    (failed,) = [event for event in office.heard() if isinstance(event, Failed)]
    assert failed.request_id == "slow"
    assert isinstance(failed.error, DeadlineExceeded)
    office.clock.advance(FIRST_PAUSE)
    office.process.say("loaded")
    assert office.asked() == ["load", "next"]


def test_cancelling_what_waits_and_what_runs() -> None:
    """What waits goes at once; what runs is asked, and whatever it then says, it was cancelled."""
    office = Office()
    office.ready()
    office.submit("running", "waiting")
    office.host.cancel("waiting")
    office.host.cancel("running")
    office.host.cancel("running")
    office.host.cancel("nobody")
    assert office.asked() == ["running", "running"]
    assert office.process.asked[-1]["do"] == "cancel"
    office.process.say("done", output="too late")
    told = office.heard()
    assert [event.request_id for event in told if isinstance(event, Canceled)] == ["waiting", "running"]
    assert not [event for event in told if isinstance(event, Answered)]
    office.clock.advance(CANCEL_GRACE)
    assert office.process.ends == 0


def test_cancelling_what_does_not_listen() -> None:
    """Its process is ended after the grace, without a pause for the next."""
    office = Office()
    office.ready()
    office.submit("running", "next")
    office.host.cancel("running")
    office.clock.advance(CANCEL_GRACE)
    assert office.process.ends == 1
    office.process.over("stopped")
    assert [event.request_id for event in office.heard() if isinstance(event, Canceled)] == ["running"]
    assert len(office.processes) == 2


def test_a_model_that_cannot_be_loaded_is_left_alone_for_a_while() -> None:
    """All that wait fail with the reason, and so does who comes within a minute; then it is tried again."""
    office = Office()
    office.submit("a", "b")
    office.process.say("failed", kind="raised", reason="RuntimeError: no weights", trace="…")
    assert office.process.ends == 1
    office.process.over("stopped")
    told = office.heard()
    assert [event.request_id for event in told if isinstance(event, Failed)] == ["a", "b"]
    (unavailable,) = [event for event in told if isinstance(event, ModelUnavailable)]
    assert str(unavailable.error) == "model model: load: RuntimeError: no weights"
    office.submit("soon")
    (failed,) = office.heard()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ModelLoadError)
    office.clock.advance(RETRY_SECONDS)
    office.submit("later")
    assert len(office.processes) == 2


def test_a_process_that_cannot_be_begun() -> None:
    """The machine has no more: the requests fail, and the room is given back."""
    office = Office()
    office.refuse_to_launch = True
    office.submit("a")
    failed = [event for event in office.heard() if isinstance(event, Failed)]
    assert [str(event.error) for event in failed] == [
        "model model: its process could not be begun: Resource temporarily unavailable"
    ]
    assert office.room.lodgers == {}


def test_a_card_with_a_problem_is_told_at_the_start() -> None:
    """Its requests fail with it, and no process is begun."""
    office = Office(problem="a.b:C: ModuleNotFoundError: No module named 'a'")
    office.host.start()
    office.submit("a")
    unavailable, failed = office.heard()
    assert isinstance(unavailable, ModelUnavailable)
    assert isinstance(failed, Failed)
    assert str(failed.error) == "model model: a.b:C: ModuleNotFoundError: No module named 'a'"
    assert office.processes == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("loaded", {}),
        ("surprise", {}),
        ("progress", {}),
        ("progress", {"fraction": "half"}),
        ("preview", {"size": [2, 2]}),
        ("done", {}),
        ("done", {"sizes": [[1, 1]]}),
        ("done", {"sizes": []}),
        ("failed", {}),
    ],
)
def test_what_a_process_says_that_makes_no_sense_ends_it(said: str, told: dict[str, Any]) -> None:
    """Its request fails; nothing is raised here."""
    office = Office()
    office.ready()
    office.submit("a")
    office.process.say(said, **told)
    assert office.process.ends == 1
    office.process.over("stopped")
    (failed,) = [event for event in office.heard() if isinstance(event, Failed)]
    assert isinstance(failed.error, GenerationError)
    assert "wrote what is no answer" in str(failed.error)


def test_a_prediction_has_the_seconds_that_its_process_was_at_it() -> None:
    """From the call to its end, however it ended; on the way its progress says how many so far."""
    office = Office()
    office.ready()
    office.submit("a", "b", "c")
    office.clock.advance(3)
    office.process.say("progress", fraction=0.5)
    office.clock.advance(2)
    office.process.say("done", output=1)
    office.clock.advance(4)
    office.process.say("failed", kind="raised", reason="no", trace="")
    office.clock.advance(1)
    office.process.over(signal=9)
    told = [event for event in office.heard() if isinstance(event, (Stepped, Answered, Failed))]
    assert [event.device_seconds for event in told] == [3, 5, 4, 1]


def test_progress_beyond_its_bounds_is_brought_within_them() -> None:
    """And says when it may be done."""
    office = Office()
    office.ready()
    office.submit("a")
    office.clock.advance(3)
    for fraction in (0.25, 7, -1):
        office.process.say("progress", fraction=fraction)
    told = [event for event in office.heard() if isinstance(event, Stepped)]
    assert [(event.step, event.total, event.fraction, event.eta_seconds) for event in told] == [
        (25, 100, 0.25, 9.0),
        (100, 100, 1.0, 0.0),
        (0, 100, 0.0, 0.0),
    ]


def test_there_is_nothing_to_save() -> None:
    """Which is said of what runs and of what waits, so that a stopping server need not wait for it."""
    office = Office()
    office.ready()
    office.submit("a", "b")
    office.heard()
    for name in ("a", "b", "nobody"):
        office.host.save(name)
    assert office.heard() == [Saved("a", ()), Saved("b", ())]


def test_a_stop_gives_all_up_and_waits_for_the_process() -> None:
    """What waits and what runs is cancelled, and the process ended; then it says so, and takes no more."""
    office = Office()
    office.ready()
    office.submit("a", "b")
    stopped: list[bool] = []
    office.host.stop(lambda: stopped.append(True))
    assert office.process.ends == 1
    assert stopped == []
    office.process.over("stopped")
    assert stopped == [True]
    ends = [event for event in office.heard() if isinstance(event, (Failed, Canceled))]
    assert [type(event) for event in ends] == [Canceled, Canceled]
    with pytest.raises(EngineStopped):
        office.submit("late")


def test_a_stop_lets_an_idle_model_unload() -> None:
    """As when its room is wanted."""
    office = Office()
    office.ready()
    stopped: list[bool] = []
    office.host.stop(lambda: stopped.append(True))
    assert office.asked() == ["unload"]
    office.process.over(code=0)
    assert stopped == [True]


def test_a_stop_without_a_process_is_at_once() -> None:
    """Also while it waits for room."""
    for room in (Room(), Room(open=False)):
        office = Office(room)
        if not room.open:
            office.submit("a")
        stopped: list[bool] = []
        office.host.stop(lambda stopped=stopped: stopped.append(True))  # type: ignore[misc]
        assert stopped == [True]
        assert office.room.lodgers == {}
