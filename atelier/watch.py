"""`atelier watch`: one job until its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atelier.display import display_for
from atelier.output import print_json
from atelier.painting import Painting, tell_failures
from atelier.running import connected


async def watch(reactor: Any, server: str, token: str, job_id: str, out: Path | None, *, as_json: bool) -> int:
    """The exit status: 0 when the job succeeded. Raises CannotConnectError, NotWelcomeError, RefusedError."""
    async with connected(reactor, server, token) as client:
        job = await client.get_job(job_id)
        handle = await client.watch(job_id, inline_pictures=out is not None)
        with display_for(as_json=as_json) as display:
            report = await Painting(client, display, out).follow(handle, job.prompt)
    if as_json:
        print_json(report.as_plain())
    elif report.outcome is not None:
        for path in report.files or [artifact.url or artifact.key for artifact in report.outcome.artifacts]:
            print(path)
    return 0 if tell_failures([report]) else 1
