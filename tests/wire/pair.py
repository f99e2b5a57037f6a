"""Two ends of one connection in memory, and an Envelope of every kind to pass between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from proto import atelier_pb2 as pb
from server.errors import StreamBroken
from server.wire.connection import Connection, Received, Rejected, Role, State
from server.wire.framing import encode_frame

HANDSHAKE_FRAME_BYTES = 4 * 1024
OPEN_FRAME_BYTES = 1024 * 1024

ENVELOPES: dict[str, pb.Envelope] = {
    "hello": pb.Envelope(request_id=1, hello=pb.Hello(protocol_version=1, token="secret", client_name="tests")),
    "ping": pb.Envelope(request_id=2, ping=pb.Ping(client_time_us=1_700_000_000_000_000)),
    "submit": pb.Envelope(
        request_id=3,
        submit=pb.Submit(
            idempotency_key="key-1",
            prompt="a lighthouse, ukiyo-e",
            width=512,
            seed=7,
            adapters=[pb.AdapterUse(name="ukiyo-e", scale=0.8), pb.AdapterUse(name="ink")],
            priority=-3,
            deadline_seconds=60.5,
            signature=pb.Signature(text="Ada", position=pb.Signature.TOP_LEFT),
            progress=True,
            inline_pictures=True,
        ),
    ),
    "cancel": pb.Envelope(request_id=4, cancel=pb.Cancel(job_id="job-1")),
    "watch": pb.Envelope(request_id=5, watch=pb.Watch(job_id="job-1", from_event=4, progress=True)),
    "get_job": pb.Envelope(request_id=6, get_job=pb.GetJob(job_id="job-1")),
    "list_models": pb.Envelope(request_id=7, list_models=pb.ListModels()),
    "get_server_status": pb.Envelope(request_id=8, get_server_status=pb.GetServerStatus()),
    "predict": pb.Envelope(
        request_id=9,
        predict=pb.Predict(
            model="text-demo",
            input='{"prompt": "a"}',
            deadline_seconds=60.5,
            output=True,
            signature=pb.Signature(text="Ada"),
        ),
    ),
    "open_live": pb.Envelope(
        request_id=10, open_live=pb.OpenLive(model="stream-demo", echo_input=True, source="camera")
    ),
    "live_frame": pb.Envelope(
        request_id=10,
        live_frame=pb.LiveFrame(live_id="l-1", number=7, captured_us=1_700_000_000_000_000, values=[0.5, -1]),
    ),
    "close_live": pb.Envelope(request_id=11, close_live=pb.CloseLive(live_id="l-1")),
    "watch_live": pb.Envelope(request_id=12, watch_live=pb.WatchLive(live_id="l-1")),
    "connect_udp": pb.Envelope(request_id=13, connect_udp=pb.ConnectUdp()),
    "welcome": pb.Envelope(
        request_id=1,
        welcome=pb.Welcome(protocol_version=1, owner="ada", limits=pb.Limits(max_frame_bytes=OPEN_FRAME_BYTES)),
    ),
    "pong": pb.Envelope(request_id=2, pong=pb.Pong(client_time_us=1, server_time_us=2)),
    "error": pb.Envelope(error=pb.Error(code=pb.INVALID_PARAMETER, field="width", limit="64 to 1280", message="no")),
    "accepted": pb.Envelope(request_id=3, accepted=pb.Accepted(job_id="job-1", seed=7)),
    "progress": pb.Envelope(
        request_id=3,
        progress=pb.Progress(job_id="job-1", event_number=1, phase=pb.DENOISING, step=5, total_steps=20, percent=25.0),
    ),
    "preview": pb.Envelope(request_id=3, preview=pb.Preview(job_id="job-1", event_number=2, png=b"\x89PNG")),
    "output": pb.Envelope(request_id=9, output=pb.Output(job_id="job-1", event_number=3, offset=7, text="별 star")),
    "chunk": pb.Envelope(request_id=3, chunk=pb.Chunk(job_id="job-1", offset=0, size=3, data=b"png")),
    "result": pb.Envelope(
        request_id=3,
        result=pb.Result(job_id="job-1", event_number=9, artifacts=[pb.Artifact(key="a.png", size=3, sha256="00")]),
    ),
    "failed": pb.Envelope(
        request_id=3,
        failed=pb.Failed(job_id="job-1", event_number=9, error=pb.Error(code=pb.GPU_OUT_OF_MEMORY)),
    ),
    "canceled": pb.Envelope(request_id=3, canceled=pb.Canceled(job_id="job-1", event_number=9)),
    "cancel_requested": pb.Envelope(
        request_id=4,
        cancel_requested=pb.CancelRequested(job_id="job-1", state=pb.JOB_PROCESSING),
    ),
    "job": pb.Envelope(request_id=6, job=pb.Job(job_id="job-1", state=pb.JOB_QUEUED, prompt="a lighthouse")),
    "models": pb.Envelope(request_id=7, models=pb.Models(models=[pb.Model(name="demo", solvers=["euler"])])),
    "server_status": pb.Envelope(request_id=8, server_status=pb.ServerStatus(state=pb.READY, uptime_seconds=1.5)),
    "live_opened": pb.Envelope(
        request_id=10,
        live_opened=pb.LiveOpened(
            live_id="l-1", model="stream-demo", inputs=["jaw", "smile"], outputs=["happy"], tick_hz=30.0, next_tick_us=1
        ),
    ),
    "live_result": pb.Envelope(
        request_id=10,
        live_result=pb.LiveResult(
            live_id="l-1",
            number=7,
            captured_us=1,
            elements=[pb.LiveResult.Element(index=0, name="happy", value=0.25)],
            tick_us=2,
            sequence=3,
            dropped=1,
        ),
    ),
    "live_closed": pb.Envelope(
        request_id=10, live_closed=pb.LiveClosed(live_id="l-1", code=pb.LIVE_FAILED, message="the model fails")
    ),
    "udp_address": pb.Envelope(
        request_id=13,
        udp_address=pb.UdpAddress(port=9001, key_id=7, key=b"k" * 32, expires_seconds=3600.0, heartbeat_seconds=5.0),
    ),
    "goodbye": pb.Envelope(goodbye=pb.Goodbye(code=pb.UNAVAILABLE, message="the server is stopping")),
}

FRAMES: dict[str, bytes] = {kind: encode_frame(envelope.SerializeToString()) for kind, envelope in ENVELOPES.items()}


def a_connection(role: Role, state: State = State.HANDSHAKE) -> Connection:
    """One end, brought to `state` by what it says and hears."""
    connection = Connection(role, handshake_frame_bytes=HANDSHAKE_FRAME_BYTES, open_frame_bytes=OPEN_FRAME_BYTES)
    steps = {State.HANDSHAKE: [], State.OPEN: ["welcome"], State.CLOSED: ["welcome", "goodbye"]}[state]
    for kind in steps:
        if role is Role.SERVER:
            connection.send(ENVELOPES[kind])
        else:
            connection.receive_data(FRAMES[kind])
            assert isinstance(connection.next_event(), Received)
    assert connection.state is state
    return connection


def events(connection: Connection, data: bytes = b"") -> Iterator[Received | Rejected]:
    """Everything that `connection` makes of `data`, as a door would ask for it."""
    connection.receive_data(data)
    while (event := connection.next_event()) is not None:
        yield event


def pieces(data: bytes, size: int = 1) -> Iterator[bytes]:
    """`data` in reads of `size` bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))


