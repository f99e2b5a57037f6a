"""A real RabbitMQ node for the tests: its own folder, ports, name and cookie, started and stopped by its process id.

Erlang's port mapper (epmd) would be shared by every node of the machine and outlive them; this node has one of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

WORK = "atelier.jobs"
OLD_ENOUGH = (
    6.0  # seconds: a quorum queue that was declared just before kill -9 finds no leader any more, an older one does
)
_ANSWERS_WITHIN = 120.0  # seconds; 5 on a quiet machine
_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_SMALL = "+S 1:1 +SDcpu 1:1 +SDio 1 +A 4 -start_epmd false"  # one scheduler thread of each kind
USER = "atelier"
PASSWORD = "a-broker-password-that-no-log-may-show"


class RabbitNode:
    """One broker, or a node of a cluster (tests.rabbitmq_cluster): they share the cookie and port mapper of the `first`."""

    def __init__(self, *, first: RabbitNode | None = None) -> None:
        assert (_PROGRAMS / "rabbitmq-server").exists(), (
            "no RabbitMQ here: `apt-get install rabbitmq-server`, as tools/set-up.sh does for root"
        )
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-rabbitmq-"))
        self.port = _free_port()
        self.name = f"atelier-{self.port}@localhost"
        self._first = first
        self._epmd_port: int = first._epmd_port if first else _free_port()
        self._distribution_port = _free_port()
        self._cookie: str = first._cookie if first else secrets.token_hex(16)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._declared_at: float | None = None  # WORK, by the monotonic clock
        self._write_files()

    def _write_files(self) -> None:
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self.folder / "enabled_plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.default = 127.0.0.1:{self.port}\n"
            f"default_user = {USER}\n"
            f"default_pass = {PASSWORD}\n"
            "disk_free_limit.absolute = 1MB\n"
        )

    def configure(self, text: str) -> None:
        """More lines of rabbitmq.conf, before it is started."""
        with (self.folder / "rabbitmq.conf").open("a") as file:
            file.write(text)

    def start(self) -> None:
        """Returns when it answers."""
        self.begin()
        self.wait()
        if self._declared_at is None:
            self.declare_work()

    def begin(self) -> None:
        """Start it, and return at once."""
        if self._first is None and self._epmd is None:
            self._epmd = self._spawn("/usr/bin/epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port))
        self._process = self._spawn(str(_PROGRAMS / "rabbitmq-server"))

    def wait(self) -> None:
        """Until it answers."""
        assert self._process is not None
        end = time.monotonic() + _ANSWERS_WITHIN
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)  # it says nowhere else that it is up

    def declare_work(self) -> None:
        """As a worker does."""
        connection = self.connect()
        arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
        connection.channel().queue_declare(WORK, durable=True, arguments=arguments)
        connection.close()
        self._declared_at = time.monotonic()

    def empty(self) -> None:
        """Delete every queue but the one of WORK, which is emptied."""
        connection = self.connect()
        channel = connection.channel()
        for name in self.ctl("list_queues", "name", "--no-table-headers").split():
            if name == WORK:
                channel.queue_purge(name)
            else:
                channel.queue_delete(name)
        connection.close()

    def stop(self) -> None:
        """At once, its clients' connections cut, as when a machine is taken down, once WORK is old enough to survive it."""
        assert self._process is not None
        if self._declared_at is not None:
            time.sleep(max(0.0, self._declared_at + OLD_ENOUGH - time.monotonic()))
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def freeze(self) -> None:
        """Stay connected and say nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self._declared_at = None  # nobody needs it any more
            self.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
        shutil.rmtree(self.folder)

    def ctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` prints; it takes a second or two."""
        done = subprocess.run(
            [_PROGRAMS / "rabbitmqctl", "--quiet", "--node", self.name, *arguments],
            env=self._environment(), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{arguments}: {done.stderr}{done.stdout}"
        return done.stdout

    def connect(self, **parameters: Any) -> pika.BlockingConnection:
        """A connection of a program that is not ours."""
        given = {"heartbeat": 0, "credentials": pika.PlainCredentials(USER, PASSWORD), **parameters}
        return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", self.port, **given))

    def channel(self) -> BlockingChannel:
        """The same, a channel of it."""
        return self.connect().channel()

    def log(self) -> str:
        """What it said."""
        return (self.folder / "output").read_text(errors="replace")

    def _answers(self) -> bool:
        with suppress(OSError, AMQPError):
            with socket.create_connection(("127.0.0.1", self.port), timeout=5):
                pass
            self.connect(socket_timeout=10, stack_timeout=20).close()
            return True
        return False

    def _spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            return subprocess.Popen(
                command, env=self._environment(), cwd=self.folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder),  # the cookie's place
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the node, whose process id is ours to signal
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            # The last: how often, in milliseconds, it looks whether a consumer holds a delivery for too long.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{_SMALL} -rabbit channel_tick_interval 1000",
            "RABBITMQ_CTL_ERL_ARGS": _SMALL,
        }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
