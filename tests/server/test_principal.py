"""What a credential may be used for."""

from __future__ import annotations

from typing import get_args

import pytest

from server.commands import Cancel, Command, ListModels, Ping
from server.errors import Code, Refusal
from server.principal import EVERYDAY, SCOPES, Principal, Role, Scope, check_command


def test_every_command_has_its_line() -> None:
    """A new one without a scope would be anybody's."""
    assert set(SCOPES) == set(get_args(Command))


def test_a_key_does_what_its_scopes_say_and_no_more() -> None:
    """The refusal names what would be needed."""
    reader = Principal(owner="ada", scopes=frozenset({Scope.READ}), key_id="k1")
    check_command(reader, ListModels())
    check_command(reader, Ping(1))
    with pytest.raises(Refusal) as caught:
        check_command(reader, Cancel(owner="ada", job_id="j"))
    assert (caught.value.code, caught.value.limit) == (Code.PERMISSION_DENIED, "generate")


def test_an_admin_needs_both_the_role_and_the_scope() -> None:
    """A user's key cannot claim it, and an admin's everyday key has not got it."""
    everything = frozenset(Scope)
    admin = frozenset({Role.USER, Role.ADMIN})
    assert Principal(owner="root", roles=admin, scopes=everything).is_admin
    for other in (Principal(owner="ada", scopes=everything), Principal(owner="root", roles=admin, scopes=EVERYDAY)):
        assert not other.is_admin
        with pytest.raises(Refusal, match="admin"):
            other.check(Scope.ADMIN)
