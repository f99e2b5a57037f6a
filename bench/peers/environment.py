"""The environment in which the peers of bench.beside run: .bench/peers, made once for each change of requirements.txt."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from bench.children import ROOT

FOLDER = ROOT / ".bench" / "peers"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
LAST_WORDS = 500  # characters of pip's


class NotInstalled(Exception):
    """Something could not be installed. The text has pip's last words."""


def python() -> str:
    """The environment's interpreter, with all that is needed but what is installed `apart`. Raises NotInstalled."""
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / ".installed"
    mark = hashlib.sha256(wanted.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="ascii") == mark:
        return str(interpreter)
    print(
        f"installing the peers into {FOLDER.relative_to(ROOT)} (Ray and PyTorch are large: a few minutes)", flush=True
    )
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    _install(interpreter, lines)
    stamp.write_text(mark, encoding="ascii")
    return str(interpreter)


def has(interpreter: str, module: str) -> str:
    """ "" if the environment can import it, else why not."""
    ended = subprocess.run([interpreter, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else ended.stderr.strip().rpartition("\n")[2]


def _install(interpreter: Path, lines: list[str]) -> None:
    """Ray last and alone: where there is none for this machine, the others are measured all the same. Raises NotInstalled."""
    common = [line for line in lines if not line.startswith("ray")]
    _pip(interpreter, common)
    try:
        _pip(interpreter, [line for line in lines if line.startswith("ray")])
    except NotInstalled as error:
        print(f"Ray Serve will not be measured: {error}", flush=True)


def _pip(interpreter: Path, packages: list[str]) -> None:
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise NotInstalled(ended.stderr.strip()[-LAST_WORDS:])
