"""What the server logs during a test is kept from the terminal and looked through: a task that broke fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """Every line of the test."""
    with capture_logs() as lines:
        yield lines
    broken = [line for line in lines if line["event"] == "task.broken"]
    assert not broken, f"a task broke: {broken}"
