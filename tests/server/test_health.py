"""What the server can do now."""

from __future__ import annotations

from ai.types import ModelLoadError, ModelLoading, ModelReady, ModelUnavailable, ModelUnloaded, Started
from server.health import Health
from server.replies import ModelState, ServerState
from tests.server.fakes import CARD, OTHER_CARD


def a_health() -> Health:
    """Of a server that has just begun to load its default model."""
    health = Health([CARD, OTHER_CARD])
    health.loading("demo")
    return health


def state(health: Health) -> ServerState:
    """The server's."""
    return health.state


def states(health: Health) -> dict[str, ModelState]:
    """Every model's state."""
    return {view.card.name: view.state for view in health.models()}


def test_a_server_is_loading_until_its_default_model_is_ready() -> None:
    """Other models do not count."""
    health = a_health()
    assert state(health) is ServerState.LOADING
    health.engine_events([ModelReady("other", 1.0)])
    assert state(health) is ServerState.LOADING
    health.engine_events([Started("job-1"), ModelReady("demo", 1.0)])
    assert state(health) is ServerState.READY
    assert health.problem == ""


def test_before_anything_is_loaded_it_is_loading_too() -> None:
    """Models are on disk, and the server is on its way."""
    health = Health([CARD, OTHER_CARD])
    assert state(health) is ServerState.LOADING
    assert set(states(health).values()) == {ModelState.ON_DISK}


def test_a_default_model_that_cannot_be_loaded_fails_the_server_and_says_why() -> None:
    """Until a later try loads it after all."""
    health = a_health()
    health.engine_events([ModelUnavailable("demo", ModelLoadError("demo: a pickle is refused"))])
    assert state(health) is ServerState.FAILED
    assert health.problem == "demo: a pickle is refused"
    assert health.models()[0].problem == "demo: a pickle is refused"
    health.engine_events([ModelReady("demo", 1.0)])
    assert state(health) is ServerState.READY
    assert health.problem == ""


def test_a_model_that_a_request_asked_for_is_shown_loading() -> None:
    """The others are as they were."""
    health = a_health()
    health.engine_events([ModelReady("demo", 1.0), ModelLoading("other")])
    assert states(health) == {"demo": ModelState.READY, "other": ModelState.LOADING}
    assert state(health) is ServerState.READY


def test_an_unloaded_default_model_leaves_the_server_ready() -> None:
    """It comes back when a job names it; the list of models says where it is."""
    health = a_health()
    health.engine_events([ModelReady("demo", 1.0), ModelUnloaded("demo")])
    assert state(health) is ServerState.READY
    assert states(health)["demo"] is ModelState.ON_DISK
    health.engine_events([ModelLoading("demo")])
    assert state(health) is ServerState.READY
    health.engine_events([ModelUnavailable("demo", ModelLoadError("demo: gone"))])
    assert state(health) is ServerState.FAILED


def test_another_model_s_failure_is_its_own() -> None:
    """The server stays ready; the model is listed with its problem."""
    health = a_health()
    health.engine_events([ModelReady("demo", 1.0), ModelUnavailable("other", ModelLoadError("no files"))])
    assert state(health) is ServerState.READY
    assert states(health) == {"demo": ModelState.READY, "other": ModelState.UNAVAILABLE}
    assert health.problem == ""


def test_a_dead_engine_fails_the_server() -> None:
    """Whatever its models were."""
    health = a_health()
    health.engine_events([ModelReady("demo", 1.0)])
    health.engine_died("the engine stopped: bus error")
    assert state(health) is ServerState.FAILED
    assert health.problem == "the engine stopped: bus error"


def test_draining_is_told_before_anything_else() -> None:
    """A stopping server takes nothing, in whatever state it was."""
    health = a_health()
    assert state(health) is not ServerState.DRAINING
    health.drain()
    health.engine_died("gone")
    assert health.draining
    assert state(health) is ServerState.DRAINING


def test_models_are_listed_with_the_default_first() -> None:
    """In the cards' order, however their states change."""
    health = a_health()
    health.engine_events([ModelReady("other", 1.0)])
    assert [view.card.name for view in health.models()] == ["demo", "other"]
