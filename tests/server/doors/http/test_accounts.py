"""Accounts over HTTP: as the prediction platform's clients make them, log in and use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import URL

from server.doors.http.middleware import MAX_LOGIN_BYTES
from server.identity import Identities
from server.principal import Role
from server.vigil import EVERY
from tests.server.accounts.rooms import OTHER_PASSWORD, PASSWORD, AccountsHouse, accounts_house
from tests.server.doors.http.door import Answer, Door
from tests.server.fakes import settle

ADA = {"username": "lovelace", "email": "ada@example.org", "password": PASSWORD}
HERE = {"host": "127.0.0.1:8001"}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def house(sqlite_url: URL) -> Iterator[AccountsHouse]:
    """With accounts, beside the tokens of the settings."""
    with accounts_house(sqlite_url) as made:
        yield made


def the_door(house: AccountsHouse, registration: str = "open", **parts: Any) -> Door:
    """Over it."""
    return Door(house, base_url="http://paint.test", accounts=house.rooms.service, registration=registration, **parts)


async def registered(door: Door, role: Role = Role.USER, **other: str) -> str:
    """An account's access token."""
    given = {**ADA, **other}
    house: Any = door.house
    await house.rooms.service.register(given["username"], given["email"], given["password"], address="", role=role)
    return str((await logged_in(door, given["username"])).json()["access_token"])


async def logged_in(door: Door, username: str = "lovelace", password: str = PASSWORD) -> Answer:
    """POST /v1/auth/token."""
    return await door.ask("POST", "/v1/auth/token", {"username": username, "password": password}, token="")


def error_of(answer: Answer) -> tuple[int, str, str | None]:
    """Status, code and field."""
    error = answer.json()["error"]
    return answer.status, error["code"], error["details"].get("field")


async def test_the_platform_s_quick_start_runs_as_it_stands(house: Any) -> None:
    """Register, log in with a form, and a prediction is one's own."""
    door = the_door(house)
    made = await door.ask("POST", "/v1/auth/register", ADA, token="")
    assert made.status == 200
    told = made.json()
    assert set(told) >= {"id", "username", "email", "is_active", "created_at"}
    assert (told["username"], told["email"], told["is_active"]) == ("lovelace", "ada@example.org", True)
    assert b"password" not in made.body
    form = f"grant_type=&username=lovelace&password={quote(PASSWORD)}&scope=".encode()
    token = (await door.ask("POST", "/v1/auth/token", body=form, headers={"content-type": FORM}, token="")).json()
    assert token["token_type"] == "bearer"
    created = await door.ask(
        "POST",
        "/v1/predictions",
        {"model_id": "demo", "input": {"prompt": "a star"}},
        token=token["access_token"],
    )
    assert created.status == 201
    assert (await house.store.get(created.json()["id"])).owner == "lovelace"


@pytest.mark.parametrize("way", ["json", "form", "query", "multipart"])
async def test_a_login_is_taken_in_each_of_its_forms(house: Any, way: str) -> None:
    """As JSON, a form, or in the query."""
    door = the_door(house)
    await registered(door)
    query = f"username=lovelace&password={quote(PASSWORD)}"
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{ADA[name]}\r\n'
        for name in ("username", "password")
    )
    ways: dict[str, dict[str, Any]] = {
        "json": {"json_body": {"username": "lovelace", "password": PASSWORD}},
        "form": {"body": query.encode(), "headers": {"content-type": FORM}},
        "query": {},
        "multipart": {
            "body": f"{parts}--b--\r\n".encode(),
            "headers": {"content-type": "multipart/form-data; boundary=b"},
        },
    }
    target = f"/v1/auth/token?{query}" if way == "query" else "/v1/auth/token"
    answer = await door.ask("POST", target, token="", **ways[way])
    assert answer.status == 200
    assert (await door.ask("GET", "/v1/auth/me", token=answer.json()["access_token"])).json()["username"] == "lovelace"


@pytest.mark.parametrize(
    ("changed", "status", "field"),
    [
        ({"username": "ab"}, 422, "username"),
        ({"username": "ada", "email": "none"}, 422, "email"),
        ({"username": "shop"}, 422, "username"),
        ({"username": "LoveLace"}, 400, "username"),
        ({"username": "other"}, 400, "email"),
        ({"username": "other", "email": "o@example.org", "password": "password123"}, 422, "password"),
        ({"username": "other", "email": "o@example.org", "password": "short"}, 422, "password"),
        ({"username": None}, 422, "username"),
    ],
)
async def test_a_registration_that_cannot_be_is_refused(
    house: Any, changed: dict[str, Any], status: int, field: str
) -> None:
    """With the field; 400, as the platform has it, where a name is taken. No password is repeated."""
    door = the_door(house)
    await registered(door)
    refused = await door.ask("POST", "/v1/auth/register", {**ADA, **changed}, token="")
    assert error_of(refused) == (status, "INVALID_PARAMETER", field)
    assert isinstance(refused.json()["detail"], str) == (status == 400)
    assert str(changed.get("password", PASSWORD)).encode() not in refused.body


