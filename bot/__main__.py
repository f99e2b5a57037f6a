"""Entry point of `python -m bot`: sets the stage, and only then imports what stands on it."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from twisted.internet import asyncioreactor

    asyncioreactor.install()  # type: ignore[no-untyped-call]  # before any import that would install another
    from bot.commands import app

    app(prog_name="python -m bot")


if __name__ == "__main__":
    main()
