"""A client of the UDP door for benchmarks: a key by TCP, then signed datagrams on a socket of its own, which blocks or not."""

from __future__ import annotations

import itertools
import socket
import time
from typing import Any

from bench.callers import WrongReply
from bench.talking import Talker
from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import HEADER, Direction, seal

BUFFER = 1 << 20  # bytes asked of the system for a socket's reading
TRIES = 10  # until an answer comes
WAITS = 1.0  # seconds for one
PADDING = bytes(40)  # so that a Challenge is no longer than what it answers


class UdpClient:
    """One key and its socket. `next_heartbeat` is when it has to say something, by time.monotonic."""

    def __init__(self, talker: Talker) -> None:
        told = talker.ask(connect_udp=pb.ConnectUdp()).udp_address
        self._key_id, self._key = told.key_id, told.key
        self._every = told.heartbeat_seconds
        self._numbers = itertools.count(1)
        self._cookie = 0
        self.next_heartbeat = 0.0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.socket.connect((told.host or "127.0.0.1", told.port))
        self._cookie = self._answered("challenge", heartbeat=udp.Heartbeat(padding=PADDING)).challenge.cookie
        self._answered("alive", heartbeat=udp.Heartbeat(padding=PADDING))

    def subscribe(self, live_id: str) -> udp.Subscribed:
        """What the server answers. Raises WrongReply."""
        return self._answered("subscribed", subscribe=udp.Subscribe(live_id=live_id)).subscribed

    def heartbeat(self) -> None:
        """Say that it is there; the answer is passed over like everything that is no result."""
        self._say(heartbeat=udp.Heartbeat(padding=PADDING))

    def close(self) -> None:
        """Shut the socket."""
        self.socket.close()

    def _say(self, **message: Any) -> int:
        number = next(self._numbers)
        said = udp.ClientDatagram(sequence=number, cookie=self._cookie, **message)
        self.socket.send(seal(said, Direction.CLIENT, self._key_id, self._key))
        self.next_heartbeat = time.monotonic() + self._every
        return number

    def _answered(self, kind: str, **message: Any) -> udp.ServerDatagram:
        """The answer, asked for again until it comes. Raises WrongReply."""
        for _ in range(TRIES):
            number = self._say(**message)
            until = time.monotonic() + WAITS
            while (left := until - time.monotonic()) > 0:
                self.socket.settimeout(left)
                try:
                    answer = udp.ServerDatagram.FromString(self.socket.recv(2048)[HEADER:])
                except TimeoutError:
                    break
                if answer.answers == number and answer.WhichOneof("message") == kind:
                    return answer
                if answer.answers == number and answer.WhichOneof("message") == "refused":
                    raise WrongReply(f"{answer.refused.message} ({answer.refused.code_name})")
        raise WrongReply(f"no {kind} after {TRIES} datagrams")
