"""The documentation pages in a real browser that reaches nothing but the server, as on a closed network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import load_settings
from factory.gpu import EngineThreads
from factory.service import make_service
from tests.browser import Browser
from tests.conftest import LOOP, start_reactor
from tests.quick_painter import paint_quickly

OPERATION = "#operations-jobs-submit_job"


@pytest.fixture(scope="module")
def base(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server without tokens listens for HTTP. It paints at once."""
    from factory import service as built

    start_reactor()
    paint_quickly()
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        data_dir=tmp_path_factory.mktemp("pages"),
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    yield service.addresses[1]
    LOOP.run_until_complete(service.stop())
    whole: Any = built
    whole.EngineThreads = EngineThreads


async def test_a_request_is_tried_in_swagger_ui(base: str, tmp_path: Path) -> None:
    """Try it out, Execute: the example is submitted as it stands, and the page shows the job; nothing came from elsewhere."""
    async with Browser(base) as browser:
        page = await browser.open(f"{base}/docs")
        await page.click(f"{OPERATION} .opblock-summary-control")
        await page.click(f"{OPERATION} .try-out__btn")
        await page.click(f"{OPERATION} button.execute")
        answer = f"{OPERATION} .live-responses-table .response-col_description pre code"
        await page.until(f"document.querySelector({answer!r}) !== null")
        status = await page.value(
            f"document.querySelector('{OPERATION} .live-responses-table .response .response-col_status').innerText"
        )
        assert status.split()[0] == "202"
        job = json.loads(await page.value(f"document.querySelector({answer!r}).innerText"))
        assert job["prompt"] == "a big green tree on a pink background"
        await page.screenshot(tmp_path / "docs.png")
        assert page.strangers == []
        assert page.complaints == []


async def test_redoc_shows_every_route(base: str, tmp_path: Path) -> None:
    """The page is whole: its menu names the routes, its search works, and nothing came from elsewhere."""
    async with Browser(base) as browser:
        page = await browser.open(f"{base}/redoc")
        await page.until("document.querySelectorAll('[data-section-id]').length > 10")
        text = await page.value("document.body.innerText")
        assert "/v1/images/generations" in text
        assert "/v1/jobs" in text
        await page.screenshot(tmp_path / "redoc.png")
        assert [url for url in page.strangers if not url.endswith("logo-mini.svg")] == []
        assert [line for line in page.complaints if "logo-mini.svg" not in line] == []


async def test_the_browser_is_held_to_the_server(base: str) -> None:
    """What is loaded from elsewhere is refused and noted, so that the tests above can fail."""
    async with Browser(base) as browser:
        page = await browser.open(f"{base}/livez")
        await page.until("document.readyState === 'complete'")
        other = base.replace("127.0.0.1", "localhost")
        assert (
            await page.value(f"fetch('{other}/livez', {{mode: 'no-cors'}}).then(() => 'came', () => 'refused')")
            == "refused"
        )
        await asyncio.sleep(0)
        assert page.strangers or page.complaints