@pytest.mark.parametrize(
    ("registration", "given", "status"),
    [
        ("off", {"headers": HERE}, 403),
        ("here", {"headers": HERE}, 200),
        ("here", {"headers": HERE, "client": "203.0.113.9"}, 403),
        ("here", {"headers": {**HERE, "x-forwarded-for": "203.0.113.9"}}, 403),
        ("here", {"headers": {"host": "rebound.test"}}, 403),
        ("here", {"headers": {**HERE, "origin": "https://evil.test"}}, 403),
        ("open", {"client": "203.0.113.9"}, 200),
        ("open", {"client": "203.0.113.9", "headers": {"origin": "https://evil.test"}}, 403),
    ],
)
async def test_who_may_register_is_a_setting(house: Any, registration: str, given: Any, status: int) -> None:
    """This machine's own programs, everybody, nobody; never another's web page in somebody's browser."""
    answer = await the_door(house, registration).ask("POST", "/v1/auth/register", ADA, token="", **given)
    assert answer.status == status, answer.body


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 422),
        (b"[1]", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"username": 7, "password": {}}', "application/json", 422),
        (b"username=a", FORM, 422),
        (b"\xff=\xff", FORM, 400),
        (b"&".join(b"a=b" for _ in range(100)), FORM, 400),
        (b"", "", 422),
        (b"[" * 10_000, "application/json", 400),
        (b"x" * (MAX_LOGIN_BYTES + 1), FORM, 413),
    ],
)
async def test_a_login_that_cannot_be_read_is_refused(house: Any, body: bytes, content_type: str, status: int) -> None:
    """Without an error of the server's; strangers get no large bodies read."""
    answer = await the_door(house).ask(
        "POST", "/v1/auth/token", body=body, headers={"content-type": content_type}, token=""
    )
    assert answer.status == status


async def test_a_wrong_login_is_401(house: Any) -> None:
    """The same for an account that is not there; the password is not repeated."""
    door = the_door(house)
    await registered(door)
    answers = [await logged_in(door, name, "not-the-password-0") for name in ("lovelace", "nobody")]
    assert answers[0].body.replace(b"lovelace", b"") == answers[1].body.replace(b"nobody", b"")
    for answer in answers:
        assert error_of(answer) == (401, "UNAUTHENTICATED", "password")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert b"not-the-password-0" not in answer.body


async def test_a_key_is_made_shown_once_used_and_revoked(house: Any) -> None:
    """As a bearer token, or as X-API-Key."""
    door = the_door(house)
    token = await registered(door)
    made = await door.ask("POST", "/v1/keys", {"name": "shop", "scopes": ["read"], "expires_in": 3600}, token=token)
    assert made.status == 201
    key = made.json()["key"]
    listed = await door.ask("GET", "/v1/keys", token=token)
    assert key.encode() not in listed.body
    assert listed.json()["keys"] == [{name: value for name, value in made.json().items() if name != "key"}]
    job_id = (await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token=token)).json()["id"]
    for given in ({"token": key}, {"token": "", "headers": {"x-api-key": key}}):
        assert (await door.ask("GET", f"/v1/jobs/{job_id}", **given)).status == 200
    refused = await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token=key)
    assert error_of(refused)[:2] == (403, "PERMISSION_DENIED")
    assert refused.json()["error"]["details"]["limit"] == "generate"
    assert (await door.ask("DELETE", f"/v1/keys/{made.json()['id']}", token=token)).status == 204
    assert (await door.ask("GET", f"/v1/jobs/{job_id}", token=key)).status == 401


HELD = [
    ("/v1/predictions", {"model_id": "demo", "input": {"prompt": "a star"}}, {"prefer": "wait"}),
    ("/api/v1/generate", {"prompt": "a star"}, {}),
    ("/v1/images/generations", {"prompt": "a star", "size": "256x256"}, {}),
]


