"""Settings handed out over HTTP: as clients of config servers ask, to nodes and admins, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from factory.settings_shelf import FolderShelf
from server.pools import InlinePool
from server.principal import EVERYDAY, Role, Scope
from tests.conftest import LOOP
from tests.server.accounts.rooms import HERE, AccountsHouse, accounts_house
from tests.server.doors.http.door import LIMITS, Answer, Door

GPU = {"ATELIER_LOG_LEVEL": "WARNING", "ATELIER_SECRET_KEY": {"from": "environment"}, "ATELIER_MAX_BATCH": 8}
BASE = {name: GPU[name] for name in ("ATELIER_LOG_LEVEL", "ATELIER_SECRET_KEY")}
ALL: dict[str, Any] = {"base": BASE, "groups": {"gpu": GPU}, "instances": {"gpu-1": {"group": "gpu", **GPU}}}


@pytest.fixture
def house(sqlite_url: URL) -> Iterator[AccountsHouse]:
    """With accounts."""
    with accounts_house(sqlite_url) as made:
        yield made


@pytest.fixture
def door(house: AccountsHouse, tmp_path: Path) -> Door:
    """That hands out a real folder."""
    for name, text in (
        ("base.toml", 'LOG_LEVEL = "WARNING"\nSECRET_KEY = { from = "environment" }'),
        ("groups/gpu.toml", "ATELIER_MAX_BATCH = 8"),
        ("instances/gpu-1.toml", 'group = "gpu"'),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    shelf = FolderShelf(tmp_path, InlinePool())
    LOOP.run_until_complete(shelf.open())
    return Door(house, accounts=house.rooms.service, settings=shelf)


async def key_of(house: AccountsHouse, *scopes: Scope, role: Role = Role.ADMIN) -> str:
    """A node's key, of an account of its own."""
    who = await house.rooms.principal(f"keeper{len(scopes)}{role}", role)
    _, secret = await house.rooms.service.create_key(who, "nodes", frozenset(scopes), None, address=HERE)
    return secret


def error_of(answer: Answer) -> tuple[int, str, str | None, str | None]:
    """Status, code, field and limit."""
    error = answer.json()["error"]
    return answer.status, error["code"], error["details"].get("field"), error["details"].get("limit")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", ALL),
        ("groups", ALL["groups"]),
        ("groups/gpu", GPU),
        ("instances/gpu-1", ALL["instances"]["gpu-1"]),
        ("instances/gpu-1/group", "gpu"),
        ("groups/gpu/ATELIER_MAX_BATCH", 8),
    ],
)
async def test_get_and_post_give_what_stands_at_a_path(house: Any, door: Door, path: str, found: Any) -> None:
    """With the path in the body, or of a GET in the query; secrets are where they belong, and not told."""
    key = await key_of(house, Scope.SETTINGS)
    answers = [
        await door.ask("POST", "/fetch", {"configPath": path}, token=key),
        await door.ask("GET", "/fetch", {"configPath": path}, token=key),
        await door.ask("GET", f"/fetch?configPath={path}", token=key),
    ]
    assert [(answer.status, answer.json()) for answer in answers] == [(200, found)] * 3
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


async def test_without_a_path_everything_is_given(house: Any, door: Door) -> None:
    """An empty object, no body at all."""
    key = await key_of(house, Scope.SETTINGS)
    assert (await door.ask("POST", "/fetch", {}, token=key)).json() == ALL
    assert (await door.ask("GET", "/fetch", token=key)).json() == ALL


async def test_only_admins_and_their_keys_for_it_are_answered(house: Any, door: Door) -> None:
    """A key with the scope `settings` can do nothing else; an everyday key of an admin, and anybody's token, cannot do this."""
    settings, admin = await key_of(house, Scope.SETTINGS), await key_of(house, Scope.ADMIN, Scope.READ)
    everyday = await key_of(house, *EVERYDAY)
    grace, ada = await house.rooms.user("grace", Role.ADMIN), await house.rooms.user("lovelace")
    for token, status in (
        (settings, 200),
        (admin, 200),
        (grace, 200),
        (everyday, 403),
        (ada, 403),
        ("", 401),
        ("x", 401),
    ):
        assert (await door.ask("POST", "/fetch", {}, token=token)).status == status
    assert error_of(await door.ask("GET", "/fetch", token=ada))[1:] == ("PERMISSION_DENIED", None, "settings")
    for method, path in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/users"), ("GET", "/v1/keys")):
        assert (
            await door.ask(method, path, {"prompt": "x"} if method == "POST" else None, token=settings)
        ).status == 403


