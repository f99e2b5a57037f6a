"""`python -m bot` as a user types it: what makes no sense is told in a line with what to change, and the status is 2."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bot.conftest import Quick

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0  # seconds


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def bots(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run it to its end, after a line of shell."""
    command = ["sh", "-c", f'{before}\nexec "$@"', "sh", sys.executable, "-m", "bot", *arguments]
    return subprocess.run(
        command,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load", "--profile", "game-loby"], "no profile 'game-loby'"),
        (["load", "--server", "tcp:127.0.0.1:1"], "cannot connect to tcp:127.0.0.1:1: Connection was refused"),
        (["load", "--server", "127.0.0.1"], "that is no address such as tcp:127.0.0.1:9000"),
        (["load", "--users", "0"], "no users: arrivals.users is 0; give --users N"),
        (["load", "--users", "3", "--rate", "2"], "give one of them"),
        (["load", "--rate", "0"], "--rate must be more than 0"),
        (["failover"], "no fault is planned: give --fault"),
        (["failover", "--fault", "kill server at 3"], "--pid server=PID"),
        (["failover", "--fault", "break it"], "--fault 'break it' must be 'kill NAME at SECONDS'"),
        (["failover", "--fault", "kill server at 3", "--pid", "server=999999999"], "there is no such process"),
        (["load", "--pid", "server"], "must be NAME=PID"),
        (["load", "--out", "/proc/nowhere"], "--out /proc/nowhere"),
        (["load", "--door", "carrier-pigeon"], "--door carrier-pigeon"),
        (["compare", "/no/such.json", "/no/other.json"], "/no/such.json: No such file or directory"),
        (["report", str(ROOT / "pyproject.toml")], "is no JSON"),
    ],
)
def test_nonsense_is_told(arguments: list[str], said: str) -> None:
    """No traceback, and nothing on stdout."""
    ended = bots(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_too_many_users_for_the_open_files(quick: Quick) -> None:
    """What is needed, what there is, and three ways out."""
    ended = bots("load", "--server", quick.address, "--users", "100000", before="ulimit -n 1024")
    assert ended.returncode == 2
    assert "100,000 connections need 100,064 open files" in ended.stderr
    assert "may have 1,024" in ended.stderr
    assert "ulimit -n 100064" in ended.stderr
    assert "--processes 105" in ended.stderr


def test_more_users_than_the_server_takes(quick: Quick) -> None:
    """The server's refusal, and which of its settings to raise."""
    ended = bots("load", "--server", quick.address, "--users", "700", "--seconds", "1")
    assert ended.returncode == 2, ended.stderr
    assert "TOO_MANY_CONNECTIONS" in ended.stderr
    assert "ATELIER_MAX_CONNECTIONS_PER_ADDRESS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_full_disk_is_told_and_the_verdict_is_not_lost(quick: Quick, tmp_path: Path) -> None:
    """Status 1, the file, the reason, and what the run saw."""
    ended = bots(
        "load", "--server", quick.address, "--seconds", "0.5", "--no-compare", "--out", str(tmp_path),
        before="ulimit -f 100",
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "the report could not be written to" in ended.stderr
    assert "give --out another folder" in ended.stderr
    assert "nothing lost" in ended.stderr
    assert not list(tmp_path.glob("*.html"))


def test_ctrl_c_leaves_a_report(quick: Quick, tmp_path: Path) -> None:
    """Status 130, the files' names on stdout, and the page is whole; two processes stop with their parent."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "bot", "load", "--server", quick.address, "--seconds", "600", "--processes", "2",
            "--no-compare", "--out", str(tmp_path),
        ],
        env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    while not re.search(r"[1-9]\d* succeeded", line := process.stderr.readline()):
        assert line, "it ended by itself"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    record, page = map(Path, out.split())
    assert record.is_file()
    assert page.read_text().rstrip().endswith("</html>")
    assert "stopped early" in err


def test_profiles_are_listed() -> None:
    """Each with what it is about."""
    ended = bots("profiles")
    assert ended.returncode == 0
    assert "game-lobby" in ended.stdout
    assert "face-tracking" in ended.stdout
    assert len(ended.stdout.splitlines()) == 6


def test_help_is_quick_and_names_the_kinds() -> None:
    """No plotting library is imported for it."""
    began = time.monotonic()
    ended = bots("--help")
    assert ended.returncode == 0
    for kind in ("load", "stress", "soak", "failover", "concurrency", "compare"):
        assert kind in ended.stdout
    assert time.monotonic() - began < 30
    script = "import sys, bot.commands; print([name for name in ('plotly', 'hdrh', 'torch') if name in sys.modules])"
    seen = subprocess.run(
        [sys.executable, "-c", script], env=_environment(), capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "[]"
