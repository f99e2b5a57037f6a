"""What names, addresses and passwords may be."""

from __future__ import annotations

import pytest

from server.accounts.naming import check_email, check_key_name, check_password, check_strength, check_username
from server.errors import Code, Refusal


def field_of(check: object, *given: object) -> tuple[Code, str]:
    """The refusal's code and field; the text must not show a password."""
    with pytest.raises(Refusal) as caught:
        check(*given)  # type: ignore[operator]
    return caught.value.code, caught.value.field


@pytest.mark.parametrize(
    "username",
    [
        "", "ab", "a" * 65, "-ada", ".ada", "ada lovelace", "ada\n", "ада", "a/b", "a:b", "ada\0",
        "local", "LOCAL", "backend", "Admin", "shop", "SHOP",
    ],
)  # fmt: skip
def test_a_username_that_is_none_or_another_s_is_refused(username: str) -> None:
    """Owners that are no accounts cannot be taken over by making one of their name, in whichever case."""
    assert field_of(check_username, username, {"shop"}) == (Code.INVALID_PARAMETER, "username")


def test_plain_names_and_addresses_are_taken() -> None:
    """As people write them."""
    for name in ("ada", "Ada.Lovelace", "a-1_b", "007"):
        check_username(name, {"shop"})
    for email in ("ada@example.org", "a.b+c@mail.example.co.uk"):
        check_email(email)
    check_key_name("the shop's server, 별")


@pytest.mark.parametrize("email", ["", "ada", "ada@", "@example.org", "ada@localhost", "a b@c.de", "a@b..de", "a@b.de\n",
                                   "x" * 65 + "@example.org", "ada@" + "e" * 260 + ".org", "ада@example.org"])  # fmt: skip
def test_an_address_that_is_none_is_refused(email: str) -> None:
    """Its form alone is looked at."""
    assert field_of(check_email, email) == (Code.INVALID_PARAMETER, "email")


@pytest.mark.parametrize("password", ["", "short", "x" * 201, "\ud800" * 10])
def test_a_password_of_another_length_or_of_no_characters_is_refused(password: str) -> None:
    """And is not shown."""
    assert field_of(check_password, password) == (Code.INVALID_PARAMETER, "password")


@pytest.mark.parametrize(
    "password", ["password", "password1", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "lovelace", "adaexample"]
)
def test_a_password_that_is_easily_guessed_is_refused(password: str) -> None:
    """Common ones, rows of keys, and those made of what is known of their owner."""
    with pytest.raises(Refusal, match="harder to guess") as caught:
        check_strength(password, ("Lovelace", "ada@example.org"))
    assert password == "password" or password not in caught.value.message


def test_a_password_that_is_hard_to_guess_is_taken_however_long() -> None:
    """A sentence, or a random one."""
    for password in ("correct-horse-battery-staple", "tR7#kq92!x", "the quick brown fox " * 10):
        check_strength(password, ("ada", "ada@example.org"))


@pytest.mark.parametrize("name", ["", "x" * 101, "a\nb", "\x00"])
def test_a_key_s_name_is_for_people(name: str) -> None:
    """One line of text."""
    assert field_of(check_key_name, name) == (Code.INVALID_PARAMETER, "name")
