"""Lists over HTTP, page by page: a cursor says from which job on, and in which direction. Clients hand it back as it came."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from typing import Annotated

from fastapi import Query

from server.errors import Refusal
from server.job import Job
from server.listing import JobPage, JobPlace

Cursor = Annotated[str, Query(max_length=300, description="`next` (or `previous`) of the page before.")]

_OLDER, _NEWER = "-", "+"
_JOB_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


def cursor_text(job: Job, *, newer: bool = False) -> str:
    """The cursor of the jobs older than this one, or newer."""
    place = [_NEWER if newer else _OLDER, job.created_at, job.id]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def page_of(cursor: str, page: JobPage) -> JobPage:
    """The page from a cursor on; "" is the beginning. Raises Refusal."""
    if not cursor:
        return page
    try:
        given = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        direction, created_at, job_id = given
        known = direction in (_OLDER, _NEWER) and isinstance(job_id, str) and _JOB_ID.fullmatch(job_id)
        at = float(created_at)
    except (ValueError, TypeError, RecursionError, OverflowError):
        known, at = None, math.nan
    if not known or not math.isfinite(at):
        raise Refusal.invalid("cursor", "one that a page before named", cursor)
    place = JobPlace(at, job_id)
    return replace(page, after=place) if direction == _NEWER else replace(page, before=place)
