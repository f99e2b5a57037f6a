"""What is told of a job, and when."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import Code, JobFailure
from server.events import Phase, Progress
from server.job import TERMINAL, Job, JobState
from server.webhook import ALL_EVENTS, Care, HookEvent, HookKind, OutboxCall, Webhook
from server.webhooks.calls import (
    BACKEND_CODES,
    MILESTONES,
    PROGRESS_EVERY,
    TRUSTED,
    BackendCode,
    HttpCall,
    Said,
    calls_of,
    origin,
    progress_call,
    refused_calls,
)
from tests.server.database.contract import ARTIFACT, FAILURE, a_job

BACKEND = "http://backend.test:3000"
URL = "https://hooks.test/jobs?token=x"


def hooked(state: JobState = JobState.PROCESSING, **changes: Any) -> Job:
    """A job of generation 17, of which the backend is told."""
    hook = {"kind": HookKind.BACKEND, "generation_id": 17, **changes.pop("hook", {})}
    return a_job(state=state, last_event=changes.pop("last_event", 4), webhook=Webhook(**hook), **changes)


def generic(state: JobState = JobState.PROCESSING, events: frozenset[HookEvent] = ALL_EVENTS, **changes: Any) -> Job:
    """A job of which somebody else is told."""
    hook = Webhook(kind=HookKind.GENERIC, url=URL, events=events)
    return a_job(state=state, last_event=4, webhook=hook, **changes)


def progress(fraction: float, number: int = 5, step: int = 0, of: int = 50, eta: float = 1.2) -> Progress:
    """A job's progress."""
    return Progress(
        number=number,
        job_id="job-1",
        phase=Phase.DENOISING,
        step=step or round(fraction * of),
        total_steps=of,
        fraction=fraction,
        eta_seconds=eta,
    )


def told(call: OutboxCall) -> HttpCall:
    """What a call carries."""
    return HttpCall.from_json(call.payload)


def milestones(job: Job, steps: int) -> list[tuple[str, int]]:
    """What a backend hears of a painting: the call's name and the per cent in it."""
    heard = [(call.name, told(call).body["progress"]["progress_percent"]) for call in calls_of(job, BACKEND)]
    said = Said()
    for step in range(1, steps + 1):
        found = progress_call(job, progress(step / steps, step, of=steps), said, 0.0, BACKEND)
        if found is not None:
            call, said = found
            heard.append((call.name, told(call).body["progress"]["progress_percent"]))
    return heard


# A backend


def test_the_beginning_is_the_first_milestone() -> None:
    """PATCH progress with 0 %, as soon as the job is being painted."""
    [call] = calls_of(hooked(), BACKEND)
    assert told(call) == HttpCall(
        HookKind.BACKEND,
        "PATCH",
        "/api/webhooks/inference/progress",
        {
            "generation_id": 17,
            "progress": {"current_step": 0, "total_steps": 6, "progress_percent": 0, "estimated_seconds": 0},
        },
    )
    assert (call.target, call.care, call.position) == (TRUSTED, Care.FLEETING, 4)


@pytest.mark.parametrize(
    ("steps", "heard"),
    [
        (50, [("progress-0", 0), ("progress-25", 26), ("progress-50", 50), ("progress-75", 76), ("progress-90", 90)]),
        (8, [("progress-0", 0), ("progress-25", 25), ("progress-50", 50), ("progress-75", 75), ("progress-90", 100)]),
        (100, [("progress-0", 0), ("progress-25", 25), ("progress-50", 50), ("progress-75", 75), ("progress-90", 90)]),
        (4, [("progress-0", 0), ("progress-25", 25), ("progress-50", 50), ("progress-75", 75), ("progress-90", 100)]),
        (3, [("progress-0", 0), ("progress-25", 33), ("progress-50", 66), ("progress-90", 100)]),
        (1, [("progress-0", 0), ("progress-90", 100)]),
    ],
)
def test_each_milestone_is_told_once_when_it_is_reached_or_passed(steps: int, heard: list[tuple[str, int]]) -> None:
    """Whatever the number of steps; of several that one step passes, the last."""
    assert milestones(hooked(), steps) == heard
    assert [int(name.removeprefix("progress-")) for name, _ in milestones(hooked(), 100)] == list(MILESTONES)


def test_progress_says_how_far_and_how_long() -> None:
    """Whole numbers, the remaining seconds rounded up."""
    found = progress_call(hooked(), progress(0.29, number=7, step=29, of=100, eta=12.01), Said(), 0.0, BACKEND)
    assert found is not None
    call, said = found
    assert told(call).body["progress"] == {
        "current_step": 29, "total_steps": 100, "progress_percent": 29, "estimated_seconds": 13,
    }  # fmt: skip
    assert (call.position, call.care, said.milestone) == (7, Care.FLEETING, 25)


