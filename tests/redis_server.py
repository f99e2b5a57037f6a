"""A real Redis server for the tests: its own folder, its own port, started and stopped by its process id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from pydantic import SecretStr

_ANSWERS_WITHIN = 30.0  # seconds
PASSWORD = "a-redis-password-no-log-may-show"


class RedisServer:
    """One that keeps nothing on the disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        assert program, "no Redis server here: `apt-get install redis-server`, as tools/set-up.sh does for root"
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-redis-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (self.folder / "conf").write_text(f"port {self.port}\nbind 127.0.0.1\nsave ''\nrequirepass {PASSWORD}\n")

    @property
    def url(self) -> SecretStr:
        """As an operator writes it."""
        return SecretStr(f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0")

    def start(self) -> None:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, str(self.folder / "conf")],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + _ANSWERS_WITHIN
        while self.ask("PING") != "+PONG":
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)  # it says nowhere else that it is up

    def stop(self) -> None:
        """At once; everything it held is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def hang(self) -> None:
        """Connections stay open, and nothing is answered, until `go_on`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """As if nothing had been."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder)

    def ask(self, command: str) -> str:
        """Its answer to a command of one line; "" where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                peer.sendall(f"AUTH {PASSWORD}\r\n{command}\r\n".encode())
                answers = b""
                while answers.count(b"\r\n") < 2 and (data := peer.recv(4096)):
                    answers += data
        except OSError:
            return ""
        return answers.decode().splitlines()[1]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
