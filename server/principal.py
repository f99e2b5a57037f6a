"""Who asks, once a door has found out: whose things they see, and what their credential lets them do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from server.catalogue_commands import (
    AddAdapter,
    ChangeModel,
    ListAdapters,
    RegisterModel,
    RemoveAdapter,
    RemoveModel,
    RollBack,
    ShareTraffic,
)
from server.commands import (
    Cancel,
    CheckSubmit,
    CloseLive,
    Command,
    ConnectUdp,
    GetJob,
    GetModel,
    GetServerStatus,
    ListJobs,
    ListModels,
    LiveFrame,
    OpenLive,
    Ping,
    Predict,
    Submit,
    Watch,
    WatchLive,
)
from server.errors import Code, Refusal
from server.scopes import EVERYDAY as EVERYDAY
from server.scopes import Role as Role
from server.scopes import Scope as Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """`owner` is what jobs belong to, and what commands carry. `user_id` is the account's, "" for tokens of the settings.

    `key_id` is the API key's that was shown, "" for every other credential. After `good_until` (seconds since 1970) whether the
    credential still holds has to be asked again; `credential` is its digest.
    """

    owner: str
    roles: frozenset[Role] = frozenset({Role.USER})
    scopes: frozenset[Scope] = EVERYDAY
    key_id: str = ""
    user_id: str = ""
    good_until: float = field(default=math.inf, compare=False)
    credential: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_admin(self) -> bool:
        """Whether accounts are theirs to look after, with this credential."""
        return Role.ADMIN in self.roles and Scope.ADMIN in self.scopes

    @property
    def is_noted(self) -> bool:
        """Whether what they change is written down: a key's doings, and an admin's."""
        return bool(self.key_id) or self.is_admin

    def check(self, scope: Scope) -> None:
        """Raise Refusal (PERMISSION_DENIED) where the credential is not for this."""
        granted = scope in self.scopes or (scope is Scope.SETTINGS and self.is_admin)
        if not granted or (scope is Scope.ADMIN and not self.is_admin):
            who = "this API key" if self.key_id else "this account"
            raise Refusal(Code.PERMISSION_DENIED, f"{who} may not do this: it needs {scope.value}", limit=scope.value)


SCOPES: Mapping[type[Command], Scope | None] = {
    Submit: Scope.GENERATE,
    Predict: Scope.GENERATE,
    CheckSubmit: Scope.GENERATE,
    Cancel: Scope.GENERATE,
    Watch: Scope.READ,
    GetJob: Scope.READ,
    ListJobs: Scope.READ,
    ListModels: Scope.READ,
    GetModel: Scope.READ,
    ListAdapters: Scope.READ,
    **dict.fromkeys(
        (RegisterModel, ChangeModel, ShareTraffic, RollBack, RemoveModel, AddAdapter, RemoveAdapter), Scope.MODELS
    ),
    OpenLive: Scope.GENERATE,
    LiveFrame: Scope.GENERATE,
    CloseLive: Scope.GENERATE,
    WatchLive: Scope.READ,
    ConnectUdp: Scope.READ,
    GetServerStatus: None,  # of the server, not of anybody
    Ping: None,
}
"""What each command needs, on the doors that take commands as they are; None: any credential."""


def check_command(principal: Principal, command: Command) -> None:
    """Raise Refusal (PERMISSION_DENIED) where the credential is not for it."""
    scope = SCOPES[type(command)]
    if scope is not None:
        principal.check(scope)


def changes(command: Command) -> bool:
    """Whether something is another after it. A frame is no such thing: there are thirty a second, and nothing of them is kept."""
    return SCOPES[type(command)] not in (None, Scope.READ) and not isinstance(command, LiveFrame)
