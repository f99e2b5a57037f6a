"""Real S3 servers for the tests, each a program of its own on its own port, stopped by its process id.

`rclone serve s3` is a foreign one that checks signatures, and answers a request for a range with status 200. moto keeps closer to
AWS in what it answers, and takes any credentials.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from obstore.store import S3Store

_ANSWERS_WITHIN = 60.0  # seconds
ACCESS_KEY = "AKIDOFTHETESTS"
SECRET_KEY = "a-secret-key-that-no-log-may-show"
REGION = "eu-west-3"
BUCKET = "pictures"


class S3Server:
    """A server with an empty bucket. It can be stopped and started again, with what was in it."""

    def __init__(self, command: Callable[[int, Path], list[str]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-s3-"))
        (self.folder / "buckets" / BUCKET).mkdir(parents=True)
        self.port = _free_port()
        self.command = command(self.port, self.folder / "buckets")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that was started last by `start`."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns when it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + _ANSWERS_WITHIN
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.05)  # it says nowhere else that it is up
            else:
                return

    def stop(self) -> None:
        """At once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def remove(self) -> None:
        """Leave nothing behind."""
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder)

    def store(self, prefix: str = "", bucket: str = BUCKET) -> S3Store:
        """The bucket, for a test to look into."""
        return S3Store(
            bucket,
            prefix=prefix or None,
            config={
                "endpoint": self.url,
                "region": REGION,
                "access_key_id": ACCESS_KEY,
                "secret_access_key": SECRET_KEY,
            },
            client_options={"allow_http": True},
        )

    def settings(self) -> dict[str, str]:
        """What an operator writes into .env to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_S3_REGION_NAME": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_STORAGE_BUCKET_NAME": BUCKET,
        }


def rclone(port: int, buckets: Path) -> list[str]:
    """The command of rclone."""
    address, key = f"127.0.0.1:{port}", f"{ACCESS_KEY},{SECRET_KEY}"
    return [str(_program("rclone")), "serve", "s3", "--addr", address, "--auth-key", key, str(buckets)]


def moto(port: int, buckets: Path) -> list[str]:
    """The command of moto, which keeps everything in memory."""
    return [str(_program("moto_server")), "-H", "127.0.0.1", "-p", str(port)]


def make_bucket(server: S3Server) -> None:
    """Moto begins without one."""
    import boto3  # type: ignore[import-untyped]

    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})


def _program(name: str) -> Path:
    return Path(sys.executable).parent / name


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
