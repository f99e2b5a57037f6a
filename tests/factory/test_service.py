"""The one make_service: what stops it, and in which order it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from config import SettingsError, load_settings
from factory.jobs import new_job_id
from factory.service import AtelierService, make_service
from factory.supervisor import NotStarted
from server.job import Job

CARD = "[defaults]\nwidth = {width}\nheight = 128\nnum_inference_steps = {steps}\nguidance_scale = 4.0\n"


def a_model(folder: Path, width: int = 128, steps: int = 20) -> str:
    """A folder with a card and no weights: enough to build a server."""
    folder.mkdir()
    (folder / "card.toml").write_text(CARD.format(width=width, steps=steps))
    return str(folder)


def test_building_listens_and_loads_nothing(reactor: Any, tmp_path: Path) -> None:
    """No address, no job, no file."""
    service = make_service(load_settings(data_dir=tmp_path / "data"), reactor)
    assert service.addresses == []
    assert service.live_jobs == 0
    assert not (tmp_path / "data").exists()


def test_an_address_that_may_not_be_served_stops_the_start(reactor: Any) -> None:
    """Before anything is built."""
    with pytest.raises(SettingsError, match="ATELIER_TOKENS"):
        make_service(load_settings(tcp_listen="tcp:0"), reactor)


def test_a_card_that_is_no_toml_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """The message names the variable and the file."""
    (tmp_path / "card.toml").write_text("not = = toml")
    with pytest.raises(SettingsError, match=r"ATELIER_MODELS: .*card\.toml"):
        make_service(load_settings(models=f"mine={tmp_path}"), reactor)


def test_a_default_solver_that_a_model_does_not_offer_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """The message names the variables, the model and what it offers."""
    source = a_model(tmp_path / "m")
    (Path(source) / "card.toml").write_text('solvers = ["euler", "ddim"]')
    with pytest.raises(SettingsError, match=r"SCHEDULER_TYPE: mine: does not offer .*'lcm'; there are euler, ddim$"):
        make_service(load_settings(models=f"mine={source}", default_solver="lcm"), reactor)


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"max_num_inference_steps": 10}, "ATELIER_MAX_NUM_INFERENCE_STEPS"),
        ({"max_width": 64}, "ATELIER_MAX_WIDTH"),
        ({"default_height": 2048}, "ATELIER_DEFAULT_HEIGHT"),
    ],
)
def test_limits_that_every_plain_request_would_break_stop_the_start(
    reactor: Any, tmp_path: Path, settings: dict[str, Any], variable: str
) -> None:
    """A server whose own defaults it refuses is a mistake of its settings."""
    with pytest.raises(SettingsError, match=variable):
        make_service(load_settings(models=f"mine={a_model(tmp_path / 'm')}", **settings), reactor)


async def test_an_endpoint_that_cannot_be_read_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """With the variable's name; stopping what never started does no harm."""
    service = make_service(load_settings(tcp_listen="tcp:nine:interface=127.0.0.1", data_dir=tmp_path), reactor)
    with pytest.raises(SettingsError, match="ATELIER_TCP_LISTEN"):
        await service.start()
    await service.stop()


class Slow:
    """A server whose stream models take until a test says so, and who has asked for jobs' leases by then."""

    def __init__(self, reactor: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given = load_settings(
            tcp_listen="tcp:0:interface=127.0.0.1", http_listen="off", udp=False, data_dir=folder, stream_ready=True
        )
        self.service: AtelierService = make_service(given, reactor)
        self.asked = 0
        self.loading = asyncio.Event()
        self.loaded = asyncio.Event()
        stop = self.service._live.stop

        async def keep_ready() -> None:
            self.loading.set()
            await self.loaded.wait()

        async def stop_loading() -> None:
            self.loaded.set()
            await stop()

        async def take_up() -> list[Job]:
            self.asked += 1
            raise SettingsError("so far, and no further")

        monkeypatch.setattr(self.service._live, "keep_ready", keep_ready)
        monkeypatch.setattr(self.service._live, "stop", stop_loading)
        monkeypatch.setattr(self.service._jobs.recovery, "take_up", take_up)


async def test_no_job_is_taken_up_while_stream_models_load(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are renewed only by a server that has started: they would end meanwhile, and others would have the jobs too."""
    slow = Slow(reactor, tmp_path, monkeypatch)
    starting = asyncio.ensure_future(slow.service.start())
    await asyncio.wait_for(slow.loading.wait(), 30)
    assert slow.asked == 0
    slow.loaded.set()
    with pytest.raises(SettingsError, match="no further"):
        await starting
    assert slow.asked == 1


async def test_a_start_that_is_abandoned_waits_for_no_model(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends at once, and has taken no job up and listened nowhere."""
    slow = Slow(reactor, tmp_path, monkeypatch)
    starting = asyncio.ensure_future(slow.service.start())
    await asyncio.wait_for(slow.loading.wait(), 30)
    slow.service.abandon()
    with pytest.raises(NotStarted):
        await asyncio.wait_for(starting, 30)
    assert (slow.asked, slow.service.addresses) == (0, [])


def test_job_ids_cannot_be_guessed_and_are_storage_keys() -> None:
    """32 hexadecimal characters, never the same."""
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(job_id) == 32 and int(job_id, 16) >= 0 for job_id in ids)
