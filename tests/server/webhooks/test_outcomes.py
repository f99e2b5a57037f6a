"""What follows from what became of a call."""

from __future__ import annotations

from typing import Any

import pytest

from server.webhook import CallState, Care, Channel, Claimed, HookKind, OutboxCall, Settlement
from server.webhooks.calls import HttpCall
from server.webhooks.outcomes import Retrying, settlement
from server.webhooks.sending import Answered, Forbidden, Outcome, Unreached, Unsure

RETRYING = Retrying(first=2.0, longest=3600.0, give_up_after=86_400.0)
NOW = 1_000.0


def a_claim(
    kind: HookKind = HookKind.BACKEND, care: Care = Care.REPEATED, attempts: int = 1, since: float = NOW
) -> Claimed:
    """A call that is being made."""
    call = OutboxCall(
        id="id",
        job_id="job-1",
        name="end",
        channel=Channel.WEBHOOK,
        payload=HttpCall(kind, "POST", "https://x.test", {}).to_json(),
        position=1,
        target="x",
        care=care,
    )
    return Claimed(call, attempts, since)


def after(outcome: Outcome, at: float = NOW, random: float = 0.0, **given: Any) -> Settlement:
    """How it stands then."""
    return settlement(a_claim(**given), outcome, at=at, retrying=RETRYING, random=lambda: random)


@pytest.mark.parametrize("kind", HookKind)
@pytest.mark.parametrize("care", Care)
@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_success_is_delivered(kind: HookKind, care: Care, status: int) -> None:
    """Whatever was told to whom."""
    assert after(Answered(status), kind=kind, care=care).state is CallState.DELIVERED


@pytest.mark.parametrize("kind", HookKind)
@pytest.mark.parametrize("care", Care)
@pytest.mark.parametrize(
    "outcome",
    [Unreached("no route"), *(Answered(status) for status in (301, 302, 307, 400, 401, 403, 408, 409, 422, 429, 500, 502, 503))],
)  # fmt: skip
def test_a_definite_refusal_is_tried_again(kind: HookKind, care: Care, outcome: Outcome) -> None:
    """The receiver has said that it did not take it, or was never reached: also a call that must not be made twice."""
    settled = after(outcome, kind=kind, care=care)
    assert (settled.state, settled.next_at) == (CallState.WAITING, NOW + 2.0)
    assert settled.error


@pytest.mark.parametrize(
    ("kind", "status", "state"),
    [
        (HookKind.BACKEND, 404, CallState.DEAD),
        (HookKind.BACKEND, 410, CallState.WAITING),
        (HookKind.GENERIC, 410, CallState.DEAD),
        (HookKind.GENERIC, 404, CallState.WAITING),
    ],
)
@pytest.mark.parametrize("care", Care)
def test_each_kind_has_its_word_for_no_more(kind: HookKind, status: int, state: CallState, care: Care) -> None:
    """404: the backend knows no such generation. 410: nobody listens there any more. Then the job's other calls end too."""
    settled = after(Answered(status, excerpt="gone"), kind=kind, care=care)
    assert (settled.state, settled.ends_job) == (state, state is CallState.DEAD)
    assert settled.error == f"{status} gone"


def test_what_may_not_be_called_is_not_tried_again() -> None:
    """Nor is anything else of that job."""
    settled = after(Forbidden("leads to an address that is not public"), kind=HookKind.GENERIC)
    assert (settled.state, settled.ends_job) == (CallState.DEAD, True)


@pytest.mark.parametrize("outcome", [Unsure("no answer within 10 s"), Answered(504), Answered(524)])
@pytest.mark.parametrize(
    ("care", "state"),
    [(Care.REPEATED, CallState.WAITING), (Care.ONCE, CallState.UNKNOWN), (Care.FLEETING, CallState.DROPPED)],
)
def test_what_may_have_arrived_is_made_again_only_where_that_harms_nobody(
    outcome: Outcome, care: Care, state: CallState
) -> None:
    """`failed` waits for a person; also where somebody in between has waited in vain."""
    assert after(outcome, care=care).state is state


def test_each_retry_waits_twice_as_long_as_the_one_before() -> None:
    """Up to the longest pause, less up to a half of it by chance."""
    waits = [(after(Answered(500), attempts=attempts).next_at or 0.0) - NOW for attempts in (1, 2, 3, 11, 12, 13, 5000)]
    assert waits == [2.0, 4.0, 8.0, 2048.0, 3600.0, 3600.0, 3600.0]
    assert (after(Answered(500), attempts=3, random=1.0).next_at or 0.0) - NOW == 4.0


def test_a_receiver_s_own_word_on_when_to_come_again_is_kept() -> None:
    """Unless our pause is longer; and whoever asks for too much is tried once more before the call is given up."""
    assert after(Answered(503, retry_after=120.0)).next_at == NOW + 120.0
    assert after(Answered(503, retry_after=1.0), attempts=3).next_at == NOW + 8.0
    assert after(Answered(503, retry_after=86_400.0), at=NOW + 60.0).next_at == NOW + 86_400.0


@pytest.mark.parametrize("care", [Care.REPEATED, Care.ONCE])
def test_a_call_that_nobody_takes_is_given_up(care: Care) -> None:
    """After a day; the job's other calls are not concerned."""
    settled = after(Answered(500, excerpt="oh"), at=NOW + 86_399.0, attempts=40, care=care)
    assert settled == Settlement(settled.claimed, CallState.DEAD, "500 oh")


def test_news_are_forgotten_with_the_end_but_for_a_backend() -> None:
    """Whose milestones must stay told."""
    assert after(Answered(200), kind=HookKind.GENERIC).forget_news
    assert not after(Answered(200), kind=HookKind.GENERIC, care=Care.FLEETING).forget_news
    assert not after(Answered(200), kind=HookKind.BACKEND).forget_news
