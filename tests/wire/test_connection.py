from __future__ import annotations

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code, StreamBroken
from server.wire.connection import (
    KINDS,
    TRANSITIONS,
    UNNUMBERED,
    Connection,
    LocalProtocolError,
    Received,
    Rejected,
    Role,
    State,
)
from server.wire.framing import encode_frame
from tests.traced import held_by, traced
from tests.wire.pair import ENVELOPES, FRAMES, OPEN_FRAME_BYTES, Pair, a_connection, breaks, events, outcome, pieces

EVERY_KIND = [field.name for field in pb.Envelope.DESCRIPTOR.oneofs_by_name["message"].fields]
CLIENT_SAYS = {
    "hello", "ping", "submit", "predict", "cancel", "watch", "get_job", "list_models", "get_server_status",
    "open_live", "live_frame", "close_live", "watch_live", "connect_udp",
}  # fmt: skip
SERVER_SAYS = set(EVERY_KIND) - CLIENT_SAYS

# What an end may say, and the state that follows; told again here, kind by kind, so that the table has something to answer to.
MAY_SAY: dict[tuple[Role, State], dict[str, State]] = {
    (Role.CLIENT, State.HANDSHAKE): {"hello": State.HANDSHAKE},
    (Role.SERVER, State.HANDSHAKE): {"error": State.HANDSHAKE, "welcome": State.OPEN, "goodbye": State.CLOSED},
    (Role.CLIENT, State.OPEN): dict.fromkeys(CLIENT_SAYS - {"hello"}, State.OPEN),
    (Role.SERVER, State.OPEN): dict.fromkeys(SERVER_SAYS - {"welcome"}, State.OPEN) | {"goodbye": State.CLOSED},
    (Role.CLIENT, State.CLOSED): {},
    (Role.SERVER, State.CLOSED): {},
}
OTHER = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}
NUMBERED = sorted(set(EVERY_KIND) - UNNUMBERED)

every_role = pytest.mark.parametrize("role", Role, ids=lambda role: role.value)
every_state = pytest.mark.parametrize("state", State, ids=lambda state: state.value)
every_kind = pytest.mark.parametrize("kind", EVERY_KIND)


def one(connection: Connection, data: bytes) -> Received | Rejected:
    """The one event that `connection` makes of `data`."""
    (event,) = events(connection, data)
    return event


def rejection(connection: Connection, data: bytes) -> tuple[int, Code, str]:
    """The one refusal that `connection` makes of `data`: its request, code and field."""
    event = one(connection, data)
    assert isinstance(event, Rejected)
    return event.request_id, event.refusal.code, event.refusal.field


def test_kinds_are_those_of_the_proto_file() -> None:
    """Every member of Envelope belongs to exactly one role, and every kind has a sample here."""
    assert KINDS[Role.CLIENT] == CLIENT_SAYS
    assert KINDS[Role.SERVER] == SERVER_SAYS
    assert set(ENVELOPES) == set(EVERY_KIND)
    assert set(TRANSITIONS) == set(State)


@every_role
@every_state
@every_kind
def test_saying(role: Role, state: State, kind: str) -> None:
    """Each role says in each state what it may, and anything else raises and changes nothing."""
    connection = a_connection(role, state)
    allowed = MAY_SAY[role, state]
    if kind in allowed:
        assert connection.send(ENVELOPES[kind]) == FRAMES[kind]
        assert connection.state is allowed[kind]
    else:
        with pytest.raises(LocalProtocolError, match=kind):
            connection.send(ENVELOPES[kind])
        assert connection.state is state


@every_role
@every_state
@every_kind
def test_hearing(role: Role, state: State, kind: str) -> None:
    """Each role takes in each state what its peer may say then, and rejects anything else with the documented code."""
    connection = a_connection(role, state)
    allowed = MAY_SAY[OTHER[role], state]
    heard = list(events(connection, FRAMES[kind]))
    if state is State.CLOSED:
        assert heard == []
    elif kind in allowed:
        envelope = ENVELOPES[kind]
        assert heard == [Received(envelope.request_id, kind, getattr(envelope, kind))]
        assert connection.state is allowed[kind]
    else:
        too_early = role is Role.SERVER and state is State.HANDSHAKE and kind in CLIENT_SAYS
        code = Code.HELLO_REQUIRED if too_early else Code.UNEXPECTED_MESSAGE
        assert [outcome(event) for event in heard] == [(ENVELOPES[kind].request_id, code, "")]
        assert connection.state is state


