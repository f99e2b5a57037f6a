"""The search for secrets that were told (tests.leaks) finds what is told on purpose, in runs of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HEAD = """
import asyncio, logging, os, subprocess, sys
import structlog
from pydantic import SecretStr

KEPT = open("child", "w")
secret = SecretStr("hush-" + "hush-hush")
child = "import os; print(os.environ['RABBITMQ_PASS'])"
given = {**os.environ, "RABBITMQ_PASS": "sotto-" + "voce-voce"}
address = {**os.environ, "RABBITMQ_PASS": "", "DATABASE_URL": "postgresql://me:sotto-voce%2Fvoce@here/db"}
tokens = {**os.environ, "ATELIER_TOKENS": "ada:token-of-ada-16,bob:token-of-bob-16"}
"""

WAYS = {
    "print": "print(secret.get_secret_value())",
    "stderr": "print('Bearer', secret.get_secret_value(), file=sys.stderr)",
    "log": "logging.getLogger('x').warning('it is %s', secret.get_secret_value())",
    "structlog": "structlog.get_logger().info('connected', password=secret.get_secret_value())",
    "captured log": "from structlog.testing import capture_logs\n    with capture_logs():\n        "
    "structlog.get_logger().info('connected', password=secret.get_secret_value())",
    "captured error": "from structlog.testing import capture_logs\n    with capture_logs():\n        "
    "structlog.get_logger().info('broke', exc_info=ValueError(secret.get_secret_value()))",
    "read": "print(secret.get_secret_value()); capsys.readouterr()",
    "before it was known": "print('later-' + 'known'); SecretStr('later-' + 'known')",
    "in JSON": "import json; print(json.dumps(SecretStr('with \"quotes\"').get_secret_value()))",
    "in an address": "from urllib.parse import quote\n    "
    "print('https://x/?' + quote(SecretStr('a+b/c=d&e').get_secret_value(), ''))",
    "child": "subprocess.run([sys.executable, '-c', child], env=given)",
    "child's pipe": "subprocess.run([sys.executable, '-c', child], env=given, capture_output=True)",
    "child's file": "subprocess.run([sys.executable, '-c', child], env=given, stdout=KEPT.fileno())",
    "child's file that is gone": "with open(tmp_path / 'log', 'w') as log:\n        "
    "process = subprocess.Popen([sys.executable, '-c', child], env=given, stdout=log)\n    "
    "(tmp_path / 'log').unlink(); process.wait()",
    "asyncio's pipe": "asyncio.run(talk(given))",
    "password of an address": "print(address['DATABASE_URL'].encode()); subprocess.run(['true'], env=address)",
    "token": "print('hello token-of-bob-16'); subprocess.run(['true'], env=tokens)",
}  # fmt: skip

TALK = """
async def talk(environment):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", child, env=environment, stdout=asyncio.subprocess.PIPE)
    await process.communicate()
"""

SILENT = """
def test_it(tmp_path):
    print(secret, repr(secret), "postgresql://me:***@here/db", "short")
    SecretStr("short")
    SecretStr("sqlite:///a/file")
    print("sqlite:///a/file")
    subprocess.run(["true"], env=address)
"""


def _run(folder: Path, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(HEAD + TALK + text)
    usual = ["-q", "-p", "tests.leaks", "-p", "no:cacheprovider", "--rootdir", "."]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *usual, *options, "test_it.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_secret_that_is_told_is_found_whichever_way(tmp_path: Path) -> None:
    """A run fails though all its tests pass, names each test that told one, and does not repeat it."""
    tests = "".join(
        f"\n\ndef test_{number}(tmp_path, capsys):\n    {told}\n" for number, told in enumerate(WAYS.values())
    )
    run = _run(tmp_path, tests)
    assert f"{len(WAYS)} passed" in run.stdout, run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    told = run.stdout.partition("secrets were told")[2]
    missed = [way for number, way in enumerate(WAYS) if f"test_it.py::test_{number}" not in told]
    assert not missed, run.stdout
    for secret in ("hush-hush-hush", "sotto-voce", "token-of-bob-16", "later-known"):
        assert secret not in told


def test_a_run_in_several_processes_fails_too(tmp_path: Path) -> None:
    """Each process finds what was told in it, and the one that reports names the test."""
    tests = "def test_fine():\n    pass\n\n\ndef test_it(tmp_path):\n    print(secret.get_secret_value())\n"
    run = _run(tmp_path, tests, "--numprocesses", "2")
    assert "2 passed" in run.stdout, run.stdout
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "test_it.py::test_it" in run.stdout.partition("secrets were told")[2]


def test_a_run_that_tells_none_passes(tmp_path: Path) -> None:
    """Secrets as they show themselves, addresses without passwords, and words too short to be known by are not found."""
    run = _run(tmp_path, SILENT)
    assert run.returncode == 0, run.stdout
