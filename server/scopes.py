"""What somebody is, and what a credential may be used for: words alone, which the command line reads quickly."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody is: an admin looks after accounts, and sees no more of others' pictures than a user does."""

    USER = "user"
    ADMIN = "admin"


class Scope(StrEnum):
    """What a credential may be used for."""

    GENERATE = "generate"  # submit, cancel, publish what was painted
    READ = "read"  # look at jobs, pictures and models
    MODELS = "models"  # register and remove models and adapters
    ADMIN = "admin"  # accounts and the audit log, where its owner is an admin
    SETTINGS = "settings"  # fetch nodes' settings, and nothing else; an admin's too


EVERYDAY = frozenset({Scope.GENERATE, Scope.READ, Scope.MODELS})