@every_kind
def test_every_message_whole_byte_by_byte_and_with_more_behind(kind: str) -> None:
    """A message is the same event whole, byte by byte, and with the beginning of another behind it."""
    role = Role.SERVER if kind in CLIENT_SAYS else Role.CLIENT
    state = State.HANDSHAKE if kind in {"hello", "welcome"} else State.OPEN
    whole = one(a_connection(role, state), FRAMES[kind])
    assert isinstance(whole, Received)

    slow = a_connection(role, state)
    *early, last = pieces(FRAMES[kind])
    for byte in early:
        assert list(events(slow, byte)) == []
        assert slow.frame_begun
    assert one(slow, last) == whole
    assert not slow.frame_begun

    more = a_connection(role, state)
    assert one(more, FRAMES[kind] + b"\x00\x00") == whole
    assert more.frame_begun == (kind != "goodbye")  # after Goodbye nothing is kept


@pytest.mark.parametrize("kind", NUMBERED)
def test_requests_and_answers_need_a_number(kind: str) -> None:
    """Whatever belongs to a request is refused without its number, said or heard."""
    speaker = Role.CLIENT if kind in CLIENT_SAYS else Role.SERVER
    envelope = pb.Envelope()
    envelope.CopyFrom(ENVELOPES[kind])
    envelope.request_id = 0
    with pytest.raises(LocalProtocolError, match="request_id"):
        a_connection(speaker, State.OPEN).send(envelope)
    frame = encode_frame(envelope.SerializeToString())
    listener = a_connection(OTHER[speaker], State.OPEN)
    assert rejection(listener, frame) == (0, Code.INVALID_PARAMETER, "request_id")


def test_hello_may_come_without_a_number() -> None:
    """There is one Hello under way at a time, so it needs no number."""
    hello = pb.Envelope(hello=pb.Hello(protocol_version=1))
    event = one(a_connection(Role.SERVER), a_connection(Role.CLIENT).send(hello))
    assert event == Received(0, "hello", hello.hello)


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x08", b"\x62\x05ab", b"\x62\x04\x1a\x02\xff\xfe", b"\x00\x00", b"\x5b" * 200]
)
def test_frame_that_is_no_envelope(body: bytes) -> None:
    """A whole frame that does not parse is malformed, belongs to no request, and the next one is taken."""
    server = a_connection(Role.SERVER, State.OPEN)
    first, second = events(server, encode_frame(body) + FRAMES["ping"])
    assert outcome(first) == (0, Code.MALFORMED_MESSAGE, "")
    assert isinstance(second, Received)


@every_role
@pytest.mark.parametrize("state", [State.HANDSHAKE, State.OPEN])
def test_envelope_without_a_known_message(role: Role, state: State) -> None:
    """An Envelope with nothing in it, or with a member of a later version, is unknown, with its number if it has one."""
    connection = a_connection(role, state)
    assert rejection(connection, b"\x00\x00\x00\x00") == (0, Code.UNKNOWN_MESSAGE, "")
    of_a_later_version = b"\x08\x09" + b"\xfa\x01\x02\x08\x01"  # request_id 9, field 31
    assert rejection(connection, encode_frame(of_a_later_version)) == (9, Code.UNKNOWN_MESSAGE, "")


def test_unknown_fields_of_a_known_message_are_passed_over() -> None:
    """A field of a later version inside a message that is known does not harm it."""
    body = b"\x08\x02" + b"\x5a\x05" + b"\x08\x07" + b"\x9a\x06\x00"
    event = one(a_connection(Role.SERVER, State.OPEN), encode_frame(body))
    assert isinstance(event, Received)
    assert (event.request_id, event.kind) == (2, "ping")
    assert isinstance(event.message, pb.Ping)
    assert event.message.client_time_us == 7


