"""Hears a live session's results, or a job's progress, by UDP, and draws the curve: docs/udp.md tells the story.

    python examples/udp/receive.py 127.0.0.1:9000 --token TOKEN --live LIVE_ID
    python examples/udp/receive.py 127.0.0.1:9000 --job JOB_ID --png curve.png

One file to copy: it needs protobuf, the modules made from proto/*.proto, and Pillow for --png.
"""

from __future__ import annotations

import argparse
import hmac
import itertools
import shutil
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # for proto/, where the example stands in the repository

from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp

HEADER = 24  # bytes: 8 of the key's id, 16 of the tag
SIGNED = {"challenge", "subscribed", "alive", "refused", "evicted"}  # the server says them to nobody unsigned
AGAIN = 0.5  # seconds until what was not answered is said again
KEPT = 600  # points of a curve: twenty seconds at thirty a second
BARS = " ▁▂▃▄▅▆▇█"


def ask_for_key(host: str, port: int, token: str) -> pb.UdpAddress:
    """Hello and ConnectUdp, by TCP. Nothing else is needed of that connection."""
    with socket.create_connection((host, port), timeout=10) as stream:

        def say(number: int, **message: pb.Hello | pb.ConnectUdp) -> None:
            body = pb.Envelope(request_id=number, **message).SerializeToString()  # type: ignore[arg-type]
            stream.sendall(len(body).to_bytes(4, "big") + body)

        def read(size: int) -> bytes:
            data = b""
            while len(data) < size:
                data += stream.recv(size - len(data)) or sys.exit("the server closed the connection")
            return data

        def hear(wanted: str) -> pb.Envelope:
            envelope = pb.Envelope.FromString(read(int.from_bytes(read(4), "big")))
            if envelope.WhichOneof("message") != wanted:
                sys.exit(f"instead of {wanted}: {envelope}")
            return envelope

        say(1, hello=pb.Hello(protocol_version=1, token=token, client_name="udp-example"))
        hear("welcome")
        say(2, connect_udp=pb.ConnectUdp())
        return hear("udp_address").udp_address


