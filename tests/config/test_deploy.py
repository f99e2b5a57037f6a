"""The files of deploy/ that operators copy: what stands in them is what the server takes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from config import load_settings

THREE = Path(__file__).parent.parent.parent / "deploy" / "three-nodes"


@pytest.mark.parametrize("role", ["gateway", "worker", "all"])
def test_the_environment_of_three_nodes_is_taken(monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """As it stands, in each role; it names the hosts that the broker's own file names."""
    for name in [name for name in os.environ if name.startswith(("ATELIER_", "AWS_"))]:
        monkeypatch.delenv(name)
    for name, value in dotenv_values(THREE / "atelier.env").items():
        monkeypatch.setenv(name, value or "")
    monkeypatch.setenv("ATELIER_ROLE", role)
    settings = load_settings()
    assert settings.role == role
    named = re.findall(r"nodes\.\d = rabbit@(\w+)", (THREE / "rabbitmq.conf").read_text())
    assert [host for host, _ in settings.rabbitmq_hosts()] == named
    assert settings.aws_storage_bucket_name == "pictures"
    assert list(settings.tokens) == ["shop"]
