"""The files of the documentation pages."""

from __future__ import annotations

import hashlib
import re

import pytest

from server.doors.http.pages import FOLDER, static_files
from tests.server.doors.http.door import Door

AS_PUBLISHED = {  # sha256, of the packages named in static/README.md
    "swagger-ui/swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui/swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    "swagger-ui/favicon-32x32.png": "3ed612f41e050ca5e7000cad6f1cbe7e7da39f65fca99c02e99e6591056e5837",
    "redoc/redoc.standalone.js": "dcaf76612bc4a3fbcc923a8966dee2f6146a5f32e5ce1b6f02dd60cbbf89500b",
}


@pytest.mark.parametrize("path", AS_PUBLISHED)
def test_the_pages_libraries_are_as_their_makers_publish_them(path: str) -> None:
    """Each with its licence beside it."""
    assert hashlib.sha256(static_files()[path].content).hexdigest() == AS_PUBLISHED[path]
    assert (FOLDER / path).parent.joinpath("LICENSE").is_file()


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_a_page_loads_nothing_that_is_not_served(page: str) -> None:
    """Every address in it is a relative one of ours, and its policy allows no other; probes and strangers need no token."""
    door = Door()
    answer = await door.ask("GET", page, token="")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]
    assert not re.search(rb"<script>| on[a-z]+=", answer.body)
    wanted = [found.decode() for found in re.findall(rb'(?:src|href)="([^"]+)"', answer.body)]
    assert wanted
    for path in wanted:
        assert (await door.ask("GET", f"/{path}", token="")).status == 200


async def test_what_a_browser_has_is_not_sent_again() -> None:
    """304 for its ETag; nothing else than these files is there."""
    door = Door()
    first = await door.ask("GET", "/static/redoc.css")
    assert first.headers["content-type"] == "text/css; charset=utf-8"
    again = await door.ask("GET", "/static/redoc.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    for path in (
        "/static/",
        "/static/README.md",
        "/static/../pages.py",
        "/static/redoc/LICENSE",
        "/static/%2e%2e/pages.py",
    ):
        assert (await door.ask("GET", path)).status == 404


async def test_the_description_is_there_for_everyone() -> None:
    """/openapi.json, in pieces, the same each time, and not among what it describes."""
    door = Door()
    answers = [await door.ask("GET", "/openapi.json", token="") for _ in range(2)]
    assert answers[0].body == answers[1].body
    assert answers[0].headers["content-type"] == "application/json"
    assert int(answers[0].headers["content-length"]) == len(answers[0].body)
    assert answers[0].json() == door.app.openapi()
    assert "/openapi.json" not in answers[0].json()["paths"]