async def test_a_user_makes_no_key_for_it_and_an_admin_that_was_no_more(house: Any, door: Door) -> None:
    """The key of one who is an admin no longer fetches nothing."""
    ada = await house.rooms.user("lovelace")
    made = await door.ask("POST", "/v1/keys", {"name": "nodes", "scopes": ["settings"]}, token=ada)
    assert error_of(made)[:2] == (403, "PERMISSION_DENIED")
    key, root = await key_of(house, Scope.SETTINGS), await house.rooms.principal("grace", Role.ADMIN)
    await house.rooms.service.set_user(root, "keeper1admin", role=Role.USER, is_active=None, address=HERE)
    assert (await door.ask("GET", "/fetch", token=key)).status == 403


async def test_a_path_that_leads_nowhere_is_a_404_that_says_what_there_is(house: Any, door: Door) -> None:
    """An unknown group, above all."""
    key = await key_of(house, Scope.SETTINGS)
    for path, known in (
        ("groups/cpu", "gpu"),
        ("../etc", "base, groups, instances"),
        ("groups/gpu/X/Y", "ATELIER_SECRET_KEY"),
    ):
        status, code, field, limit = error_of(await door.ask("POST", "/fetch", {"configPath": path}, token=key))
        assert (status, code, field) == (404, "INVALID_PARAMETER", "configPath")
        assert str(limit).startswith(f"a path that there is: one of {known}")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"not json", (400, "MALFORMED_MESSAGE", "body")),
        (b"[" * 5000, (400, "MALFORMED_MESSAGE")),
        (b'{"configPath": 3}', (422, "INVALID_PARAMETER", "configPath")),
        (b'{"configPath": null}', (422, "INVALID_PARAMETER", "configPath")),
        (json.dumps({"configPath": "a" * 257}).encode(), (422, "INVALID_PARAMETER", "configPath")),
        (b"x" * (LIMITS.max_body_bytes + 1), (413, "FRAME_TOO_LARGE", "body")),
    ],
)
async def test_a_body_that_is_no_question_is_refused(
    house: Any, door: Door, body: bytes, error: tuple[Any, ...]
) -> None:
    """By GET as by POST: its field is named."""
    key = await key_of(house, Scope.SETTINGS)
    for method in ("GET", "POST"):
        given = {"content-type": "application/json"}
        answer = await door.ask(method, "/fetch", body=body, headers=given, token=key)
        assert error_of(answer)[: len(error)] == error, method


async def test_a_field_that_there_is_not_is_refused(house: Any, door: Door) -> None:
    """A typing error in `configPath` would else give everything."""
    key = await key_of(house, Scope.SETTINGS)
    for method in ("GET", "POST"):
        answer = await door.ask(method, "/fetch", {"configpath": "base"}, token=key)
        assert error_of(answer)[:2] == (422, "INVALID_PARAMETER")


async def test_a_node_without_a_folder_has_no_such_route(house: Any) -> None:
    """Nothing is said about it."""
    door = Door(house, accounts=house.rooms.service)
    key = await key_of(house, Scope.SETTINGS)
    assert (await door.ask("POST", "/fetch", {}, token=key)).status == 404


async def test_who_fetched_is_in_the_audit_log(house: Any, door: Door) -> None:
    """A key's POST: whose, and when."""
    key = await key_of(house, Scope.SETTINGS)
    await door.ask("POST", "/fetch", {"configPath": "groups/gpu"}, token=key)
    acts = [act for _, act in await house.rooms.records.acts(before=0, most=1, who="keeper1admin")]
    assert [(act.action, act.target) for act in acts] == [("http.post", "/fetch")]
