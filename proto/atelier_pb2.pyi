from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorCode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OK: _ClassVar[ErrorCode]
    UNKNOWN_MESSAGE: _ClassVar[ErrorCode]
    INTERNAL_ERROR: _ClassVar[ErrorCode]
    INVALID_PARAMETER: _ClassVar[ErrorCode]
    UNAUTHENTICATED: _ClassVar[ErrorCode]
    DUPLICATE_LOGIN: _ClassVar[ErrorCode]
    MALFORMED_MESSAGE: _ClassVar[ErrorCode]
    FRAME_TOO_LARGE: _ClassVar[ErrorCode]
    UNSUPPORTED_VERSION: _ClassVar[ErrorCode]
    HELLO_REQUIRED: _ClassVar[ErrorCode]
    UNEXPECTED_MESSAGE: _ClassVar[ErrorCode]
    HANDSHAKE_TIMEOUT: _ClassVar[ErrorCode]
    FRAME_TIMEOUT: _ClassVar[ErrorCode]
    IDLE_TIMEOUT: _ClassVar[ErrorCode]
    SLOW_READER: _ClassVar[ErrorCode]
    TOO_MANY_CONNECTIONS: _ClassVar[ErrorCode]
    PERMISSION_DENIED: _ClassVar[ErrorCode]
    JOB_NOT_FOUND: _ClassVar[ErrorCode]
    MODEL_NOT_FOUND: _ClassVar[ErrorCode]
    ADAPTER_NOT_FOUND: _ClassVar[ErrorCode]
    IDEMPOTENCY_CONFLICT: _ClassVar[ErrorCode]
    RESOURCE_EXHAUSTED: _ClassVar[ErrorCode]
    UNAVAILABLE: _ClassVar[ErrorCode]
    ADAPTER_INVALID: _ClassVar[ErrorCode]
    LIVE_NOT_FOUND: _ClassVar[ErrorCode]
    MODEL_LOAD_FAILED: _ClassVar[ErrorCode]
    GPU_OUT_OF_MEMORY: _ClassVar[ErrorCode]
    GENERATION_FAILED: _ClassVar[ErrorCode]
    DEADLINE_EXCEEDED: _ClassVar[ErrorCode]
    STORAGE_FAILED: _ClassVar[ErrorCode]
    SIGNATURE_FAILED: _ClassVar[ErrorCode]
    MEMORY_LIMIT_EXCEEDED: _ClassVar[ErrorCode]
    LIVE_FAILED: _ClassVar[ErrorCode]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUEUED: _ClassVar[Phase]
    ENCODING: _ClassVar[Phase]
    DENOISING: _ClassVar[Phase]
    DECODING: _ClassVar[Phase]
    FINISHING: _ClassVar[Phase]
    PARKED: _ClassVar[Phase]
    WRITING: _ClassVar[Phase]
    RETRYING: _ClassVar[Phase]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_QUEUED: _ClassVar[JobState]
    JOB_STARTING: _ClassVar[JobState]
    JOB_PROCESSING: _ClassVar[JobState]
    JOB_SUCCEEDED: _ClassVar[JobState]
    JOB_FAILED: _ClassVar[JobState]
    JOB_CANCELED: _ClassVar[JobState]
    JOB_RETRYING: _ClassVar[JobState]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_ON_DISK: _ClassVar[ModelState]
    MODEL_LOADING: _ClassVar[ModelState]
    MODEL_READY: _ClassVar[ModelState]
    MODEL_UNAVAILABLE: _ClassVar[ModelState]

class ServerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SERVER_STATE_UNSPECIFIED: _ClassVar[ServerState]
    LOADING: _ClassVar[ServerState]
    READY: _ClassVar[ServerState]
    DRAINING: _ClassVar[ServerState]
    FAILED: _ClassVar[ServerState]
