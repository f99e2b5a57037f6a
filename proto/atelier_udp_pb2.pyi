from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientDatagram(_message.Message):
    __slots__ = ("sequence", "cookie", "subscribe", "unsubscribe", "heartbeat", "open_live", "live_frame", "close_live")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    OPEN_LIVE_FIELD_NUMBER: _ClassVar[int]
    LIVE_FRAME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_LIVE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    cookie: int
    subscribe: Subscribe
    unsubscribe: Unsubscribe
    heartbeat: Heartbeat
    open_live: OpenLive
    live_frame: LiveFrame
    close_live: CloseLive
    def __init__(self, sequence: _Optional[int] = ..., cookie: _Optional[int] = ..., subscribe: _Optional[_Union[Subscribe, _Mapping]] = ..., unsubscribe: _Optional[_Union[Unsubscribe, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., open_live: _Optional[_Union[OpenLive, _Mapping]] = ..., live_frame: _Optional[_Union[LiveFrame, _Mapping]] = ..., close_live: _Optional[_Union[CloseLive, _Mapping]] = ...) -> None: ...

class Subscribe(_message.Message):
    __slots__ = ("live_id", "job_id", "to_group")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TO_GROUP_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    job_id: str
    to_group: bool
    def __init__(self, live_id: _Optional[str] = ..., job_id: _Optional[str] = ..., to_group: _Optional[bool] = ...) -> None: ...

class Unsubscribe(_message.Message):
    __slots__ = ("live_id", "job_id", "to_group")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TO_GROUP_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    job_id: str
    to_group: bool
    def __init__(self, live_id: _Optional[str] = ..., job_id: _Optional[str] = ..., to_group: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("padding",)
    PADDING_FIELD_NUMBER: _ClassVar[int]
    padding: bytes
    def __init__(self, padding: _Optional[bytes] = ...) -> None: ...

class OpenLive(_message.Message):
    __slots__ = ("model", "source", "tag")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    model: str
    source: str
    tag: int
    def __init__(self, model: _Optional[str] = ..., source: _Optional[str] = ..., tag: _Optional[int] = ...) -> None: ...

class LiveFrame(_message.Message):
    __slots__ = ("live_id", "number", "captured_us", "values", "image")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    number: int
    captured_us: int
    values: _containers.RepeatedScalarFieldContainer[float]
    image: bytes
    def __init__(self, live_id: _Optional[str] = ..., number: _Optional[int] = ..., captured_us: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ..., image: _Optional[bytes] = ...) -> None: ...

class CloseLive(_message.Message):
    __slots__ = ("live_id",)
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    def __init__(self, live_id: _Optional[str] = ...) -> None: ...

class ServerDatagram(_message.Message):
    __slots__ = ("answers", "challenge", "subscribed", "unsubscribed", "alive", "refused", "evicted", "live_opened", "names", "live_result", "live_ended", "job_progress", "job_ended")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    UNSUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    EVICTED_FIELD_NUMBER: _ClassVar[int]
    LIVE_OPENED_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    LIVE_RESULT_FIELD_NUMBER: _ClassVar[int]
    LIVE_ENDED_FIELD_NUMBER: _ClassVar[int]
    JOB_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    answers: int
    challenge: Challenge
    subscribed: Subscribed
    unsubscribed: Unsubscribed
    alive: Alive
    refused: Refused
    evicted: Evicted
    live_opened: LiveOpened
    names: Names
    live_result: LiveResult
    live_ended: LiveEnded
    job_progress: JobProgress
    job_ended: JobEnded
    def __init__(self, answers: _Optional[int] = ..., challenge: _Optional[_Union[Challenge, _Mapping]] = ..., subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., unsubscribed: _Optional[_Union[Unsubscribed, _Mapping]] = ..., alive: _Optional[_Union[Alive, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., evicted: _Optional[_Union[Evicted, _Mapping]] = ..., live_opened: _Optional[_Union[LiveOpened, _Mapping]] = ..., names: _Optional[_Union[Names, _Mapping]] = ..., live_result: _Optional[_Union[LiveResult, _Mapping]] = ..., live_ended: _Optional[_Union[LiveEnded, _Mapping]] = ..., job_progress: _Optional[_Union[JobProgress, _Mapping]] = ..., job_ended: _Optional[_Union[JobEnded, _Mapping]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("cookie",)
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    cookie: int
    def __init__(self, cookie: _Optional[int] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("live_id", "job_id", "next_sequence", "subscriptions")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    job_id: str
    next_sequence: int
    subscriptions: int
    def __init__(self, live_id: _Optional[str] = ..., job_id: _Optional[str] = ..., next_sequence: _Optional[int] = ..., subscriptions: _Optional[int] = ...) -> None: ...

class Unsubscribed(_message.Message):
    __slots__ = ("live_id", "job_id")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    job_id: str
    def __init__(self, live_id: _Optional[str] = ..., job_id: _Optional[str] = ...) -> None: ...

class Alive(_message.Message):
    __slots__ = ("server_time_us", "subscriptions", "key_expires_seconds")
    SERVER_TIME_US_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    KEY_EXPIRES_SECONDS_FIELD_NUMBER: _ClassVar[int]
    server_time_us: int
    subscriptions: int
    key_expires_seconds: float
    def __init__(self, server_time_us: _Optional[int] = ..., subscriptions: _Optional[int] = ..., key_expires_seconds: _Optional[float] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("code", "code_name", "field", "limit", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_NAME_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    code_name: str
    field: str
    limit: str
    message: str
    def __init__(self, code: _Optional[int] = ..., code_name: _Optional[str] = ..., field: _Optional[str] = ..., limit: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Evicted(_message.Message):
    __slots__ = ("code", "code_name", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    code_name: str
    message: str
    def __init__(self, code: _Optional[int] = ..., code_name: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class LiveOpened(_message.Message):
    __slots__ = ("tag", "live_id", "model", "input_count", "height", "width", "output_count", "tick_hz", "next_tick_us")
    TAG_FIELD_NUMBER: _ClassVar[int]
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_COUNT_FIELD_NUMBER: _ClassVar[int]
    TICK_HZ_FIELD_NUMBER: _ClassVar[int]
    NEXT_TICK_US_FIELD_NUMBER: _ClassVar[int]
    tag: int
    live_id: str
    model: str
    input_count: int
    height: int
    width: int
    output_count: int
    tick_hz: float
    next_tick_us: int
    def __init__(self, tag: _Optional[int] = ..., live_id: _Optional[str] = ..., model: _Optional[str] = ..., input_count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., output_count: _Optional[int] = ..., tick_hz: _Optional[float] = ..., next_tick_us: _Optional[int] = ...) -> None: ...

class Names(_message.Message):
    __slots__ = ("live_id", "first_index", "total", "names")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    first_index: int
    total: int
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, live_id: _Optional[str] = ..., first_index: _Optional[int] = ..., total: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ...) -> None: ...

class LiveResult(_message.Message):
    __slots__ = ("live_id", "sequence", "number", "captured_us", "tick_us", "dropped", "first_index", "total", "values")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    TICK_US_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    sequence: int
    number: int
    captured_us: int
    tick_us: int
    dropped: int
    first_index: int
    total: int
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, live_id: _Optional[str] = ..., sequence: _Optional[int] = ..., number: _Optional[int] = ..., captured_us: _Optional[int] = ..., tick_us: _Optional[int] = ..., dropped: _Optional[int] = ..., first_index: _Optional[int] = ..., total: _Optional[int] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...

class LiveEnded(_message.Message):
    __slots__ = ("live_id", "sequence", "code", "code_name", "message")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    sequence: int
    code: int
    code_name: str
    message: str
    def __init__(self, live_id: _Optional[str] = ..., sequence: _Optional[int] = ..., code: _Optional[int] = ..., code_name: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class JobProgress(_message.Message):
    __slots__ = ("job_id", "sequence", "event_number", "phase", "step", "total_steps", "percent", "eta_seconds")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    sequence: int
    event_number: int
    phase: str
    step: int
    total_steps: int
    percent: float
    eta_seconds: float
    def __init__(self, job_id: _Optional[str] = ..., sequence: _Optional[int] = ..., event_number: _Optional[int] = ..., phase: _Optional[str] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., percent: _Optional[float] = ..., eta_seconds: _Optional[float] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("job_id", "sequence", "event_number", "state", "pictures", "processing_seconds", "code", "code_name", "message")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[JobEnded.State]
        SUCCEEDED: _ClassVar[JobEnded.State]
        FAILED: _ClassVar[JobEnded.State]
        CANCELED: _ClassVar[JobEnded.State]
    STATE_UNSPECIFIED: JobEnded.State
    SUCCEEDED: JobEnded.State
    FAILED: JobEnded.State
    CANCELED: JobEnded.State
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    sequence: int
    event_number: int
    state: JobEnded.State
    pictures: int
    processing_seconds: float
    code: int
    code_name: str
    message: str
    def __init__(self, job_id: _Optional[str] = ..., sequence: _Optional[int] = ..., event_number: _Optional[int] = ..., state: _Optional[_Union[JobEnded.State, str]] = ..., pictures: _Optional[int] = ..., processing_seconds: _Optional[float] = ..., code: _Optional[int] = ..., code_name: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