def test_a_retry_tells_no_milestone_again() -> None:
    """What was said once stays said, though the painting begins anew."""
    assert progress_call(hooked(), progress(0.3), Said(50), 0.0, BACKEND) is None
    assert progress_call(hooked(), progress(0.01), Said(), 0.0, BACKEND) is None, "0 % was the beginning"


def test_success_is_one_complete() -> None:
    """With where the picture is, and what it was painted with."""
    job = hooked(JobState.SUCCEEDED, artifacts=(ARTIFACT,), hook={"prompt_tags": ("별", "star")})
    [call] = calls_of(job, BACKEND)
    assert told(call) == HttpCall(
        HookKind.BACKEND,
        "POST",
        "/api/webhooks/inference/complete",
        {
            "generation_id": 17,
            "result_url": ARTIFACT.url,
            "metadata": {"seed": ARTIFACT.seed, "steps": 20, "guidance_scale": 4.5, "prompt_tags": ["별", "star"]},
        },
    )
    assert (call.name, call.care) == ("end", Care.REPEATED)
    [untagged] = calls_of(hooked(JobState.SUCCEEDED, artifacts=(ARTIFACT,)), BACKEND)
    assert "prompt_tags" not in told(untagged).body["metadata"]


def test_failure_is_one_failed_that_is_never_repeated() -> None:
    """It makes backends refund."""
    [call] = calls_of(hooked(JobState.FAILED, failure=FAILURE, retries=3), BACKEND)
    assert told(call) == HttpCall(
        HookKind.BACKEND,
        "POST",
        "/api/webhooks/inference/failed",
        {"generation_id": 17, "error_message": "no room", "error_code": "GPU_OOM", "retry_count": 3},
    )
    assert (call.name, call.care) == ("end", Care.ONCE)


def test_a_cancelled_job_is_a_failed_one_to_a_backend() -> None:
    """Which knows no other end without a picture."""
    [call] = calls_of(hooked(JobState.CANCELED), BACKEND)
    assert told(call).url.endswith("/failed")
    assert told(call).body["error_message"] == "the job was canceled"


def test_every_code_has_a_word_that_backends_know() -> None:
    """The table is total, and says nothing else."""
    assert BACKEND_CODES.keys() == set(Code)
    assert set(BACKEND_CODES.values()) == set(BackendCode)


def test_a_generation_has_one_end_however_many_jobs_it_has() -> None:
    """Success, failure and refusal have one id. Another generation's, another backend's, and a milestone's are others."""
    failure = JobFailure(Code.INVALID_PARAMETER, "no prompt")
    elsewhere = "https://elsewhere.test"
    ends = [
        *calls_of(hooked(JobState.SUCCEEDED, artifacts=(ARTIFACT,)), BACKEND),
        *calls_of(hooked(JobState.FAILED, failure=FAILURE), BACKEND),
        *calls_of(hooked(JobState.FAILED, failure=FAILURE, hook={"url": f"{BACKEND}/some/base/"}), BACKEND),
        *refused_calls(17, failure, "", BACKEND),
    ]
    assert {call.id for call in ends} == {"generation-17-end"}
    others = [
        *refused_calls(18, failure, "", BACKEND),
        *refused_calls(17, failure, elsewhere, BACKEND),
        *calls_of(hooked(), BACKEND),
    ]
    assert len({call.id for call in [*ends, *others]}) == 4


def test_a_message_that_becomes_no_job_is_refused_to_its_generation() -> None:
    """The only thing that is ever told of it."""
    [call] = refused_calls(17, JobFailure(Code.INVALID_PARAMETER, "prompt must …"), "", BACKEND)
    assert (call.job_id, call.care, call.target) == (None, Care.ONCE, TRUSTED)
    assert told(call).body == {
        "generation_id": 17, "error_message": "prompt must …", "error_code": "GENERATION_FAILED", "retry_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "where", "target"),
    [
        ("", "/api/webhooks/inference/failed", TRUSTED),
        (BACKEND, f"{BACKEND}/api/webhooks/inference/failed", TRUSTED),
        ("HTTP://Backend.test:3000/", "HTTP://Backend.test:3000/api/webhooks/inference/failed", TRUSTED),
        (f"{BACKEND}/v2/", f"{BACKEND}/v2/api/webhooks/inference/failed", TRUSTED),
        (f"{BACKEND}/api", f"{BACKEND}/api/webhooks/inference/failed", TRUSTED),
        (f"{BACKEND}/api/webhooks/inference/complete", f"{BACKEND}/api/webhooks/inference/failed", TRUSTED),
        ("http://backend.test", "http://backend.test/api/webhooks/inference/failed", "http://backend.test:80"),
        ("https://backend.test:3000", "https://backend.test:3000/api/webhooks/inference/failed", "https://backend.test:3000"),
        ("http://backend.test:3000@evil.test", "http://backend.test:3000@evil.test/api/webhooks/inference/failed", "http://evil.test:80"),
    ],
)  # fmt: skip
def test_a_message_s_own_address_is_trusted_only_if_it_is_the_backend_s(url: str, where: str, target: str) -> None:
    """By scheme, host and port; whatever path it has is kept, up to the three calls' own."""
    [call] = calls_of(hooked(JobState.FAILED, failure=FAILURE, hook={"url": url}), BACKEND)
    assert (told(call).url, call.target) == (where, target)


