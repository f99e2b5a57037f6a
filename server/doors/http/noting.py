"""What API keys and admins change over HTTP goes to the audit log; what is done with accounts stands there already, with more."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import structlog

from server.accounts.service import AccountService
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.principal import Principal

log = structlog.get_logger("atelier.http")

LOOKING = frozenset({"GET", "HEAD", "OPTIONS"})
_NOTED_ALREADY = ("/v1/auth/", "/v1/keys", "/v1/users")


class Noting:
    """Told of every request that was answered."""

    def __init__(self, accounts: AccountService | None, tasks: Tasks) -> None:
        self._accounts = accounts
        self._tasks = tasks

    def answered(self, scope: MutableMapping[str, Any], status: int) -> None:
        """Note it, where it changed something and was a key's or an admin's."""
        principal: Principal | None = scope["state"].get("principal")
        if self._accounts is None or principal is None or not principal.is_noted:
            return
        if scope["method"] in LOOKING or status >= 400 or scope["path"].startswith(_NOTED_ALREADY):
            return
        client = scope.get("client")
        self._tasks.start(self._note(principal, scope["method"], scope["path"], client[0] if client else ""))

    async def _note(self, principal: Principal, method: str, path: str, address: str) -> None:
        assert self._accounts is not None
        try:
            await self._accounts.note(principal, f"http.{method.lower()}", path, address)
        except RecordsUnavailable as error:
            log.warning("audit.lost", who=principal.owner, action=method, target=path[:200], reason=error.reason)
