"""server.errors beside proto/atelier.proto."""

from __future__ import annotations

from proto import atelier_pb2 as pb
from server.errors import AtelierError, Code, JobFailure, Refusal, StreamBroken


def test_codes_are_those_of_the_wire() -> None:
    """Every code has the same name and number as in the protocol, and none is missing on either side."""
    assert {code.name: code.value for code in Code} == dict(pb.ErrorCode.items())


def test_ours_and_the_caller_s_mistakes_are_different_types() -> None:
    """A refusal is no failure of a job; a broken stream is a refusal."""
    assert not issubclass(Refusal, JobFailure)
    assert not issubclass(JobFailure, Refusal)
    assert issubclass(StreamBroken, Refusal)
    assert issubclass(JobFailure, AtelierError)


def test_a_refused_value_is_shown_short() -> None:
    """The text names field and limit, and quotes at most the beginning of what was given."""
    refusal = Refusal.invalid("prompt", "at most 3 characters", "x" * 100_000)
    assert (refusal.code, refusal.field, refusal.limit) == (Code.INVALID_PARAMETER, "prompt", "at most 3 characters")
    assert str(refusal).startswith("prompt must be at most 3 characters, not 'xxx")
    assert len(str(refusal)) < 120


def test_an_error_s_repr_tells_its_code_and_field() -> None:
    """What a log shows of an error is enough to find it."""
    assert repr(Refusal(Code.UNAVAILABLE, "gone", field="f")) == "Refusal(UNAVAILABLE, 'gone', field='f', limit='')"