def test_without_a_backend_in_the_settings_no_address_is_trusted() -> None:
    """One that a message names is a user's, even if it is none."""
    [call] = calls_of(hooked(hook={"url": BACKEND}), "")
    assert call.target == BACKEND
    [call] = calls_of(hooked(hook={"url": "not a url"}), "")
    assert told(call).url == "not a url/api/webhooks/inference/progress"


def test_where_there_is_no_backend_nobody_is_told() -> None:
    """Neither in the settings nor in the message: somebody else asks for how the job is."""
    assert calls_of(hooked(), "") == []
    assert progress_call(hooked(), progress(0.5), Said(), 0.0, "") is None
    assert refused_calls(17, FAILURE, "", "") == []


# Anybody else


def test_the_whole_job_is_told_at_its_start_and_end() -> None:
    """Under ids of its own, in order."""
    [start] = calls_of(generic(), BACKEND)
    [end] = calls_of(generic(JobState.SUCCEEDED, artifacts=(ARTIFACT,)), BACKEND)
    assert (start.id, start.name, start.care) == ("msg_job-1_start", "start", Care.FLEETING)
    assert (end.id, end.name, end.care) == ("msg_job-1_end", "end", Care.REPEATED)
    assert (told(start).method, told(start).url, told(start).body["status"]) == ("POST", URL, "processing")
    assert (told(end).body["status"], told(end).body["output"]) == ("succeeded", [ARTIFACT.url])
    assert start.target == "https://hooks.test:443"


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_however_it_ends_it_has_completed(state: JobState) -> None:
    """Failed and cancelled jobs too."""
    job = generic(state, artifacts=(ARTIFACT,), failure=FAILURE)
    assert [call.name for call in calls_of(job, BACKEND)] == ["end"]


@pytest.mark.parametrize("event", HookEvent)
def test_nothing_is_told_that_was_not_asked_for(event: HookEvent) -> None:
    """One kind of event alone."""
    only = frozenset({event})
    found = progress_call(generic(events=only), progress(0.5), Said(), 0.0, BACKEND)
    heard = [
        *calls_of(generic(events=only), BACKEND),
        *([] if found is None else [found[0]]),
        *calls_of(generic(JobState.CANCELED, events=only), BACKEND),
    ]
    names = {HookEvent.START: "start", HookEvent.PROGRESS: "progress-5", HookEvent.COMPLETED: "end"}
    assert [call.name for call in heard] == [names[event]]


def test_progress_is_told_at_most_every_half_second() -> None:
    """However fast the steps are; each says where the job is by then."""
    found = progress_call(generic(), progress(0.1, number=5), Said(), 100.0, BACKEND)
    assert found is not None
    call, said = found
    assert (told(call).body["progress"], told(call).body["progress_step"]) == (0.1, 5)
    assert progress_call(generic(), progress(0.2, number=6), said, 100.0 + PROGRESS_EVERY * 0.9, BACKEND) is None
    again = progress_call(generic(), progress(0.3, number=7), said, 100.0 + PROGRESS_EVERY, BACKEND)
    assert again is not None
    assert again[0].id == "msg_job-1_progress-7"


# Nobody


@pytest.mark.parametrize("state", JobState)
def test_a_job_without_a_webhook_is_told_to_nobody(state: JobState) -> None:
    """Nor its progress."""
    assert calls_of(a_job(state=state), BACKEND) == []
    assert progress_call(a_job(state=state), progress(0.5), Said(), 0.0, BACKEND) is None


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.STARTING, JobState.RETRYING])
@pytest.mark.parametrize("make", [hooked, generic])
def test_a_job_that_is_not_being_painted_says_nothing(state: JobState, make: Any) -> None:
    """Until it is, or has ended."""
    assert calls_of(make(state), BACKEND) == []
    assert progress_call(make(state), progress(0.5), Said(), 0.0, BACKEND) is None


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://a.test", "https://A.test:443/x?y#z"), ("http://[::1]:80/", "http://[::1]"),
    ],
)  # fmt: skip
def test_an_origin_is_scheme_host_and_port(url: str, same: str) -> None:
    """However they are written."""
    assert origin(url) == origin(same) != ""


@pytest.mark.parametrize("url", ["", "a.test", "ftp://a.test", "http://a.test:x", "http://[::1"])
def test_what_is_no_address_has_no_origin(url: str) -> None:
    """So it is never taken for the backend's."""
    assert origin(url) == ""
