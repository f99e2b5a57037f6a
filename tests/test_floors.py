"""Imports go downward only: the rooms and floors of docs/architecture.md, held against every module's imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "ai",
    "atelier",
    "bench",
    "bot",
    "config",
    "examples",
    "factory",
    "models",
    "proto",
    "server",
    "tests",
    "tools",
    "watermark",
)

FLOORS: dict[str, int] = {
    "proto": 0, "config": 0,
    "ai": 1, "watermark": 1,
    "server": 2,  # errors, job, commands, events, interfaces, …, wire: all that has no floor of its own below
    "server.jobs": 3, "server.handlers": 3, "server.metering": 3, "server.accounts": 3, "server.catalogue": 3,
    "server.protocol": 4, "server.door_parts": 4, "server.pump": 4, "server.login": 4, "server.saying": 4,
    "server.doors": 4, "server.storage": 4,
    "server.metrics": 4, "server.tracing": 4, "server.fetching": 4, "server.webhooks": 4, "server.database": 4,
    "factory": 5,
}  # fmt: skip
FREE = {
    "bot",
    "atelier",
    "bench",
    "examples",
    "models",
    "tests",
    "tools",
}  # outside the house: they may use all of it, nobody below uses them
ALONE = {"watermark", "ai"}  # they know nothing of ours but themselves

SPEAK_AMQP = {
    f"server.doors.amqp.{name}"
    for name in ("connection", "pika_errors", "pika_frames", "pika_messages", "pika_protocol")
}
TORCH = {"torch", "diffusers", "transformers", "safetensors", "accelerate", "peft"}
NETWORK = {
    "twisted",
    "socket",
    "ssl",
    "http",
    "urllib",
    "requests",
    "treq",
    "httpx",
    "aiohttp",
    "asyncio",
    "pika",
    "fastapi",
}
PICTURES = {
    "server.jobs.finishing",  # on threads of the pool
    "server.jobs.init_images",
    "ai.custom.authoring",  # in a custom model's own process
    "ai.custom.child",
    "ai.custom.examples",
}
OPENCV = {"server.live.sources.pictures"}  # on threads of the sources' own
DATABASES = {"sqlite3", "sqlalchemy", "alembic", "psycopg", "redis"}


def imports(module: str, source: str) -> Iterator[str]:
    """Every module that `source` imports, also inside functions, as full names; `from x import y` gives x and x.y."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def top_imports(module: str, source: str) -> set[str]:
    """What is imported when the module is, that is, outside functions."""
    outside = [node for node in ast.parse(source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    return set(imports(module, ast.unparse(ast.Module(body=list(outside), type_ignores=[]))))


def floor(module: str) -> int | None:
    """The floor of a module of ours, None for what is free or not ours."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in FLOORS:
            return FLOORS[".".join(parts[:end])]
    return None


def within(name: str, *rooms: str) -> bool:
    """Whether a module is one of these or stands in it."""
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def wrongs(module: str, source: str) -> Iterator[str]:
    """What is wrong with a module's imports."""
    at_top = top_imports(module, source)
    for name in sorted(set(imports(module, source))):
        for why in (_climbs(module, name), _strays(module, name), _knows_a_neighbour(module, name)):
            if why:
                yield f"{module} imports {name}: {why}"
        if within(name, "twisted.internet.reactor") and not _may_have_the_reactor(module, name in at_top):
            yield f"{module} imports {name}: the reactor is an argument"


def _climbs(module: str, name: str) -> str:
    mine, theirs = floor(module), floor(name)
    if mine is None:
        return ""
    if name.split(".")[0] in FREE:
        return "it stands outside"
    return f"floor {mine} below floor {theirs}" if theirs is not None and theirs > mine else ""


def _strays(module: str, name: str) -> str:
    """Libraries, each of which has its rooms."""
    room, top = module.split(".")[0], name.split(".")[0]
    if room == "ai" and top in NETWORK | DATABASES:
        return "the engine has no network and no database"
    if top in TORCH and room not in {"ai", "bench", "tests", "tools", "models"}:
        return "torch stays under ai/"
    if top == "PIL" and room not in {"watermark", *FREE} and not within(module, *PICTURES):
        return "Pillow stays with the pictures"
    if top == "cv2" and room not in FREE and module not in OPENCV:
        return "OpenCV stays with the sources of live sessions"
    if top == "prometheus_client" and not within(module, "server.metrics") and room not in FREE:
        return "only server/metrics speaks Prometheus's language"
    if top == "opentelemetry" and not within(module, "server.tracing") and room not in FREE:
        return "only server/tracing speaks OpenTelemetry's language"
    if top == "pika" and module not in SPEAK_AMQP and room not in ("tests", "bench"):
        return "only server/doors/amqp/connection and its pika_… modules speak AMQP"
    return ""


def _knows_a_neighbour(module: str, name: str) -> str:
    room, top = module.split(".")[0], name.split(".")[0]
    if room in ALONE and top in ROOMS and top != room:
        return f"{room} stands alone"
    if within(module, "server.doors", "server.protocol") and within(name, "server.storage", "server.database"):
        return "doors know no backend"
    if within(module, "server.doors") and within(name, "server.doors", "server.protocol"):
        door, other = module.split(".")[:3], name.split(".")[:3]
        return "doors know no other door" if other not in (door, door[:2]) else ""
    return ""


def _may_have_the_reactor(module: str, at_top: bool) -> bool:
    room = module.split(".")[0]
    if room == "atelier":  # a command's function may run it
        return module.endswith("__main__") or not at_top
    return room in {"factory", "bot", "tests", "bench"} or module.endswith("__main__")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of ours."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "node_modules" not in path.parts:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def test_imports_go_downward_only() -> None:
    """Every module of the repository keeps to its floor and its room's rules."""
    found = [wrong for module, path in modules() for wrong in wrongs(module, path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_room_is_looked_into() -> None:
    """Nothing that holds Python is forgotten, and the check sees more than a few modules."""
    holding = {path.parent.name for path in ROOT.glob("*/*.py")} - {".venv"}
    assert holding <= set(ROOMS), f"a folder without a floor: {holding - set(ROOMS)}"
    assert len(list(modules())) > 60


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("server.errors", "from server.jobs.board import Board", "floor 3"),
        ("server.job", "def f():\n    import server.handlers.submit", "floor 3"),
        ("server.jobs.board", "from server import protocol", "floor 4"),
        ("server.jobs.board", "from server.database.sql import SqlJobStore", "floor 4"),
        ("server.wire.codec", "from ..jobs import board", "floor 3"),
        ("server.storage.local", "import factory.service", "floor 5"),
        ("config.settings", "import ai.types", "floor 1"),
        ("server.protocol", "from bot.client import Client", "stands outside"),
        ("factory.tcp", "import tests.conftest", "stands outside"),
        ("watermark.signing", "from ai.types import Picture", "stands alone"),
        ("ai.engine", "from watermark import sign", "stands alone"),
        ("ai.engine", "import config", "stands alone"),
        ("ai.engine", "if True:\n    from twisted.internet import defer", "no network"),
        ("ai.shelf", "import sqlite3", "no database"),
        ("server.doors.amqp", "from server.doors.http import app", "no other door"),
        ("server.doors.amqp", "from server.storage.local import LocalArtifacts", "no backend"),
        ("server.protocol", "from server.database import sql", "no backend"),
        ("server.jobs.finishing", "import torch.nn", "torch stays"),
        ("factory.gpu", "def f():\n    from diffusers import X", "torch stays"),
        ("server.pools", "from twisted.internet import reactor", "the reactor"),
        ("server.pools", "import twisted.internet.reactor", "the reactor"),
        ("atelier.serve", "from twisted.internet import reactor", "the reactor"),
        ("server.protocol", "from PIL import Image", "Pillow"),
        ("server.protocol", "import pika", "AMQP"),
        ("server.jobs.lifecycle", "from prometheus_client import Counter", "Prometheus"),
        ("factory.tracing", "def f():\n    from opentelemetry import trace", "OpenTelemetry"),
        ("server.doors.amqp.intake", "from pika import spec", "AMQP"),
    ],
)  # fmt: skip
def test_the_check_can_fail(module: str, source: str, wrong: str) -> None:
    """A forbidden import is seen, wherever in the module it stands and however it is written."""
    assert any(wrong in found for found in wrongs(module, source)), list(wrongs(module, source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server.jobs.board", "from server.interfaces import JobStore\nfrom ai.types import Finished\nimport asyncio"),
        ("server.jobs.finishing", "from PIL import Image"),
        ("factory.service", "from twisted.internet import reactor\nimport server.protocol"),
        ("ai.engine", "import torch\nfrom ai.types import Picture"),
        ("atelier.serve", "def f():\n    from twisted.internet import reactor"),
        ("server.doors.amqp.connection", "import pika\nfrom server.doors.amqp import x"),
        ("server.doors.amqp.intake", "from server.doors.amqp import broker\nfrom server.handlers import HandlerTable"),
    ],
)
def test_what_is_allowed_is_not_complained_of(module: str, source: str) -> None:
    """The check is no stricter than the design."""
    assert list(wrongs(module, source)) == []


def run_python(source: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["factory.service", "atelier.commands", "bot.client"])
def test_torch_is_not_imported_with_the_server(module: str) -> None:
    """The port listens before torch is there: importing everything leaves it to the engine's thread."""
    heavy = sorted({"torch", "diffusers", "transformers"})
    assert run_python(f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_opentelemetry_is_loaded_where_traces_are_wanted_alone() -> None:
    """A server without the setting has none of it."""
    script = "import sys, factory.service, factory.http; print('opentelemetry.sdk' in sys.modules)"
    assert run_python(script) == "False"


def test_the_reactor_is_asyncio_s() -> None:
    """Which the entry point installs before anything else can install another."""
    script = (
        "import sys, os; sys.argv = ['atelier', '--help']\n"
        "from atelier.__main__ import main\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "sys.stdout = open(os.devnull, 'w')\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stdout = sys.__stdout__\n"
        "from twisted.internet import reactor\n"
        "print(type(reactor).__name__, os.environ['OMP_WAIT_POLICY'])"
    )
    assert run_python(script) == "AsyncioSelectorReactor passive"


def test_the_entry_point_leaves_a_chosen_wait_policy_alone() -> None:
    """Passive is a default, not an order."""
    script = (
        "import sys, os; os.environ['OMP_WAIT_POLICY'] = 'active'; sys.argv = ['atelier', '--help']\n"
        "sys.stdout = open(os.devnull, 'w')\n"
        "from atelier.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.stdout = sys.__stdout__; print(os.environ['OMP_WAIT_POLICY'])"
    )
    assert run_python(script) == "active"