OK: ErrorCode
UNKNOWN_MESSAGE: ErrorCode
INTERNAL_ERROR: ErrorCode
INVALID_PARAMETER: ErrorCode
UNAUTHENTICATED: ErrorCode
DUPLICATE_LOGIN: ErrorCode
MALFORMED_MESSAGE: ErrorCode
FRAME_TOO_LARGE: ErrorCode
UNSUPPORTED_VERSION: ErrorCode
HELLO_REQUIRED: ErrorCode
UNEXPECTED_MESSAGE: ErrorCode
HANDSHAKE_TIMEOUT: ErrorCode
FRAME_TIMEOUT: ErrorCode
IDLE_TIMEOUT: ErrorCode
SLOW_READER: ErrorCode
TOO_MANY_CONNECTIONS: ErrorCode
PERMISSION_DENIED: ErrorCode
JOB_NOT_FOUND: ErrorCode
MODEL_NOT_FOUND: ErrorCode
ADAPTER_NOT_FOUND: ErrorCode
IDEMPOTENCY_CONFLICT: ErrorCode
RESOURCE_EXHAUSTED: ErrorCode
UNAVAILABLE: ErrorCode
ADAPTER_INVALID: ErrorCode
LIVE_NOT_FOUND: ErrorCode
MODEL_LOAD_FAILED: ErrorCode
GPU_OUT_OF_MEMORY: ErrorCode
GENERATION_FAILED: ErrorCode
DEADLINE_EXCEEDED: ErrorCode
STORAGE_FAILED: ErrorCode
SIGNATURE_FAILED: ErrorCode
MEMORY_LIMIT_EXCEEDED: ErrorCode
LIVE_FAILED: ErrorCode
QUEUED: Phase
ENCODING: Phase
DENOISING: Phase
DECODING: Phase
FINISHING: Phase
PARKED: Phase
WRITING: Phase
RETRYING: Phase
JOB_STATE_UNSPECIFIED: JobState
JOB_QUEUED: JobState
JOB_STARTING: JobState
JOB_PROCESSING: JobState
JOB_SUCCEEDED: JobState
JOB_FAILED: JobState
JOB_CANCELED: JobState
JOB_RETRYING: JobState
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_ON_DISK: ModelState
MODEL_LOADING: ModelState
MODEL_READY: ModelState
MODEL_UNAVAILABLE: ModelState
SERVER_STATE_UNSPECIFIED: ServerState
LOADING: ServerState
READY: ServerState
DRAINING: ServerState
FAILED: ServerState