@pytest.mark.parametrize(("path", "asked", "headers"), HELD)
async def test_an_answer_that_is_held_ends_with_its_key(house: Any, path: str, asked: Any, headers: Any) -> None:
    """401 within a second of the revocation, and no word of the job, which goes on."""
    door = the_door(house)
    token = await registered(door)
    made = (await door.ask("POST", "/v1/keys", {"name": "a game"}, token=token)).json()
    exchange = await door.open("POST", path, asked, headers=headers, token=made["key"])
    [job_id] = house.painter.known
    await house.pass_time(5.0)
    assert not exchange.started.is_set()
    await door.ask("DELETE", f"/v1/keys/{made['id']}", token=token)
    await house.pass_time(EVERY)
    answer = await exchange.answer()
    assert error_of(answer) == (401, "UNAUTHENTICATED", "token")
    assert job_id.encode() not in answer.body
    house.painter.paint(job_id)
    await settle()
    assert (await door.ask("GET", f"/v1/jobs/{job_id}", token=token)).json()["state"] == "succeeded"
    await house.pass_time(EVERY)
    assert house.clock.getDelayedCalls() == [], "and nobody is looked after any more"


async def test_a_key_makes_no_keys_and_changes_no_password(house: Any) -> None:
    """Whoever finds one must not be able to make themselves at home; but it may end itself."""
    door = the_door(house)
    token = await registered(door)
    made = (await door.ask("POST", "/v1/keys", {"name": "shop"}, token=token)).json()
    other = (await door.ask("POST", "/v1/keys", {"name": "other"}, token=token)).json()
    change = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    for method, path, body in (
        ("POST", "/v1/keys", {"name": "more"}),
        ("POST", "/v1/auth/password", change),
        ("DELETE", f"/v1/keys/{other['id']}", None),
    ):
        assert error_of(await door.ask(method, path, body, token=made["key"]))[:2] == (403, "PERMISSION_DENIED")
    assert (await door.ask("DELETE", f"/v1/keys/{made['id']}", token=made["key"])).status == 204
    assert (await door.ask("GET", "/v1/auth/me", token=made["key"])).status == 401


async def test_a_password_is_changed_by_who_knows_the_old_one(house: Any) -> None:
    """And the tokens of before end."""
    door = the_door(house)
    token = await registered(door)
    house.clock.advance(1.0)
    wrong = {"old_password": "wrong", "new_password": OTHER_PASSWORD}
    assert error_of(await door.ask("POST", "/v1/auth/password", wrong, token=token))[0] == 403
    right = {"old_password": PASSWORD, "new_password": OTHER_PASSWORD}
    assert (await door.ask("POST", "/v1/auth/password", right, token=token)).status == 204
    assert (await door.ask("GET", "/v1/auth/me", token=token)).status == 401
    assert (await logged_in(door)).status == 401
    assert (await logged_in(door, password=OTHER_PASSWORD)).status == 200


async def test_admins_see_accounts_and_what_was_done(house: Any) -> None:
    """And shut somebody out, at once."""
    door = the_door(house)
    ada, root = await registered(door), await registered(door, Role.ADMIN, username="grace", email="g@example.org")
    users = (await door.ask("GET", "/v1/users", token=root)).json()["users"]
    assert {user["username"]: user["role"] for user in users} == {"lovelace": "user", "grace": "admin"}
    assert "password" not in str(users)
    shut = await door.ask("PATCH", "/v1/users/lovelace", {"is_active": False}, token=root)
    assert (shut.status, shut.json()["is_active"]) == (200, False)
    assert (await door.ask("GET", "/v1/auth/me", token=ada)).status == 401
    log = (await door.ask("GET", "/v1/audit?limit=1", token=root)).json()
    [act] = log["acts"]
    assert (act["who"], act["action"], act["target"], act["detail"]) == (
        "grace",
        "user.change",
        "lovelace",
        "active=False",
    )
    older = (await door.ask("GET", f"/v1/audit?before={log['before']}&who=grace", token=root)).json()
    assert [act["action"] for act in older["acts"]] == ["user.register"]


async def test_on_a_server_that_asks_for_no_token_an_account_s_counts_all_the_same(house: Any) -> None:
    """A forged or revoked one is not taken for `local`; any other text is, as before."""
    house.identities = Identities({}, house.rooms.directory)
    door = the_door(house)
    token = await registered(door)
    header, claims, signature = token.split(".")
    for given, owner in ((token, "lovelace"), ("", "local"), ("r8_anything", "local")):
        made = await door.ask("POST", "/v1/jobs", {"prompt": "a star"}, token=given, headers=HERE)
        assert (await house.store.get(made.json()["id"])).owner == owner
    for forged in (f"{header}.{claims}.", f"{header}.{claims}.{signature[:-2]}", "atl_" + "x" * 43):
        assert (await door.ask("GET", "/v1/jobs/none", token=forged, headers=HERE)).status == 401


async def test_a_body_of_somebody_unknown_is_not_read(house: Any) -> None:
    """But for those by which one becomes known."""
    door = the_door(house)
    exchange = await door.open("POST", "/v1/keys", body=b"{}", token="eyJx.x.x", withheld=True)
    assert (await exchange.answer()).status == 401