def outcome(event: Received | Rejected) -> tuple[object, ...]:
    """What matters of `event`, comparable also where a message holds a NaN."""
    if isinstance(event, Received):
        return event.request_id, event.kind, event.message.SerializeToString(deterministic=True)
    return event.request_id, event.refusal.code, event.refusal.field


@dataclass
class Pair:
    """A client and a server whose bytes reach each other at once."""

    client: Connection = field(default_factory=lambda: a_connection(Role.CLIENT))
    server: Connection = field(default_factory=lambda: a_connection(Role.SERVER))

    def client_says(self, envelope: pb.Envelope) -> list[Received | Rejected]:
        """What the server hears of it."""
        return list(events(self.server, self.client.send(envelope)))

    def server_says(self, envelope: pb.Envelope) -> list[Received | Rejected]:
        """What the client hears of it."""
        return list(events(self.client, self.server.send(envelope)))

    def shake_hands(self) -> None:
        """Hello and Welcome."""
        self.client_says(ENVELOPES["hello"])
        self.server_says(ENVELOPES["welcome"])


def breaks(connection: Connection, data: bytes) -> StreamBroken | None:
    """The error by which `data` breaks the stream, if it does."""
    try:
        list(events(connection, data))
    except StreamBroken as error:
        return error
    return None
