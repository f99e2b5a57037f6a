"""The options of `atelier users`, `atelier keys` and `atelier audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from server.scopes import EVERYDAY, Role, Scope

users = typer.Typer(
    help="Accounts (docs/accounts.md). Works beside a running server, which notices within seconds.",
    no_args_is_help=True,
)
keys = typer.Typer(help="API keys of accounts, for programs.", no_args_is_help=True)

Username = Annotated[str, typer.Argument(metavar="USERNAME")]
FromStdin = Annotated[bool, typer.Option("--stdin", help="Read the password from stdin; else one is made and printed.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]


@users.command("create")
def create_user(
    username: Username,
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    role: Annotated[Role, typer.Option(help="An admin looks after accounts.")] = Role.USER,
    stdin: FromStdin = False,
) -> None:
    """Make an account."""
    from atelier.accounts import create_user

    raise typer.Exit(create_user(username, email, role, ask=stdin))


@users.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Every account."""
    from atelier.accounts import show_users

    raise typer.Exit(show_users(as_json=as_json))


@users.command("deactivate")
def deactivate(username: Username) -> None:
    """Let somebody in no more: neither by password nor by access tokens or keys. What is theirs stays."""
    from atelier.accounts import set_active

    raise typer.Exit(set_active(username, False))


@users.command("activate")
def activate(username: Username) -> None:
    """Let somebody in again. Keys that were not revoked hold again."""
    from atelier.accounts import set_active

    raise typer.Exit(set_active(username, True))


@users.command("role")
def role(username: Username, role: Annotated[Role, typer.Argument(metavar="user|admin")]) -> None:
    """Make somebody an admin, or a user."""
    from atelier.accounts import set_role

    raise typer.Exit(set_role(username, role))


@users.command("reset-password")
def reset_password(username: Username, stdin: FromStdin = False) -> None:
    """Another password; access tokens from before end, keys do not."""
    from atelier.accounts import reset_password

    raise typer.Exit(reset_password(username, ask=stdin))


@keys.command("create")
def create_key(
    username: Username,
    name: Annotated[str, typer.Argument(metavar="NAME", help="For people, in lists.")],
    scopes: Annotated[list[Scope] | None, typer.Option("--scope", help="May be given several times.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="None: until it is revoked.")] = None,
) -> None:
    """Make a key, and print it, once."""
    from atelier.accounts import create_key

    raise typer.Exit(create_key(username, name, scopes or sorted(EVERYDAY), days))


@keys.command("list")
def list_keys(username: Annotated[str, typer.Argument(metavar="[USERNAME]")] = "", as_json: AsJson = False) -> None:
    """Somebody's keys, or everybody's: their first characters."""
    from atelier.accounts import show_keys

    raise typer.Exit(show_keys(username, as_json=as_json))


@keys.command("revoke")
def revoke_key(username: Username, key_id: Annotated[str, typer.Argument(metavar="KEY_ID")]) -> None:
    """A key holds no more."""
    from atelier.accounts import revoke

    raise typer.Exit(revoke(username, key_id))


def audit(
    who: Annotated[str, typer.Option(help="What one alone did.")] = "",
    most: Annotated[int, typer.Option("--most", min=1, max=100_000, help="The newest so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """What admins and keys did."""
    from atelier.accounts import audit

    raise typer.Exit(audit(who, most, as_json=as_json))
