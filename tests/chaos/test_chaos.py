"""A small run of the kill test; `make chaos` is the whole."""

from __future__ import annotations

from tests.chaos.parts import all_parts
from tests.chaos.run import run


def test_whatever_dies_every_job_ends_once_and_everybody_hears_of_it() -> None:
    """Thirty jobs and six kills, with the broker, the database, the storage and the backend failing in between."""
    with all_parts() as parts:
        count = run(parts, jobs=30, kills=6, seed=7, engine="quick", say=print)
        assert parts.receiver.wrong == []
        assert "Traceback" not in parts.log()
    assert (count.succeeded, count.objects, count.failed) == (30, 30, 0)
    assert (count.lost, count.doubled, count.unacked, count.dead_lettered) == (0, 0, 0, 0)
    assert count.kills >= 4, "the jobs had ended before the kills"