class Envelope(_message.Message):
    __slots__ = ("request_id", "hello", "ping", "submit", "cancel", "watch", "get_job", "list_models", "get_server_status", "predict", "open_live", "live_frame", "close_live", "watch_live", "connect_udp", "welcome", "pong", "error", "accepted", "progress", "preview", "chunk", "result", "failed", "canceled", "cancel_requested", "job", "models", "server_status", "goodbye", "output", "live_opened", "live_result", "live_closed", "udp_address")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PING_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    GET_JOB_FIELD_NUMBER: _ClassVar[int]
    LIST_MODELS_FIELD_NUMBER: _ClassVar[int]
    GET_SERVER_STATUS_FIELD_NUMBER: _ClassVar[int]
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    OPEN_LIVE_FIELD_NUMBER: _ClassVar[int]
    LIVE_FRAME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_LIVE_FIELD_NUMBER: _ClassVar[int]
    WATCH_LIVE_FIELD_NUMBER: _ClassVar[int]
    CONNECT_UDP_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    PONG_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELED_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    SERVER_STATUS_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LIVE_OPENED_FIELD_NUMBER: _ClassVar[int]
    LIVE_RESULT_FIELD_NUMBER: _ClassVar[int]
    LIVE_CLOSED_FIELD_NUMBER: _ClassVar[int]
    UDP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    hello: Hello
    ping: Ping
    submit: Submit
    cancel: Cancel
    watch: Watch
    get_job: GetJob
    list_models: ListModels
    get_server_status: GetServerStatus
    predict: Predict
    open_live: OpenLive
    live_frame: LiveFrame
    close_live: CloseLive
    watch_live: WatchLive
    connect_udp: ConnectUdp
    welcome: Welcome
    pong: Pong
    error: Error
    accepted: Accepted
    progress: Progress
    preview: Preview
    chunk: Chunk
    result: Result
    failed: Failed
    canceled: Canceled
    cancel_requested: CancelRequested
    job: Job
    models: Models
    server_status: ServerStatus
    goodbye: Goodbye
    output: Output
    live_opened: LiveOpened
    live_result: LiveResult
    live_closed: LiveClosed
    udp_address: UdpAddress
    def __init__(self, request_id: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., ping: _Optional[_Union[Ping, _Mapping]] = ..., submit: _Optional[_Union[Submit, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., watch: _Optional[_Union[Watch, _Mapping]] = ..., get_job: _Optional[_Union[GetJob, _Mapping]] = ..., list_models: _Optional[_Union[ListModels, _Mapping]] = ..., get_server_status: _Optional[_Union[GetServerStatus, _Mapping]] = ..., predict: _Optional[_Union[Predict, _Mapping]] = ..., open_live: _Optional[_Union[OpenLive, _Mapping]] = ..., live_frame: _Optional[_Union[LiveFrame, _Mapping]] = ..., close_live: _Optional[_Union[CloseLive, _Mapping]] = ..., watch_live: _Optional[_Union[WatchLive, _Mapping]] = ..., connect_udp: _Optional[_Union[ConnectUdp, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., pong: _Optional[_Union[Pong, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., preview: _Optional[_Union[Preview, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., canceled: _Optional[_Union[Canceled, _Mapping]] = ..., cancel_requested: _Optional[_Union[CancelRequested, _Mapping]] = ..., job: _Optional[_Union[Job, _Mapping]] = ..., models: _Optional[_Union[Models, _Mapping]] = ..., server_status: _Optional[_Union[ServerStatus, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., output: _Optional[_Union[Output, _Mapping]] = ..., live_opened: _Optional[_Union[LiveOpened, _Mapping]] = ..., live_result: _Optional[_Union[LiveResult, _Mapping]] = ..., live_closed: _Optional[_Union[LiveClosed, _Mapping]] = ..., udp_address: _Optional[_Union[UdpAddress, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_version", "token", "client_name", "exclusive")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    token: str
    client_name: str
    exclusive: bool
    def __init__(self, protocol_version: _Optional[int] = ..., token: _Optional[str] = ..., client_name: _Optional[str] = ..., exclusive: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol_version", "server_version", "session_id", "owner", "limits")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    server_version: str
    session_id: str
    owner: str
    limits: Limits
    def __init__(self, protocol_version: _Optional[int] = ..., server_version: _Optional[str] = ..., session_id: _Optional[str] = ..., owner: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_frame_bytes", "max_chunk_bytes", "max_prompt_characters", "max_width", "max_height", "max_num_inference_steps", "max_num_images", "max_pending_jobs_per_owner", "max_signature_image_bytes", "max_init_image_bytes", "max_init_image_pixels", "idle_timeout_seconds")
    MAX_FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PROMPT_CHARACTERS_FIELD_NUMBER: _ClassVar[int]
    MAX_WIDTH_FIELD_NUMBER: _ClassVar[int]
    MAX_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_JOBS_PER_OWNER_FIELD_NUMBER: _ClassVar[int]
    MAX_SIGNATURE_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_INIT_IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_INIT_IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_frame_bytes: int
    max_chunk_bytes: int
    max_prompt_characters: int
    max_width: int
    max_height: int
    max_num_inference_steps: int
    max_num_images: int
    max_pending_jobs_per_owner: int
    max_signature_image_bytes: int
    max_init_image_bytes: int
    max_init_image_pixels: int
    idle_timeout_seconds: float
    def __init__(self, max_frame_bytes: _Optional[int] = ..., max_chunk_bytes: _Optional[int] = ..., max_prompt_characters: _Optional[int] = ..., max_width: _Optional[int] = ..., max_height: _Optional[int] = ..., max_num_inference_steps: _Optional[int] = ..., max_num_images: _Optional[int] = ..., max_pending_jobs_per_owner: _Optional[int] = ..., max_signature_image_bytes: _Optional[int] = ..., max_init_image_bytes: _Optional[int] = ..., max_init_image_pixels: _Optional[int] = ..., idle_timeout_seconds: _Optional[float] = ...) -> None: ...

class Ping(_message.Message):
    __slots__ = ("client_time_us",)
    CLIENT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    client_time_us: int
    def __init__(self, client_time_us: _Optional[int] = ...) -> None: ...

class Pong(_message.Message):
    __slots__ = ("client_time_us", "server_time_us")
    CLIENT_TIME_US_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_US_FIELD_NUMBER: _ClassVar[int]
    client_time_us: int
    server_time_us: int
    def __init__(self, client_time_us: _Optional[int] = ..., server_time_us: _Optional[int] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    message: str
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "field", "limit", "message", "retry_after_seconds")
    CODE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    code: ErrorCode
    field: str
    limit: str
    message: str
    retry_after_seconds: float
    def __init__(self, code: _Optional[_Union[ErrorCode, str]] = ..., field: _Optional[str] = ..., limit: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_seconds: _Optional[float] = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ("idempotency_key", "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed", "num_images", "adapters", "solver", "priority", "deadline_seconds", "signature", "init_image", "strength", "use_refiner", "refiner_strength", "progress", "preview_every_steps", "inline_pictures", "cancel_on_disconnect", "webhook", "traceparent")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    INIT_IMAGE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    USE_REFINER_FIELD_NUMBER: _ClassVar[int]
    REFINER_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_EVERY_STEPS_FIELD_NUMBER: _ClassVar[int]
    INLINE_PICTURES_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    adapters: _containers.RepeatedCompositeFieldContainer[AdapterUse]
    solver: str
    priority: int
    deadline_seconds: float
    signature: Signature
    init_image: bytes
    strength: float
    use_refiner: bool
    refiner_strength: float
    progress: bool
    preview_every_steps: int
    inline_pictures: bool
    cancel_on_disconnect: bool
    webhook: Webhook
    traceparent: str
    def __init__(self, idempotency_key: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seed: _Optional[int] = ..., num_images: _Optional[int] = ..., adapters: _Optional[_Iterable[_Union[AdapterUse, _Mapping]]] = ..., solver: _Optional[str] = ..., priority: _Optional[int] = ..., deadline_seconds: _Optional[float] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ..., init_image: _Optional[bytes] = ..., strength: _Optional[float] = ..., use_refiner: _Optional[bool] = ..., refiner_strength: _Optional[float] = ..., progress: _Optional[bool] = ..., preview_every_steps: _Optional[int] = ..., inline_pictures: _Optional[bool] = ..., cancel_on_disconnect: _Optional[bool] = ..., webhook: _Optional[_Union[Webhook, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Webhook(_message.Message):
    __slots__ = ("url", "events")
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[Webhook.Event]
        START: _ClassVar[Webhook.Event]
        PROGRESS: _ClassVar[Webhook.Event]
        COMPLETED: _ClassVar[Webhook.Event]
    EVENT_UNSPECIFIED: Webhook.Event
    START: Webhook.Event
    PROGRESS: Webhook.Event
    COMPLETED: Webhook.Event
    URL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    url: str
    events: _containers.RepeatedScalarFieldContainer[Webhook.Event]
    def __init__(self, url: _Optional[str] = ..., events: _Optional[_Iterable[_Union[Webhook.Event, str]]] = ...) -> None: ...

class AdapterUse(_message.Message):
    __slots__ = ("name", "scale")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    name: str
    scale: float
    def __init__(self, name: _Optional[str] = ..., scale: _Optional[float] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("text", "image", "position", "size", "opacity", "artist")
    class Position(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        POSITION_UNSPECIFIED: _ClassVar[Signature.Position]
        TOP_LEFT: _ClassVar[Signature.Position]
        TOP_CENTER: _ClassVar[Signature.Position]
        TOP_RIGHT: _ClassVar[Signature.Position]
        BOTTOM_LEFT: _ClassVar[Signature.Position]
        BOTTOM_CENTER: _ClassVar[Signature.Position]
        BOTTOM_RIGHT: _ClassVar[Signature.Position]
    POSITION_UNSPECIFIED: Signature.Position
    TOP_LEFT: Signature.Position
    TOP_CENTER: Signature.Position
    TOP_RIGHT: Signature.Position
    BOTTOM_LEFT: Signature.Position
    BOTTOM_CENTER: Signature.Position
    BOTTOM_RIGHT: Signature.Position
    class Size(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIZE_UNSPECIFIED: _ClassVar[Signature.Size]
        SMALL: _ClassVar[Signature.Size]
        MEDIUM: _ClassVar[Signature.Size]
        LARGE: _ClassVar[Signature.Size]
    SIZE_UNSPECIFIED: Signature.Size
    SMALL: Signature.Size
    MEDIUM: Signature.Size
    LARGE: Signature.Size
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    OPACITY_FIELD_NUMBER: _ClassVar[int]
    ARTIST_FIELD_NUMBER: _ClassVar[int]
    text: str
    image: bytes
    position: Signature.Position
    size: Signature.Size
    opacity: float
    artist: str
    def __init__(self, text: _Optional[str] = ..., image: _Optional[bytes] = ..., position: _Optional[_Union[Signature.Position, str]] = ..., size: _Optional[_Union[Signature.Size, str]] = ..., opacity: _Optional[float] = ..., artist: _Optional[str] = ...) -> None: ...

class Predict(_message.Message):
    __slots__ = ("idempotency_key", "model", "input", "priority", "deadline_seconds", "signature", "progress", "output", "cancel_on_disconnect", "webhook", "traceparent")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CANCEL_ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    model: str
    input: str
    priority: int
    deadline_seconds: float
    signature: Signature
    progress: bool
    output: bool
    cancel_on_disconnect: bool
    webhook: Webhook
    traceparent: str
    def __init__(self, idempotency_key: _Optional[str] = ..., model: _Optional[str] = ..., input: _Optional[str] = ..., priority: _Optional[int] = ..., deadline_seconds: _Optional[float] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ..., progress: _Optional[bool] = ..., output: _Optional[bool] = ..., cancel_on_disconnect: _Optional[bool] = ..., webhook: _Optional[_Union[Webhook, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("job_id", "event_number", "offset", "text")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    offset: int
    text: str
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ..., offset: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("job_id", "duplicate", "seed")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    duplicate: bool
    seed: int
    def __init__(self, job_id: _Optional[str] = ..., duplicate: _Optional[bool] = ..., seed: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("job_id", "event_number", "phase", "step", "total_steps", "percent", "eta_seconds")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    ETA_SECONDS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    phase: Phase
    step: int
    total_steps: int
    percent: float
    eta_seconds: float
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., step: _Optional[int] = ..., total_steps: _Optional[int] = ..., percent: _Optional[float] = ..., eta_seconds: _Optional[float] = ...) -> None: ...

class Preview(_message.Message):
    __slots__ = ("job_id", "event_number", "image_index", "step", "png")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PNG_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    image_index: int
    step: int
    png: bytes
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ..., image_index: _Optional[int] = ..., step: _Optional[int] = ..., png: _Optional[bytes] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("job_id", "image_index", "offset", "size", "data")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    image_index: int
    offset: int
    size: int
    data: bytes
    def __init__(self, job_id: _Optional[str] = ..., image_index: _Optional[int] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("job_id", "event_number", "artifacts", "warnings", "queued_seconds", "processing_seconds", "output", "figures")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    queued_seconds: float
    processing_seconds: float
    output: str
    figures: _containers.ScalarMap[str, float]
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., queued_seconds: _Optional[float] = ..., processing_seconds: _Optional[float] = ..., output: _Optional[str] = ..., figures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("image_index", "key", "url", "size", "sha256", "content_type", "width", "height", "seed")
    IMAGE_INDEX_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    image_index: int
    key: str
    url: str
    size: int
    sha256: str
    content_type: str
    width: int
    height: int
    seed: int
    def __init__(self, image_index: _Optional[int] = ..., key: _Optional[str] = ..., url: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[str] = ..., content_type: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("job_id", "event_number", "error")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    error: Error
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Canceled(_message.Message):
    __slots__ = ("job_id", "event_number")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    event_number: int
    def __init__(self, job_id: _Optional[str] = ..., event_number: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelRequested(_message.Message):
    __slots__ = ("job_id", "state")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: JobState
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ...) -> None: ...

class Watch(_message.Message):
    __slots__ = ("job_id", "from_event", "progress", "previews", "inline_pictures", "output")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_EVENT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    INLINE_PICTURES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    from_event: int
    progress: bool
    previews: bool
    inline_pictures: bool
    output: bool
    def __init__(self, job_id: _Optional[str] = ..., from_event: _Optional[int] = ..., progress: _Optional[bool] = ..., previews: _Optional[bool] = ..., inline_pictures: _Optional[bool] = ..., output: _Optional[bool] = ...) -> None: ...

class GetJob(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "state", "model", "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed", "num_images", "solver", "priority", "percent", "created_at_us", "started_at_us", "completed_at_us", "artifacts", "warnings", "error", "last_event", "adapters", "strength", "refiner_strength", "input", "output", "figures")
    class FiguresEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NUM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    SOLVER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_US_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_US_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    REFINER_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: JobState
    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    solver: str
    priority: int
    percent: float
    created_at_us: int
    started_at_us: int
    completed_at_us: int
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    error: Error
    last_event: int
    adapters: _containers.RepeatedCompositeFieldContainer[AdapterUse]
    strength: float
    refiner_strength: float
    input: str
    output: str
    figures: _containers.ScalarMap[str, float]
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., num_inference_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seed: _Optional[int] = ..., num_images: _Optional[int] = ..., solver: _Optional[str] = ..., priority: _Optional[int] = ..., percent: _Optional[float] = ..., created_at_us: _Optional[int] = ..., started_at_us: _Optional[int] = ..., completed_at_us: _Optional[int] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., last_event: _Optional[int] = ..., adapters: _Optional[_Iterable[_Union[AdapterUse, _Mapping]]] = ..., strength: _Optional[float] = ..., refiner_strength: _Optional[float] = ..., input: _Optional[str] = ..., output: _Optional[str] = ..., figures: _Optional[_Mapping[str, float]] = ...) -> None: ...

class OpenLive(_message.Message):
    __slots__ = ("model", "echo_input", "source", "quiet")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ECHO_INPUT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    QUIET_FIELD_NUMBER: _ClassVar[int]
    model: str
    echo_input: bool
    source: str
    quiet: bool
    def __init__(self, model: _Optional[str] = ..., echo_input: _Optional[bool] = ..., source: _Optional[str] = ..., quiet: _Optional[bool] = ...) -> None: ...

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

class WatchLive(_message.Message):
    __slots__ = ("live_id",)
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    def __init__(self, live_id: _Optional[str] = ...) -> None: ...

class LiveOpened(_message.Message):
    __slots__ = ("live_id", "model", "inputs", "height", "width", "outputs", "tick_hz", "next_tick_us")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TICK_HZ_FIELD_NUMBER: _ClassVar[int]
    NEXT_TICK_US_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    model: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    height: int
    width: int
    outputs: _containers.RepeatedScalarFieldContainer[str]
    tick_hz: float
    next_tick_us: int
    def __init__(self, live_id: _Optional[str] = ..., model: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., outputs: _Optional[_Iterable[str]] = ..., tick_hz: _Optional[float] = ..., next_tick_us: _Optional[int] = ...) -> None: ...

class LiveResult(_message.Message):
    __slots__ = ("live_id", "number", "captured_us", "elements", "tick_us", "input_image", "sequence", "dropped")
    class Element(_message.Message):
        __slots__ = ("index", "name", "value")
        INDEX_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        index: int
        name: str
        value: float
        def __init__(self, index: _Optional[int] = ..., name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    TICK_US_FIELD_NUMBER: _ClassVar[int]
    INPUT_IMAGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    number: int
    captured_us: int
    elements: _containers.RepeatedCompositeFieldContainer[LiveResult.Element]
    tick_us: int
    input_image: bytes
    sequence: int
    dropped: int
    def __init__(self, live_id: _Optional[str] = ..., number: _Optional[int] = ..., captured_us: _Optional[int] = ..., elements: _Optional[_Iterable[_Union[LiveResult.Element, _Mapping]]] = ..., tick_us: _Optional[int] = ..., input_image: _Optional[bytes] = ..., sequence: _Optional[int] = ..., dropped: _Optional[int] = ...) -> None: ...

class LiveClosed(_message.Message):
    __slots__ = ("live_id", "code", "message")
    LIVE_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    live_id: str
    code: ErrorCode
    message: str
    def __init__(self, live_id: _Optional[str] = ..., code: _Optional[_Union[ErrorCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class ConnectUdp(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UdpAddress(_message.Message):
    __slots__ = ("host", "port", "key_id", "key", "expires_seconds", "heartbeat_seconds")
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    host: str
    port: int
    key_id: int
    key: bytes
    expires_seconds: float
    heartbeat_seconds: float
    def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., key_id: _Optional[int] = ..., key: _Optional[bytes] = ..., expires_seconds: _Optional[float] = ..., heartbeat_seconds: _Optional[float] = ...) -> None: ...

class ListModels(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Models(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "family", "description", "state", "default_width", "default_height", "default_num_inference_steps", "default_guidance_scale", "size_multiple", "min_size", "solvers", "adapters", "problem", "model_type", "input_schema")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NUM_INFERENCE_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SIZE_MULTIPLE_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    SOLVERS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    INPUT_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    name: str
    family: str
    description: str
    state: ModelState
    default_width: int
    default_height: int
    default_num_inference_steps: int
    default_guidance_scale: float
    size_multiple: int
    min_size: int
    solvers: _containers.RepeatedScalarFieldContainer[str]
    adapters: _containers.RepeatedScalarFieldContainer[str]
    problem: str
    model_type: str
    input_schema: str
    def __init__(self, name: _Optional[str] = ..., family: _Optional[str] = ..., description: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., default_width: _Optional[int] = ..., default_height: _Optional[int] = ..., default_num_inference_steps: _Optional[int] = ..., default_guidance_scale: _Optional[float] = ..., size_multiple: _Optional[int] = ..., min_size: _Optional[int] = ..., solvers: _Optional[_Iterable[str]] = ..., adapters: _Optional[_Iterable[str]] = ..., problem: _Optional[str] = ..., model_type: _Optional[str] = ..., input_schema: _Optional[str] = ...) -> None: ...

class GetServerStatus(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerStatus(_message.Message):
    __slots__ = ("state", "server_version", "uptime_seconds", "connections", "jobs_waiting", "jobs_running", "jobs_succeeded", "jobs_failed", "jobs_canceled", "batch_size", "steps", "step_seconds", "reactor_lag_p99_ms", "device", "problem", "queue_wait_seconds", "join_wait_seconds", "devices", "outbox", "settings")
    STATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    JOBS_WAITING_FIELD_NUMBER: _ClassVar[int]
    JOBS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    JOBS_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    JOBS_FAILED_FIELD_NUMBER: _ClassVar[int]
    JOBS_CANCELED_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REACTOR_LAG_P99_MS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    QUEUE_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOIN_WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    OUTBOX_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    state: ServerState
    server_version: str
    uptime_seconds: float
    connections: int
    jobs_waiting: int
    jobs_running: int
    jobs_succeeded: int
    jobs_failed: int
    jobs_canceled: int
    batch_size: int
    steps: int
    step_seconds: float
    reactor_lag_p99_ms: float
    device: str
    problem: str
    queue_wait_seconds: float
    join_wait_seconds: float
    devices: _containers.RepeatedCompositeFieldContainer[DeviceStatus]
    outbox: OutboxStatus
    settings: str
    def __init__(self, state: _Optional[_Union[ServerState, str]] = ..., server_version: _Optional[str] = ..., uptime_seconds: _Optional[float] = ..., connections: _Optional[int] = ..., jobs_waiting: _Optional[int] = ..., jobs_running: _Optional[int] = ..., jobs_succeeded: _Optional[int] = ..., jobs_failed: _Optional[int] = ..., jobs_canceled: _Optional[int] = ..., batch_size: _Optional[int] = ..., steps: _Optional[int] = ..., step_seconds: _Optional[float] = ..., reactor_lag_p99_ms: _Optional[float] = ..., device: _Optional[str] = ..., problem: _Optional[str] = ..., queue_wait_seconds: _Optional[float] = ..., join_wait_seconds: _Optional[float] = ..., devices: _Optional[_Iterable[_Union[DeviceStatus, _Mapping]]] = ..., outbox: _Optional[_Union[OutboxStatus, _Mapping]] = ..., settings: _Optional[str] = ...) -> None: ...

class OutboxStatus(_message.Message):
    __slots__ = ("webhooks_waiting", "webhooks_unknown", "webhooks_failed", "webhooks_oldest_seconds", "dispatches_waiting", "dispatches_oldest_seconds")
    WEBHOOKS_WAITING_FIELD_NUMBER: _ClassVar[int]
    WEBHOOKS_UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    WEBHOOKS_FAILED_FIELD_NUMBER: _ClassVar[int]
    WEBHOOKS_OLDEST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DISPATCHES_WAITING_FIELD_NUMBER: _ClassVar[int]
    DISPATCHES_OLDEST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    webhooks_waiting: int
    webhooks_unknown: int
    webhooks_failed: int
    webhooks_oldest_seconds: float
    dispatches_waiting: int
    dispatches_oldest_seconds: float
    def __init__(self, webhooks_waiting: _Optional[int] = ..., webhooks_unknown: _Optional[int] = ..., webhooks_failed: _Optional[int] = ..., webhooks_oldest_seconds: _Optional[float] = ..., dispatches_waiting: _Optional[int] = ..., dispatches_oldest_seconds: _Optional[float] = ...) -> None: ...

class DeviceStatus(_message.Message):
    __slots__ = ("device", "images_running", "images_waiting", "batch_size", "batch_rows", "step_seconds", "models", "memory", "gpu_utilisation", "adapter_hits", "adapter_loads", "lost", "images_parked")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_RUNNING_FIELD_NUMBER: _ClassVar[int]
    IMAGES_WAITING_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_UTILISATION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_HITS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_LOADS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    IMAGES_PARKED_FIELD_NUMBER: _ClassVar[int]
    device: str
    images_running: int
    images_waiting: int
    batch_size: int
    batch_rows: int
    step_seconds: float
    models: _containers.RepeatedScalarFieldContainer[str]
    memory: MemoryUse
    gpu_utilisation: float
    adapter_hits: int
    adapter_loads: int
    lost: str
    images_parked: int
    def __init__(self, device: _Optional[str] = ..., images_running: _Optional[int] = ..., images_waiting: _Optional[int] = ..., batch_size: _Optional[int] = ..., batch_rows: _Optional[int] = ..., step_seconds: _Optional[float] = ..., models: _Optional[_Iterable[str]] = ..., memory: _Optional[_Union[MemoryUse, _Mapping]] = ..., gpu_utilisation: _Optional[float] = ..., adapter_hits: _Optional[int] = ..., adapter_loads: _Optional[int] = ..., lost: _Optional[str] = ..., images_parked: _Optional[int] = ...) -> None: ...

class MemoryUse(_message.Message):
    __slots__ = ("limit", "models", "adapters", "latents", "activations")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    limit: int
    models: int
    adapters: int
    latents: int
    activations: int
    def __init__(self, limit: _Optional[int] = ..., models: _Optional[int] = ..., adapters: _Optional[int] = ..., latents: _Optional[int] = ..., activations: _Optional[int] = ...) -> None: ...