def test_sending_an_empty_envelope_is_our_mistake() -> None:
    """An Envelope without a message cannot be said."""
    with pytest.raises(LocalProtocolError):
        a_connection(Role.CLIENT, State.OPEN).send(pb.Envelope(request_id=1))


def test_session_from_hello_to_goodbye() -> None:
    """A client and a server talk through a refused Hello, a Welcome, two jobs at once, and a Goodbye."""
    pair = Pair()
    pair.client_says(ENVELOPES["hello"])
    refused = pb.Envelope(request_id=1, error=pb.Error(code=pb.UNAUTHENTICATED))
    assert pair.server_says(refused) == [Received(1, "error", refused.error)]
    assert [pair.client.state, pair.server.state] == [State.HANDSHAKE, State.HANDSHAKE]
    pair.shake_hands()
    assert [pair.client.state, pair.server.state] == [State.OPEN, State.OPEN]

    for number in (10, 11):
        submit = pb.Envelope(request_id=number, submit=pb.Submit(prompt="a fox", inline_pictures=True))
        assert pair.client_says(submit) == [Received(number, "submit", submit.submit)]
    answers = [
        pb.Envelope(request_id=10, accepted=pb.Accepted(job_id="a")),
        pb.Envelope(request_id=11, accepted=pb.Accepted(job_id="b")),
        pb.Envelope(request_id=11, progress=pb.Progress(job_id="b", event_number=1)),
        pb.Envelope(request_id=11, chunk=pb.Chunk(job_id="b", size=300_000, data=b"\x01" * 262_144)),
        pb.Envelope(request_id=10, failed=pb.Failed(job_id="a", event_number=1)),
        pb.Envelope(request_id=11, chunk=pb.Chunk(job_id="b", offset=262_144, size=300_000, data=b"\x01" * 37_856)),
        pb.Envelope(request_id=11, result=pb.Result(job_id="b", event_number=2)),
    ]
    stream = b"".join(map(pair.server.send, answers))
    heard = [event for read in pieces(stream, 1460) for event in events(pair.client, read)]
    assert [(event.request_id, event.kind) for event in heard if isinstance(event, Received)] == [
        (answer.request_id, answer.WhichOneof("message")) for answer in answers
    ]

    pair.server_says(ENVELOPES["goodbye"])
    assert [pair.client.state, pair.server.state] == [State.CLOSED, State.CLOSED]


def test_nothing_is_heard_after_goodbye() -> None:
    """A server that said Goodbye drops what still comes, also what it held already."""
    server = a_connection(Role.SERVER, State.OPEN)
    server.receive_data(FRAMES["ping"] * 3)
    assert isinstance(server.next_event(), Received)
    server.send(ENVELOPES["goodbye"])
    assert list(events(server, FRAMES["ping"])) == []
    assert not server.frame_begun


def test_second_hello_is_unexpected_and_harmless() -> None:
    """A Hello on an open connection is refused, and the connection stays open."""
    pair = Pair()
    pair.shake_hands()
    assert rejection(pair.server, FRAMES["hello"]) == (1, Code.UNEXPECTED_MESSAGE, "")
    assert len(pair.client_says(ENVELOPES["ping"])) == 1


def test_handshake_frames_are_small_until_welcome() -> None:
    """Before Welcome a length over 4 KiB breaks the stream on its prefix; after it 1 MiB is the limit, on both ends."""
    assert breaks(a_connection(Role.SERVER), b"\x00\x00\x10\x01") is not None
    assert breaks(a_connection(Role.SERVER), b"\x00\x00\x10\x00") is None
    assert breaks(a_connection(Role.CLIENT), b"\x00\x00\x10\x01") is not None
    for role in Role:
        assert breaks(a_connection(role, State.OPEN), b"\x00\x10\x00\x00") is None
        assert breaks(a_connection(role, State.OPEN), b"\x00\x10\x00\x01") is not None


