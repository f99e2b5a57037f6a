"""Frames as bytes: what is read here is what pika reads, what is written is what pika writes, and all else is left to pika."""

from __future__ import annotations

import pika
import pytest
from pika import frame, spec
from pika.exceptions import ShortStringTooLong

from server.doors.amqp.broker import Delivery, Properties
from server.doors.amqp.pika_frames import (
    Confirmation,
    Given,
    acknowledgement,
    channel,
    publication,
    read,
    size,
)
from server.doors.amqp.pika_messages import properties_of

EVERYTHING = pika.BasicProperties(
    content_type="application/json",
    content_encoding="utf-8",
    delivery_mode=2,
    priority=4,
    correlation_id="c",
    reply_to="answers",
    expiration="60000",
    message_id="m-ä",
    timestamp=1_700_000_000,
    type="image_generation",
    user_id="guest",
    app_id="shop",
    cluster_id="old",
)
WITH_HEADERS = pika.BasicProperties(headers={"x-tries": 3, "x-list": [1, None, {"deep": True}]}, message_id="m")


def given(body: bytes, properties: pika.BasicProperties, *, number: int = 7, most: int = 1000) -> bytes:
    """A delivery as a broker sends it, by pika's own hand."""
    method = spec.Basic.Deliver(
        consumer_tag="atelier", delivery_tag=1 << 40, redelivered=True, exchange="atelier.events", routing_key="job.ö"
    )
    frames = [frame.Method(number, method), frame.Header(number, len(body), properties)]
    frames += [frame.Body(number, body[start : start + most]) for start in range(0, len(body), most)]
    return b"".join(each.marshal() for each in frames)


@pytest.mark.parametrize("properties", [pika.BasicProperties(), EVERYTHING, WITH_HEADERS])
@pytest.mark.parametrize("body", [b"", b"a body"])
def test_a_delivery_is_what_pika_reads(properties: pika.BasicProperties, body: bytes) -> None:
    """Wherever it stands: its body, its properties, where it came from, and where the next frame begins."""
    ahead = acknowledgement(1, 1)
    buffer = ahead + given(body, properties) + b"next"
    at = size(buffer, 0)
    assert channel(buffer, at) == 7
    found = read(buffer, at)
    assert found is not None
    end, what = found
    assert buffer[end:] == b"next"
    assert what == Given(
        "atelier",
        Delivery(
            tag=1 << 40,
            body=body,
            properties=properties_of(pika.BasicProperties().decode(b"".join(properties.encode()))),
            exchange="atelier.events",
            routing_key="job.ö",
            redelivered=True,
        ),
    )


def test_a_delivery_that_is_not_whole_is_left_to_pika() -> None:
    """Cut off anywhere, it is not read."""
    whole = given(b"a body", EVERYTHING)
    method = size(whole, 0)
    for end in range(len(whole)):
        part = whole[:end]
        if channel(part, 0):
            assert end >= method
            assert read(part, 0) is None
    assert size(whole[:6], 0) == 0
    assert channel(whole[:6], 0) == 0


def test_what_is_unusual_is_left_to_pika() -> None:
    """A body in several frames, frames of another channel between, a frame without its end, headers that nobody can read."""
    assert read(given(bytes(2500), EVERYTHING), 0) is None
    whole = given(b"a body", EVERYTHING)
    method = size(whole, 0)
    assert read(whole[:method] + acknowledgement(3, 1) + whole[method:], 0) is None
    assert channel(whole[: method - 1] + b"\0" + whole[method:], 0) == 0
    assert read(whole[:-1] + b"\0", 0) is None
    strange = given(b"a body", WITH_HEADERS).replace(b"x-listA", b"x-list\xff")
    assert channel(strange, 0) == 7
    assert read(strange, 0) is None


def test_other_methods_and_frames_are_left_to_pika() -> None:
    """A cancelled consumer, a returned message, a heartbeat; and a broker of another version, which sends no frame."""
    for method in (spec.Basic.Cancel("atelier"), spec.Basic.Return(312, "NO_ROUTE", "", "jobs")):
        told = frame.Method(7, method).marshal()
        assert channel(told, 0) == 7
        assert read(told, 0) is None
    assert channel(frame.Heartbeat().marshal(), 0) == 0
    assert size(b"AMQP\0\0\x09\x01", 0) == 8


@pytest.mark.parametrize("several", [False, True])
def test_confirmations_are_what_pika_reads(several: bool) -> None:
    """Acknowledged or refused, one or all up to it."""
    for method, refused in ((spec.Basic.Ack(9, several), False), (spec.Basic.Nack(9, several, True), True)):
        told = frame.Method(2, method).marshal()
        assert channel(told, 0) == 2
        assert read(told, 0) == (len(told), Confirmation(9, several, refused))


def test_an_acknowledgement_is_what_pika_writes() -> None:
    """Byte by byte."""
    assert acknowledgement(5, 1 << 40) == frame.Method(5, spec.Basic.Ack(1 << 40)).marshal()


@pytest.mark.parametrize("mandatory", [False, True])
@pytest.mark.parametrize("body", [b"", b"a body", bytes(250)])
def test_a_publication_is_what_pika_writes(mandatory: bool, body: bytes) -> None:
    """Byte by byte, in as many frames."""
    method = spec.Basic.Publish(exchange="atelier.events", routing_key="job.ö", mandatory=mandatory)
    frames = [frame.Method(5, method), frame.Header(5, len(body), EVERYTHING)]
    frames += [frame.Body(5, body[start : start + 100]) for start in range(0, len(body), 100)]
    about = b"".join(EVERYTHING.encode())
    written = publication(5, "atelier.events", "job.ö", body, about, mandatory=mandatory, most=100)
    assert written == b"".join(each.marshal() for each in frames)


def test_a_name_that_is_too_long_is_refused() -> None:
    """Rather than written as something else."""
    with pytest.raises(ShortStringTooLong):
        publication(1, "", "q" * 256, b"", b"\0\0", mandatory=True, most=100)


def test_properties_without_a_name_here_are_left_out() -> None:
    """Its expiry, its publisher's name: they would harm a copy."""
    found = read(given(b"", EVERYTHING), 0)
    assert found is not None
    assert isinstance(found[1], Given)
    assert found[1].delivery.properties == Properties(
        content_type="application/json",
        content_encoding="utf-8",
        priority=4,
        correlation_id="c",
        reply_to="answers",
        message_id="m-ä",
        timestamp=1_700_000_000,
        type="image_generation",
        app_id="shop",
    )
