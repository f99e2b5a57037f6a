"""Each owner's webhook secret."""

from __future__ import annotations

from base64 import b64decode, b64encode

from pydantic import SecretStr

from server.webhook_secrets import owner_secret

SERVER = SecretStr("whsec_" + b64encode(bytes(range(32))).decode())


def test_an_owner_s_secret_is_the_same_on_every_node_and_nobody_else_s() -> None:
    """Made of the server's and the name, in the form of Standard Webhooks; the server's cannot be read from it."""
    ada, bob = owner_secret(SERVER, "ada"), owner_secret(SERVER, "bob")
    assert ada == owner_secret(SERVER, "ada") != bob
    for secret in (ada, bob):
        assert secret.startswith("whsec_")
        assert len(b64decode(secret.removeprefix("whsec_"))) == 32
        assert SERVER.get_secret_value().removeprefix("whsec_") not in secret


def test_another_server_secret_gives_others() -> None:
    """Which is how they are changed."""
    other = SecretStr("whsec_" + b64encode(bytes(32)).decode())
    assert owner_secret(SERVER, "ada") != owner_secret(other, "ada")