def test_welcome_widens_the_limit_for_what_is_right_behind_it() -> None:
    """A large message in the same read as Welcome is taken."""
    server = a_connection(Role.SERVER)
    chunk = pb.Envelope(request_id=3, chunk=pb.Chunk(job_id="job-1", data=b"\x01" * 200_000))
    read = server.send(ENVELOPES["welcome"]) + server.send(chunk)
    kinds = [event.kind for event in events(a_connection(Role.CLIENT), read) if isinstance(event, Received)]
    assert kinds == ["welcome", "chunk"]


def test_broken_stream_can_still_be_told_why() -> None:
    """After its peer broke the stream, a server can say so and take its leave; what comes is dropped."""
    server = a_connection(Role.SERVER, State.OPEN)
    server.receive_data(FRAMES["ping"] + b"\xff\xff\xff\xff" + FRAMES["ping"])
    assert isinstance(server.next_event(), Received)
    for _ in range(2):
        with pytest.raises(StreamBroken) as broken:
            server.next_event()
        assert broken.value.code is Code.FRAME_TOO_LARGE
    server.send(pb.Envelope(error=pb.Error(code=pb.FRAME_TOO_LARGE)))
    server.send(pb.Envelope(goodbye=pb.Goodbye(code=pb.FRAME_TOO_LARGE)))
    assert list(events(server, FRAMES["ping"])) == []


def submit_of(size: int) -> pb.Envelope:
    """A Submit whose body has exactly `size` bytes."""
    envelope = pb.Envelope(request_id=1, submit=pb.Submit(prompt="x"))
    while (missing := size - envelope.ByteSize()) != 0:
        envelope.submit.prompt = "x" * (len(envelope.submit.prompt) + missing)
    return envelope


def test_too_large_a_message_is_not_sent() -> None:
    """What the peer would not take is our mistake, told before a byte is written; the limit itself passes."""
    client, server = a_connection(Role.CLIENT, State.OPEN), a_connection(Role.SERVER, State.OPEN)
    assert isinstance(one(server, client.send(submit_of(OPEN_FRAME_BYTES))), Received)
    with pytest.raises(LocalProtocolError, match="at most 1048576"):
        client.send(submit_of(OPEN_FRAME_BYTES + 1))
    with pytest.raises(LocalProtocolError, match="at most 4096"):
        a_connection(Role.CLIENT).send(pb.Envelope(hello=pb.Hello(token="t" * 5000)))


def test_too_large_a_welcome_leaves_the_handshake_as_it_was() -> None:
    """A message that could not be sent changes no state."""
    server = a_connection(Role.SERVER)
    with pytest.raises(LocalProtocolError):
        server.send(pb.Envelope(welcome=pb.Welcome(owner="o" * 5000)))
    assert server.state is State.HANDSHAKE


def test_client_heeds_the_frame_limit_of_welcome() -> None:
    """A server that takes less than the client would send is heeded."""
    client = a_connection(Role.CLIENT)
    welcome = pb.Envelope(welcome=pb.Welcome(limits=pb.Limits(max_frame_bytes=10_000)))
    one(client, encode_frame(welcome.SerializeToString()))
    client.send(submit_of(10_000))
    with pytest.raises(LocalProtocolError, match="at most 10000"):
        client.send(submit_of(10_001))


def test_role_is_told() -> None:
    """A connection knows which end it is."""
    assert [a_connection(role).role for role in Role] == list(Role)


def test_idle_connections_are_small() -> None:
    """An open connection with nothing under way keeps well under 2 kB."""
    connections: list[Connection] = [a_connection(Role.SERVER, State.OPEN)]
    with traced():
        connections += [a_connection(Role.SERVER, State.OPEN) for _ in range(1000)]
        used = held_by("server")
    assert used / 1000 < 500


def test_memory_is_flat_over_many_pings() -> None:
    """Ten thousand pings leave nothing behind on either end."""
    pair = Pair()
    pair.shake_hands()
    ping, pong = FRAMES["ping"], ENVELOPES["pong"]

    def pings(count: int) -> None:
        for _ in range(count):
            assert isinstance(one(pair.server, ping), Received)
            assert isinstance(one(pair.client, pair.server.send(pong)), Received)

    pings(100)
    with traced():
        pings(100)
        before = held_by("server")
        pings(10_000)
        after = held_by("server")
    assert after - before < 1024
