"""What names, e-mail addresses, passwords and keys' names may be. Raises Refusal, which says what would be taken."""

from __future__ import annotations

import re
from collections.abc import Collection

from server.errors import Code, Refusal

LEAST_PASSWORD, MOST_PASSWORD = 8, 200  # characters: NIST's least; the most is so that nobody hashes a megabyte
LEAST_SCORE = 2  # zxcvbn's: more than a million guesses, which nobody makes through a limited login
SCORED = 72  # characters that zxcvbn looks at: its time grows faster than the length

_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,63}")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")
_RESERVED = frozenset(
    {"local", "backend", "atelier", "admin", "root", "system", "anonymous", "nobody", "me", "command-line"}
)
"""Owners that are not accounts, and names under which somebody could pass for the house."""


def check_username(username: str, owners: Collection[str] = ()) -> None:
    """`owners` are names that others have: of tokens in the settings, of the RabbitMQ door, of those without a token."""
    if not _USERNAME.fullmatch(username):
        limit = "3 to 64 letters, digits, dots, _ and -, the first a letter or digit"
        raise Refusal.invalid("username", limit, username)
    if username.lower() in _RESERVED or username.lower() in {owner.lower() for owner in owners}:
        raise Refusal.invalid("username", "a name that is not reserved", username)


def check_email(email: str) -> None:
    """Its form alone: whether it can be reached is not asked."""
    host = email.rpartition("@")[2]
    if len(email) > 254 or not _EMAIL.fullmatch(email) or ".." in email or "." not in host:
        raise Refusal.invalid("email", "an e-mail address such as ada@example.org", email)


def check_password(password: str) -> None:
    """Its length and characters."""
    try:
        password.encode()
    except UnicodeEncodeError:
        raise _password("a text of valid characters") from None
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise _password(f"{LEAST_PASSWORD} to {MOST_PASSWORD} characters")


def check_strength(password: str, known: Collection[str]) -> None:
    """Whether it is easily guessed, also by who knows these texts about its owner. Takes milliseconds: for a thread."""
    from zxcvbn import zxcvbn  # its lists of common passwords take 50 ms and 10 MB

    words = [part for text in known for part in (text, *re.split(r"[@._-]", text)) if len(part) > 2]
    found = zxcvbn(password[:SCORED], user_inputs=words)
    if found["score"] < LEAST_SCORE:
        why = found["feedback"]["warning"] or "it is short and of few kinds of characters"
        raise _password(f"harder to guess ({why.rstrip('.')})")


def check_key_name(name: str) -> None:
    """For people, in lists."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise Refusal.invalid("name", "1 to 100 printable characters", name)


def _password(limit: str) -> Refusal:
    """What was given is nobody's business, the log's neither."""
    return Refusal(Code.INVALID_PARAMETER, f"password must be {limit}", field="password", limit=limit)
