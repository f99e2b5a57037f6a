"""A job as the JSON that web developers know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from replicate.prediction import Prediction

from server.errors import Code, JobFailure
from server.job import JobState
from server.model_names import version_of
from server.prediction import STATUSES, Done, prediction
from server.webhook import HookKind, Webhook
from tests.server.database.contract import ARTIFACT, a_job

STARTED, COMPLETED = 1_700_000_001.25, 1_700_000_011.75


def ended(state: JobState, **changes: Any) -> dict[str, Any]:
    """A job that ended so, as JSON would carry it."""
    job = a_job(state=state, started_at=STARTED, completed_at=COMPLETED, **changes)
    return dict(json.loads(json.dumps(prediction(job))))


def test_every_state_has_a_status_that_clients_know() -> None:
    """The five of Replicate's API."""
    assert STATUSES.keys() == set(JobState)
    assert set(STATUSES.values()) == {"starting", "processing", "succeeded", "failed", "canceled"}


def test_a_job_that_succeeded_is_told_whole() -> None:
    """What was asked, what came of it, and how long it took."""
    told = ended(JobState.SUCCEEDED, artifacts=(ARTIFACT, replace(ARTIFACT, url="")), warnings=("cut", "no glyph"))
    assert told["status"] == "succeeded"
    assert told["output"] == [ARTIFACT.url, ARTIFACT.key]
    assert told["logs"] == "cut\nno glyph\n100%|██████████| 6/6"
    assert (told["model"], told["model_id"]) == ("atelier/demo", "demo")
    assert told["version"] == version_of("demo")
    assert told["metrics"] == {"predict_time": 10.5, "total_time": 11.5}
    assert (told["progress"], told["progress_step"], told["progress_total"]) == (1.0, 6, 6)
    assert told["created_at"] == "2023-11-14T22:13:20.250Z"
    assert told["completed_at"] == "2023-11-14T22:13:31.750Z"
    assert told["input"]["prompt"] == "별 ✨ \U0001f600"
    assert told["input"]["adapters"][1] == {"name": "chalk", "scale": 1.0}
    assert told["input"]["strength"] == 0.3
    assert (told["error"], told["error_code"]) == (None, None)


def test_a_job_that_failed_says_why() -> None:
    """In words, and with its code; there is no output."""
    told = ended(JobState.FAILED, failure=JobFailure(Code.GPU_OUT_OF_MEMORY, "no room"))
    assert (told["status"], told["error"], told["error_code"]) == ("failed", "no room", "GPU_OUT_OF_MEMORY")
    assert told["output"] is None


def test_what_failed_and_is_retried_is_no_error_yet() -> None:
    """The client would take it for the end."""
    told = prediction(a_job(state=JobState.RETRYING, failure=JobFailure(Code.STORAGE_FAILED, "no disk")))
    assert (told["status"], told["error"]) == ("starting", None)


def test_a_job_under_way_says_how_far_it_is() -> None:
    """As far as is known; what has not happened is null."""
    told = prediction(a_job(state=JobState.PROCESSING, started_at=STARTED), Done(0.51234, 3))
    assert (told["status"], told["progress"], told["progress_step"]) == ("processing", 0.5123, 3)
    assert (told["completed_at"], told["metrics"], told["output"]) == (None, {}, None)
    assert Prediction.Progress.parse(told["logs"]) == Prediction.Progress(0.51, 3, 6)
    assert (prediction(a_job())["progress"], prediction(a_job())["logs"]) == (0.0, "")


def test_what_its_deadline_ended_was_canceled_then() -> None:
    """As Cancel-After means it; why is still said."""
    told = ended(JobState.FAILED, failure=JobFailure(Code.DEADLINE_EXCEEDED, "too late"))
    assert (told["status"], told["error"], told["error_code"]) == ("canceled", "too late", "DEADLINE_EXCEEDED")


def test_a_model_that_took_longer_than_it_may_has_failed() -> None:
    """Nobody has asked for a deadline."""
    told = ended(JobState.FAILED, failure=JobFailure(Code.DEADLINE_EXCEEDED, "too slow"), deadline_seconds=None)
    assert (told["status"], told["error_code"]) == ("failed", "DEADLINE_EXCEEDED")


def test_pictures_are_at_the_door_where_the_storage_has_no_address() -> None:
    """Else where it says."""
    job = a_job(state=JobState.SUCCEEDED, artifacts=(ARTIFACT, replace(ARTIFACT, url="", image_index=2)))
    door = "https://atelier.test/pictures/job-1/2.png"
    assert prediction(job, base_url="https://atelier.test/")["output"] == [ARTIFACT.url, door]


def test_one_that_was_never_begun_was_not_painted_for_long() -> None:
    """Its time is the waiting alone."""
    assert prediction(a_job(state=JobState.CANCELED, completed_at=COMPLETED))["metrics"]["predict_time"] == 0.0


@pytest.mark.parametrize("base", ["https://atelier.test", "https://atelier.test/"])
def test_addresses_are_told_where_there_are_any(base: str) -> None:
    """Of the job at a server that answers HTTP, and of its webhook."""
    job = a_job(webhook=Webhook(kind=HookKind.GENERIC, url="https://hooks.test/x"))
    told = prediction(job, base_url=base)
    assert told["urls"]["cancel"] == "https://atelier.test/v1/predictions/job-1/cancel"
    assert told["webhook"] == "https://hooks.test/x"
    assert prediction(a_job())["urls"] == {}
    assert prediction(a_job())["webhook"] is None