class Receiver:
    """One key, one socket, one topic. `hear` gives what comes; it subscribes, is challenged, and sends heartbeats by itself."""

    def __init__(self, where: pb.UdpAddress, host: str, subscribe: udp.Subscribe) -> None:
        self.lost = 0  # datagrams of the topic that did not come
        self._key, self._key_id = where.key, where.key_id.to_bytes(8, "big")
        self._heartbeat = where.heartbeat_seconds
        self._subscribe = subscribe
        self._sequences = itertools.count(1)
        self._next = 0  # of the topic, 0: not subscribed yet
        self._cookie = 0
        family, _, _, _, there = socket.getaddrinfo(where.host or host, where.port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.connect(there)  # then the system takes datagrams from that address alone
        self._socket.settimeout(0.1)

    def hear(self) -> Iterator[udp.ServerDatagram | None]:
        """What comes; None where nothing came for a tenth of a second."""
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                self._say()
                due = now + (self._heartbeat if self._next else AGAIN)
            message = self._receive()
            if message is None:
                yield None
                continue
            kind = message.WhichOneof("message")
            if kind == "challenge":
                self._cookie, due = message.challenge.cookie, 0.0
            elif kind == "subscribed" and not self._next:
                self._next, due = message.subscribed.next_sequence, now + self._heartbeat
            elif kind == "alive" and not message.alive.subscriptions:
                self._next, due = 0, 0.0  # the server was silent or started again: subscribe anew
            elif kind in ("refused", "evicted"):
                sys.exit(f"{kind}: {getattr(message, kind)}")
            elif self._is_new(message):
                yield message

    def _is_new(self, message: udp.ServerDatagram) -> bool:
        """Not overtaken, and not there before; what is missing before it is counted."""
        told = getattr(message, str(message.WhichOneof("message")))
        sequence = getattr(told, "sequence", None)
        if sequence is None:
            return True
        if sequence < self._next:
            return False
        self.lost += sequence - self._next if self._next else 0
        self._next = sequence + 1
        return True

    def _say(self) -> None:
        said = udp.ClientDatagram(sequence=next(self._sequences), cookie=self._cookie)
        if self._next:
            said.heartbeat.padding = bytes(16)  # long enough to be challenged, if the address has changed
        else:
            said.subscribe.CopyFrom(self._subscribe)
        body = said.SerializeToString()
        self._socket.send(self._key_id + self._tag(b"C", self._key_id + body) + body)

    def _receive(self) -> udp.ServerDatagram | None:
        try:
            datagram = self._socket.recv(2048)
        except (TimeoutError, ConnectionRefusedError):  # refused: nobody listens there any more
            return None
        head, tag, body = datagram[:8], datagram[8:HEADER], datagram[HEADER:]
        for_all = head == bytes(8)
        if not for_all and not hmac.compare_digest(tag, self._tag(b"S", head + body)):
            return None
        message = udp.ServerDatagram.FromString(body)
        return None if for_all and message.WhichOneof("message") in SIGNED else message

    def _tag(self, direction: bytes, signed: bytes) -> bytes:
        return hmac.digest(self._key, direction + signed, "sha256")[:16]


class Curve:
    """The values of the last seconds, by their index; drawn as lines of bars, or as a picture."""

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.points: dict[int, deque[float]] = {}

    def take(self, message: udp.ServerDatagram) -> str:
        """One more; gives why it is over, "" where it is not."""
        if message.HasField("names"):
            self.names.update(enumerate(message.names.names, message.names.first_index))
        elif message.HasField("live_result"):
            for index, value in enumerate(message.live_result.values, message.live_result.first_index):
                self._add(index, value)
        elif message.HasField("job_progress"):
            self.names[0] = f"percent ({message.job_progress.phase})"
            self._add(0, message.job_progress.percent)
        elif message.HasField("job_ended"):
            return udp.JobEnded.State.Name(message.job_ended.state).lower()
        elif message.HasField("live_ended"):
            return f"the session has ended: {message.live_ended.code_name} {message.live_ended.message}"
        return ""

    def _add(self, index: int, value: float) -> None:
        self.points.setdefault(index, deque(maxlen=KEPT)).append(value)

    def lines(self, columns: int, rows: int) -> Iterator[str]:
        """As text: a value a line."""
        for index in sorted(self.points)[:rows]:
            points = list(self.points[index])[-max(1, columns - 34) :]
            low, high = min(points), max(points)
            bars = "".join(BARS[round((value - low) / ((high - low) or 1) * (len(BARS) - 1))] for value in points)
            yield f"{self._name(index)[:22]:22} {points[-1]:9.3f} {bars}"

    def picture(self, path: str) -> None:
        """As a PNG of 900 by 420 pixels."""
        from PIL import Image, ImageDraw

        width, height, left, bottom = 900, 420, 50, 60
        image = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(image)
        everything = [value for points in self.points.values() for value in points] or [0.0, 1.0]
        low, high = min(everything), max(everything)
        span, longest = (high - low) or 1.0, max(map(len, self.points.values()), default=2)
        for part in range(5):
            y = 15 + part * (height - bottom - 15) / 4
            draw.line((left, y, width - 10, y), fill="#dddddd")
            draw.text((5, y - 6), f"{high - part * span / 4:.2f}", fill="#555555")
        for index in sorted(self.points)[:12]:
            colour = f"hsl({index * 137 % 360}, 70%, 42%)"
            line = [
                (
                    left + at * (width - left - 10) / max(1, longest - 1),
                    15 + (high - value) / span * (height - bottom - 15),
                )
                for at, value in enumerate(self.points[index])
            ]
            draw.line(line, fill=colour, width=2)
            draw.text((left + 10 + index % 4 * 200, height - 52 + index // 4 * 16), self._name(index)[:28], fill=colour)
        image.save(path)

    def _name(self, index: int) -> str:
        return self.names.get(index, f"value {index}")


def draw(curve: Curve, receiver: Receiver, heard: int) -> None:
    """Once more, over the last time."""
    size = shutil.get_terminal_size()
    shown = [*curve.lines(size.columns, size.lines - 3), f"{heard} datagrams, {receiver.lost} lost"]
    sys.stdout.write("\033[H\033[J" + "\n".join(shown) + "\n")
    sys.stdout.flush()


def main() -> None:
    """As the command line says."""
    options = argparse.ArgumentParser(description="Hear a live session or a job by UDP, and draw the curve.")
    options.add_argument("server", help="host:port of the TCP door")
    options.add_argument("--token", default="")
    topic = options.add_mutually_exclusive_group(required=True)
    topic.add_argument("--live", metavar="LIVE_ID", default="")
    topic.add_argument("--job", metavar="JOB_ID", default="")
    options.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options.add_argument("--png", default="", help="leave a picture there at the end, instead of drawing all the time")
    given = options.parse_args()
    host, _, port = given.server.rpartition(":")
    where = ask_for_key(host, int(port), given.token)
    wanted = udp.Subscribe(live_id=given.live) if given.live else udp.Subscribe(job_id=given.job)
    receiver, curve, heard, why = Receiver(where, host, wanted), Curve(), 0, ""
    ends_at, drawn_at = time.monotonic() + given.seconds, 0.0
    for message in receiver.hear():
        if message is not None:
            heard += 1
            why = curve.take(message)
        now = time.monotonic()
        if why or now >= ends_at:
            break
        if not given.png and now >= drawn_at + 0.1:
            draw(curve, receiver, heard)
            drawn_at = now
    if given.png:
        curve.picture(given.png)
    sys.stdout.write(f"{why or 'time is up'}: {heard} datagrams, {receiver.lost} lost\n")


if __name__ == "__main__":
    main()
