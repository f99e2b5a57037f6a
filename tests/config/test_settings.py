"""Every setting: its names, its bounds, and the message when it does not fit."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from config import Settings, SettingsError, load_settings
from config.settings import CLIENT_NAMES, DEMO_MODEL, PREFIX, TEXT_DEMO_MODEL, environment_names

TOKEN, OTHER = "s3cret-ada-0123456789", "s3cret-bob-0123456789"
LONG = "s3cret-of-thirty-two-characters!"
SECRET = "whsec_czNjcmV0LW9mLXRoaXJ0eS10d28tY2hhcmFjdGVycyE="


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no .env, comes into a test."""
    for name in {name for field in Settings.model_fields for name in environment_names(field)} | set(CLIENT_NAMES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def refused(**environment: str) -> str:
    """The message with which these variables stop the start."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(SettingsError) as caught:
            load_settings()
    return str(caught.value)


def test_the_defaults_alone_start_a_server() -> None:
    """On loopback, with the embedded model, and no tokens."""
    settings = load_settings()
    assert settings.tcp_listen == "tcp:9000:interface=127.0.0.1"
    assert settings.tokens == {}
    assert settings.model_sources() == {"demo": str(DEMO_MODEL), "text-demo": str(TEXT_DEMO_MODEL)}
    assert (DEMO_MODEL / "model_index.json").is_file()


SAMPLES: dict[str, tuple[str, Any]] = {
    "profile": ("predictions", "predictions"),
    "live_sources": ("sources.toml", "sources.toml"),
    "stream_ready": ("true", True),
    "tcp_listen": ("unix:/tmp/x", "unix:/tmp/x"),
    "http_listen": ("ssl:8001:privateKey=k.pem", "ssl:8001:privateKey=k.pem"),
    "http_host": ("10.0.0.1", "10.0.0.1"),
    "http_base_url": ("https://paint.test", "https://paint.test"),
    "http_anonymous_owner": ("guest", "guest"),
    "cors_origins": ("https://a.test, http://localhost:3000/", ("https://a.test", "http://localhost:3000")),
    "http_max_body_bytes": ("1048576", 1 << 20),
    "http_max_bodies_bytes": ("4194304", 4194304),
    "http_max_header_bytes": ("4096", 4096),
    "tokens": (f"ada:{TOKEN}", {"ada": SecretStr(TOKEN)}),
    "cached_price": ("0.25", 0.25),
    "rate_requests": ("5/second;1000/day", "5/second;1000/day"),
    "rate_cost": ("2000/hour", "2000/hour"),
    "rate_login": ("3/minute", "3/minute"),
    "limits_url": ("redis://redis.test/1", SecretStr("redis://redis.test/1")),
    "redis_host": ("redis.test", "redis.test"),
    "registration": ("open", "open"),
    "settings_dir": ("/srv/settings", Path("/srv/settings")),
    "settings_url": ("https://settings.test", "https://settings.test"),
    "settings_key": (TOKEN, SecretStr(TOKEN)),
    "settings_group": ("gpu", "gpu"),
    "settings_instance": ("gpu-1.a", "gpu-1.a"),
    "require_account": ("true", True),
    "secret_key": (LONG, SecretStr(LONG)),
    "previous_secret_keys": (f"{LONG}, {LONG}x", (SecretStr(LONG), SecretStr(f"{LONG}x"))),
    "token_issuer": ("shop", "shop"),
    "password_threads": ("3", 3),
    "models": ("a=/x,b=org/y", {"a": "/x", "b": "org/y"}),
    "custom_models": ("a=b.c:D,org/e=f:G@/x=y", {"a": "b.c:D", "org/e": "f:G@/x=y"}),
    "custom_memory_limit": ("6GiB", 6 << 30),
    "custom_max_output_bytes": ("4096", 4096),
    "custom_environment": ("HF_HOME, CUDA_VISIBLE_DEVICES", ("HF_HOME", "CUDA_VISIBLE_DEVICES")),
    "allow_plaintext": ("true", True),
    "retry_delays": ("1, 2.5", (1.0, 2.5)),
    "device": ("cuda:1", "cuda:1"),
    "devices": ("cuda:0, cuda:1", ("cuda:0", "cuda:1")),
    "memory_limit": ("6GiB", 6 << 30),
    "memory_reserve": ("500MB", 500_000_000),
    "weights": ("int8", "int8"),
    "attention": ("sliced", "sliced"),
    "vae_slicing": ("true", True),
    "vae_tiling": ("true", True),
    "cpu_offload": ("layers", "layers"),
    "dtype": ("bfloat16", "bfloat16"),
    "adapters_dir": ("/srv/adapters", Path("/srv/adapters")),
    "max_adapter_bytes": ("2048", 2048),
    "database_url": ("sqlite:///x.db", SecretStr("sqlite:///x.db")),
    "database_timeout": ("2.5", 2.5),
    "role": ("all", "all"),
    "rabbitmq_host": ("a.test,b.test:5673", "a.test,b.test:5673"),
    "rabbitmq_user": ("shop", "shop"),
    "rabbitmq_pass": ("a-password", SecretStr("a-password")),
    "rabbitmq_vhost": ("shop", "shop"),
    "rabbitmq_tls": ("true", True),
    "rabbitmq_ca_file": ("/etc/ca.pem", Path("/etc/ca.pem")),
    "rabbitmq_queue": ("pictures", "pictures"),
    "rabbitmq_owner": ("shop", "shop"),
    "max_message_bytes": ("4096", 4096),
    "database_threads": ("3", 3),
    "data_dir": ("/srv/data", Path("/srv/data")),
    "udp": ("false", False),
    "udp_host": ("::1", "::1"),
    "udp_public_host": ("paint.test", "paint.test"),
    "udp_group": ("239.192.7.1:9100", "239.192.7.1:9100"),
    "udp_buffer_bytes": ("8192", 8192),
    "public_base_url": ("https://pictures.test/x", "https://pictures.test/x"),
    "model_id": ("org/model", "org/model"),
    "log_level": ("DEBUG", "DEBUG"),
    "log_format": ("json", "json"),
    "max_frame_bytes": ("2097152", 2097152),
    "chunk_bytes": ("2048", 2048),
    "handshake_frame_bytes": ("512", 512),
    "max_signature_image_bytes": ("2048", 2048),
    "max_init_image_bytes": ("100000", 100_000),
    "max_init_image_pixels": ("1000000", 1_000_000),
    "parking": ("off", False),
    "max_pending_signature_image_bytes": ("500000", 500_000),
    "max_pending_init_image_bytes": ("5000000", 5_000_000),
    "use_refiner": ("false", False),
    "default_refiner_strength": ("0.3", 0.3),
    "http_cancel_on_disconnect": ("true", True),
    "default_solver": ("euler", "euler"),
    "use_karras": ("false", False),
    "adapter_hosts": ("files.test, .hf.co", ("files.test", ".hf.co")),
    "adapter_keys": ("models/, loras/mine/", ("models/", "loras/mine/")),
    "model_cache_dir": ("/srv/models", Path("/srv/models")),
    "model_roots": ("/srv/models, /mnt/models", (Path("/srv/models"), Path("/mnt/models"))),
    "model_keys": ("models/, theirs/fox/", ("models/", "theirs/fox/")),
    "model_hub": ("true", True),
    "max_model_bytes": ("7GB", 7_000_000_000),
    "enable_gpu": ("false", False),
    "adapter_cache_dir": ("/srv/cache", Path("/srv/cache")),
    "adapter_cache_bytes": ("2GB", 2_000_000_000),
    "storage_url": ("file:///srv/pictures", "file:///srv/pictures"),
    "storage_type": ("local", "local"),
    "aws_storage_bucket_name": ("my.pictures", "my.pictures"),
    "aws_s3_region_name": ("eu-west-3", "eu-west-3"),
    "aws_access_key_id": (TOKEN, SecretStr(TOKEN)),
    "aws_secret_access_key": (TOKEN, SecretStr(TOKEN)),
    "aws_session_token": (TOKEN, SecretStr(TOKEN)),
    "aws_endpoint_url": ("http://minio:9000", "http://minio:9000"),
    "aws_s3_addressing_style": ("path", "path"),
    "google_application_credentials": ("/etc/key.json", Path("/etc/key.json")),
    "azure_storage_account": ("mine", "mine"),
    "azure_storage_key": (TOKEN, SecretStr(TOKEN)),
    "azure_storage_sas_token": (TOKEN, SecretStr(TOKEN)),
    "picture_urls": ("none", "none"),
    "backend_api_url": ("http://backend:3000", "http://backend:3000"),
    "internal_api_token": (LONG, SecretStr(LONG)),
    "webhook_secret": (SECRET, SecretStr(SECRET)),
    "otlp_endpoint": ("http://collector:4318", "http://collector:4318"),
    "otlp_headers": (f"authorization={TOKEN}", SecretStr(f"authorization={TOKEN}")),
    "process": ("gpu-1a", "gpu-1a"),
    "sockets": ("tcp=3,http=4", "tcp=3,http=4"),
    "stream_models_dir": ("/srv/stream", Path("/srv/stream")),
    "stream_spare": ("false", False),
    "metrics_listen": ("tcp:9100", "tcp:9100"),
    "metrics_token": (TOKEN, SecretStr(TOKEN)),
    "outgoing_networks": ("10.0.0.0/8, fd00::/8", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
}
NAMES = [(field, name) for field in Settings.model_fields for name in environment_names(field)]


@pytest.mark.parametrize(("field", "name"), NAMES)
def test_every_name_sets_its_field(monkeypatch: pytest.MonkeyPatch, field: str, name: str) -> None:
    """Ours, and each that existing systems use."""
    text, value = SAMPLES.get(field, ("128", 128))
    if SAMPLES.get(field) is None and Settings.model_fields[field].default == 128:
        text, value = "64", 64
    if field in ("finishing_threads", "default_guidance_scale"):
        text, value = "3", 3
    monkeypatch.setenv(name, text)
    assert getattr(load_settings(), field) == value


def test_the_names_of_existing_systems_are_all_taken() -> None:
    """Those of the contracts that this server has a setting for."""
    known = {name for _, name in NAMES}
    assert known >= {
        "LOG_LEVEL", "MAX_CONCURRENT_GENERATIONS", "MODEL_ID", "DEVICE", "DTYPE", "DEFAULT_WIDTH", "DEFAULT_HEIGHT",
        "DEFAULT_STEPS", "DEFAULT_GUIDANCE", "MAX_WIDTH", "MAX_HEIGHT", "MAX_STEPS", "PUBLIC_BASE_URL",
        "DATABASE_URL", "SCHEDULER_TYPE", "USE_KARRAS", "MAX_CONCURRENCY", "USE_REFINER", "DEFAULT_REFINER_STRENGTH",
        "GENERATION_TIMEOUT",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_STORAGE_BUCKET_NAME", "AWS_S3_REGION_NAME",
        "STORAGE_TYPE", "BACKEND_API_URL", "INTERNAL_API_TOKEN", "API_HOST", "API_PORT", "CORS_ORIGINS",
    }  # fmt: skip


def test_every_setting_has_a_name_of_ours_a_default_and_a_reason() -> None:
    """The first name is ATELIER_ and the field's."""
    for field, info in Settings.model_fields.items():
        assert environment_names(field)[0] == PREFIX + field.upper()
        assert not info.is_required()
        assert info.description
        assert len(info.description) > 10


@pytest.mark.parametrize("field", [field for field in Settings.model_fields if len(environment_names(field)) > 1])
def test_where_both_names_are_set_ours_wins(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """And an empty one counts as not set."""
    ours, other, *_ = environment_names(field)
    text, value = SAMPLES.get(field, ("128", 128))
    if field == "default_guidance_scale":
        text, value = "3", 3
    shared = sum(other in environment_names(each) for each in Settings.model_fields) > 1
    monkeypatch.setenv(other, "9" if shared else "no value at all")  # it has to fit the other setting that it sets
    monkeypatch.setenv(ours, text)
    assert getattr(load_settings(), field) == value
    monkeypatch.setenv(other, text)
    monkeypatch.setenv(ours, "")
    assert getattr(load_settings(), field) == value


def test_a_dot_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Comments and other programs' names in it are left alone."""
    (tmp_path / ".env").write_text(
        "# mine\nATELIER_MAX_BATCH=3\nMAX_STEPS=60\nOTHER_PROGRAM=x\nATELIER_LOG_FORMAT=json\n"
    )
    monkeypatch.setenv("ATELIER_LOG_FORMAT", "console")
    settings = load_settings()
    assert (settings.max_batch, settings.max_num_inference_steps, settings.log_format) == (3, 60, "console")


def test_an_unknown_name_of_ours_stops_the_start(tmp_path: Path) -> None:
    """Each is named, wherever it stands: a typing error never passes for a default."""
    (tmp_path / ".env").write_text("ATELIER_MAX_BACH=3\n")
    text = refused(ATELIER_TCP_LISTN="tcp:1")
    assert "ATELIER_MAX_BACH" in text
    assert "ATELIER_TCP_LISTN" in text


def test_the_command_line_s_own_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that talks to one server may start another."""
    for name in CLIENT_NAMES:
        monkeypatch.setenv(name, "x")
    load_settings()


def test_a_dot_env_that_is_no_text_stops_the_start(tmp_path: Path) -> None:
    """With a message, not a traceback."""
    (tmp_path / ".env").write_bytes(b"ATELIER_MAX_BATCH=\xff\xfe\n")
    assert ".env" in refused()


BAD = [
    ("ATELIER_TCP_LISTEN", "9000"),
    ("ATELIER_TCP_LISTEN", "http:9000"),
    ("ATELIER_HTTP_LISTEN", "8001"),
    ("ATELIER_HTTP_LISTEN", "unix:/tmp/x"),
    ("API_PORT", "70000"),
    ("API_HOST", "http://here"),
    ("ATELIER_HTTP_BASE_URL", "paint.test"),
    ("ATELIER_HTTP_ANONYMOUS_OWNER", "any body"),
    ("CORS_ORIGINS", "paint.test"),
    ("CORS_ORIGINS", "https://a.test/path"),
    ("CORS_ORIGINS", '["https://a.test'),
    ("ATELIER_HTTP_KEEP_ALIVE", "0"),
    ("ATELIER_HTTP_MAX_BODIES_BYTES", "1023"),
    ("ATELIER_ALLOW_PLAINTEXT", "perhaps"),
    ("ATELIER_HANDSHAKE_FRAME_BYTES", "255"),
    ("ATELIER_MAX_FRAME_BYTES", "65535"),
    ("ATELIER_CHUNK_BYTES", "262145"),
    ("ATELIER_HANDSHAKE_TIMEOUT", "0"),
    ("ATELIER_FRAME_TIMEOUT", "nan"),
    ("ATELIER_IDLE_TIMEOUT", "-1"),
    ("ATELIER_MAX_CONNECTIONS", "0"),
    ("ATELIER_MAX_PENDING_JOBS", "1.5"),
    ("MAX_WIDTH", "63"),
    ("ATELIER_MAX_HEIGHT", "10000"),
    ("MAX_STEPS", "0"),
    ("DEFAULT_WIDTH", "100"),
    ("ATELIER_DEFAULT_HEIGHT", "56"),
    ("DEFAULT_STEPS", "zero"),
    ("DEFAULT_GUIDANCE", "nan"),
    ("DEFAULT_GUIDANCE", "51"),
    ("SCHEDULER_TYPE", "heun"),
    ("ATELIER_DEFAULT_SOLVER", "dpmpp"),
    ("USE_KARRAS", "perhaps"),
    ("DEVICE", "tpu"),
    ("ATELIER_DEVICE", "cuda:x"),
    ("DTYPE", "int8"),
    ("MAX_CONCURRENT_GENERATIONS", "0"),
    ("PUBLIC_BASE_URL", "ftp://x"),
    ("ATELIER_DRAIN_TIMEOUT", "-1"),
    ("LOG_LEVEL", "LOUD"),
    ("ATELIER_LOG_FORMAT", "xml"),
    ("ATELIER_MODELS", "just-a-path"),
    ("ATELIER_MODELS", "a=x,a=y"),
    ("ATELIER_MODELS", "a b=x"),
    ("ATELIER_CUSTOM_MODELS", "just-a-path"),
    ("ATELIER_CUSTOM_MODELS", "a=b:C,a=d:E"),
    ("ATELIER_CUSTOM_MODELS", "a b=c:D"),
    ("ATELIER_CUSTOM_PREDICT_TIMEOUT", "0"),
    ("ATELIER_CUSTOM_ENVIRONMENT", "HF-HOME"),
    ("ATELIER_TOKENS", "ada"),
    ("ATELIER_ADAPTER_HOSTS", "https://files.test"),
    ("ATELIER_ADAPTER_HOSTS", "*.files.test"),
    ("ATELIER_ADAPTER_KEYS", "models"),
    ("ATELIER_ADAPTER_KEYS", "/models/"),
    ("ATELIER_ADAPTER_CACHE_BYTES", "1KB"),
    ("ATELIER_STORAGE_URL", "ftp://pictures"),
    ("STORAGE_TYPE", "s4"),
    ("AWS_STORAGE_BUCKET_NAME", "my/pictures"),
    ("AWS_S3_REGION_NAME", "eu west"),
    ("AWS_ENDPOINT_URL", "minio:9000"),
    ("AWS_S3_ENDPOINT_URL", "http://me:secret@minio:9000"),
    ("ATELIER_SIGNED_URL_SECONDS", "604801"),
    ("ATELIER_OUTGOING_NETWORKS", "everywhere"),
    ("BACKEND_API_URL", "backend:3000"),
    ("BACKEND_API_URL", "ftp://backend"),
    ("BACKEND_API_URL", "http://"),
    ("BACKEND_API_URL", "http://backend:x"),
    ("BACKEND_API_URL", "http://me:you@backend"),
    ("BACKEND_API_URL", "http://backend/?a=b"),
    ("BACKEND_API_URL", "http://backend/#a"),
    ("BACKEND_API_URL", "http://backénd"),
    ("INTERNAL_API_TOKEN", LONG[1:]),
    ("ATELIER_INTERNAL_API_TOKEN", f"{LONG}é"),
    ("INTERNAL_API_TOKEN", f"{LONG} {LONG}"),
    ("ATELIER_WEBHOOK_SECRET", SECRET.removeprefix("whsec_")),
    ("ATELIER_WEBHOOK_SECRET", "whsec_c2hvcnQ="),
    ("ATELIER_WEBHOOK_SECRET", "whsec_no base64"),
    ("ATELIER_OUTGOING_NETWORKS", "10.0.0.1/8"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_names_its_variable_as_written(name: str, value: str) -> None:
    """First in the message, whichever of its names was used, in the environment or in .env."""
    assert refused(**{name: value}).startswith(f"{name}: ")
    Path(".env").write_text(f"{name}={value}\n")
    assert refused().startswith(f"{name}: ")


def test_an_empty_name_beside_a_bad_one_is_not_blamed() -> None:
    """The message names the one that holds the value."""
    assert refused(ATELIER_MAX_WIDTH="", MAX_WIDTH="63").startswith("MAX_WIDTH: ")


def test_all_bad_values_are_told_at_once() -> None:
    """A line each."""
    text = refused(MAX_WIDTH="1", ATELIER_MAX_BATCH="0")
    assert {line.partition(":")[0] for line in text.splitlines()} == {"MAX_WIDTH", "ATELIER_MAX_BATCH"}


def test_chunks_must_fit_frames() -> None:
    """Two settings that contradict each other are both named."""
    text = refused(ATELIER_MAX_FRAME_BYTES="65536", ATELIER_CHUNK_BYTES="65536")
    assert "ATELIER_CHUNK_BYTES" in text
    assert "ATELIER_MAX_FRAME_BYTES" in text


def test_an_init_image_of_the_largest_size_must_fit() -> None:
    """Or a request within all limits would be told to try again, for ever."""
    text = refused(ATELIER_MAX_PENDING_SIGNATURE_IMAGE_BYTES="2000", ATELIER_MAX_SIGNATURE_IMAGE_BYTES="2001")
    assert "SIGNATURE_IMAGE_BYTES must be at least ATELIER_MAX_SIGNATURE_IMAGE_BYTES" in text
    text = refused(ATELIER_MAX_PENDING_INIT_IMAGE_BYTES="1000000", MAX_WIDTH="1024", MAX_HEIGHT="512")
    assert "ATELIER_MAX_PENDING_INIT_IMAGE_BYTES must hold an image of MAX_WIDTH × MAX_HEIGHT, 1572864 bytes" in text


def test_all_bodies_together_must_hold_one() -> None:
    """Or the largest would be told to come again, for ever."""
    text = refused(ATELIER_HTTP_MAX_BODIES_BYTES="2097151")
    assert "ATELIER_HTTP_MAX_BODIES_BYTES must be at least ATELIER_HTTP_MAX_BODY_BYTES" in text


def test_a_body_must_hold_the_largest_init_image() -> None:
    """In base64, with a prompt beside it: the one limit would else be refused by the other. Not where nobody asks by HTTP."""
    given = {"ATELIER_MAX_INIT_IMAGE_BYTES": "900000"}
    text = refused(**given, ATELIER_HTTP_MAX_BODY_BYTES="1204095")
    assert "ATELIER_HTTP_MAX_BODY_BYTES must be at least 1204096: ATELIER_MAX_INIT_IMAGE_BYTES in base64" in text
    load_settings(max_init_image_bytes=900_000, http_max_body_bytes=1_204_096)
    load_settings(max_init_image_bytes=900_000, http_max_body_bytes=4096, http_listen="off")


def test_tokens_are_secrets() -> None:
    """Neither repr, str, a dump in JSON nor a traceback of the settings shows one."""
    settings = load_settings(tokens=f"ada:{TOKEN}, bob:{OTHER}")
    shown = repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.model_dump())
    assert TOKEN not in shown
    assert OTHER not in shown
    assert settings.tokens["bob"].get_secret_value() == OTHER


def test_what_others_know_us_by_is_secret() -> None:
    """Neither the settings nor a message about them shows it."""
    settings = load_settings(internal_api_token=LONG, webhook_secret=SECRET)
    shown = repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.model_dump())
    shown += refused(INTERNAL_API_TOKEN=LONG[:-1], ATELIER_WEBHOOK_SECRET=SECRET[:-8])
    assert LONG[:-1] not in shown
    assert SECRET[6:-8] not in shown


@pytest.mark.parametrize(
    "value",
    [TOKEN, f"{TOKEN}:ada", f"ada:{TOKEN},{OTHER}", f"ada {TOKEN}", f"a/b:{TOKEN}", f"ada:{TOKEN},ada:{OTHER}",
     f"ada:{TOKEN},bob:{TOKEN}", f":{TOKEN}", "ada:s3cret-15chars-", f"{TOKEN}:ada,{OTHER}:bob"],
)  # fmt: skip
def test_no_message_shows_a_token(value: str) -> None:
    """Whatever is wrong with the list, also where owner and token were swapped; the entry is told by its number."""
    text = refused(ATELIER_TOKENS=value)
    assert text.startswith("ATELIER_TOKENS: ")
    assert "s3cret" not in text
    assert "entry" in text


@pytest.mark.parametrize(
    ("value", "says"),
    [("cuda:0,cuda:0", "cuda:0 stands twice"), ("cuda", "neither cpu nor cuda:NUMBER"), ("cpu,tpu:0", "'tpu:0'")],
)
def test_devices_that_make_no_sense_are_refused(value: str, says: str) -> None:
    """By their names."""
    text = refused(ATELIER_DEVICES=value)
    assert text.startswith("ATELIER_DEVICES: ")
    assert says in text


def test_one_device_or_several() -> None:
    """DEVICES wins over DEVICE; the same CPU may stand twice."""
    assert load_settings().engine_devices() == ("auto",)
    assert load_settings(device="cuda:1").engine_devices() == ("cuda:1",)
    assert load_settings(device="cuda:1", devices="cpu,cpu").engine_devices() == ("cpu", "cpu")


def test_a_bucket_s_name_alone_chooses_it(tmp_path: Path) -> None:
    """As a backend's .env has it; STORAGE_TYPE=local keeps pictures here all the same, and a URL wins over both."""
    folder = (tmp_path / "data" / "artifacts").as_uri()
    assert load_settings().storage_place() == folder
    assert load_settings(storage_type="local").storage_place() == folder
    assert load_settings(aws_storage_bucket_name="mine").storage_place() == "s3://mine"
    assert load_settings(aws_storage_bucket_name="mine", storage_type="s3").storage_place() == "s3://mine"
    assert load_settings(aws_storage_bucket_name="mine", storage_type="local").storage_place() == folder
    assert load_settings(aws_storage_bucket_name="mine", storage_url="gs://other").storage_place() == "gs://other"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"STORAGE_TYPE": "s3"}, "AWS_STORAGE_BUCKET_NAME"),
        ({"STORAGE_TYPE": "local", "STORAGE_URL": "s3://mine"}, "two places"),
        ({"STORAGE_URL": "az://mine"}, "AZURE_STORAGE_ACCOUNT"),
    ],
)
def test_a_storage_that_is_not_named_whole_is_refused(settings: dict[str, str], says: str) -> None:
    """With the name of what is missing."""
    assert says in refused(**settings)


def test_credentials_are_secrets() -> None:
    """Of every storage; the session's token, too."""
    names = (
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "azure_storage_key",
        "azure_storage_sas_token",
    )
    settings = load_settings(**dict.fromkeys(names, TOKEN))
    assert TOKEN not in repr(settings) + str(settings) + settings.model_dump_json() + repr(settings.model_dump())


def test_settings_are_frozen() -> None:
    """Nobody changes them after the start."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings().max_batch = 3


def test_the_first_model_is_the_default() -> None:
    """MODEL_ID before all of ATELIER_MODELS, which keep their order."""
    assert list(load_settings(models="b=/b,a=/a").model_sources()) == ["b", "a"]
    assert list(load_settings(models="b=/b,a=/a", model_id="org/x").model_sources()) == ["org/x", "b", "a"]


def test_names_are_taken_as_they_stand() -> None:
    """A variable of another program that differs in case is not ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("device", "toaster")
        patch.setenv("Max_Width", "1")
        load_settings()
    assert "device" not in os.environ


def test_an_sdxl_server_s_environment_works_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of it, with the values that it is shipped with."""
    environment = {
        "MODEL_ID": "stabilityai/stable-diffusion-xl-base-1.0", "DEVICE": "cuda", "DTYPE": "float16", "DEFAULT_WIDTH": "1024",
        "DEFAULT_HEIGHT": "1024", "DEFAULT_STEPS": "25", "DEFAULT_GUIDANCE": "7.0", "MAX_WIDTH": "1280", "MAX_HEIGHT": "1280",
        "MAX_STEPS": "50", "MAX_CONCURRENCY": "1", "USE_REFINER": "false", "DEFAULT_REFINER_STRENGTH": "0.3",
        "SCHEDULER_TYPE": "dpm++", "USE_KARRAS": "true", "GENERATION_TIMEOUT": "300",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.model_sources() == dict.fromkeys([environment["MODEL_ID"]], environment["MODEL_ID"])
    assert (settings.engine_devices(), settings.dtype) == (("cuda",), "float16")
    assert (settings.default_width, settings.default_height) == (1024, 1024)
    assert (settings.default_num_inference_steps, settings.default_guidance_scale) == (25, 7.0)
    assert (settings.max_width, settings.max_height, settings.max_num_inference_steps) == (1280, 1280, 50)
    assert settings.max_batch == 1
    assert (settings.use_refiner, settings.default_refiner_strength) == (False, 0.3)
    assert settings.solver() == "dpmpp_2m_karras"
    assert settings.generation_timeout == 300.0


@pytest.mark.parametrize("name", ["SECRET_KEY", "ATELIER_SECRET_KEY", "ATELIER_PREVIOUS_SECRET_KEYS"])
def test_a_secret_that_could_be_guessed_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever has it can be anybody; the message does not show it."""
    monkeypatch.setenv(name, "your-secret-key")
    with pytest.raises(SettingsError, match=rf"^{name}: must have 32 characters or more") as caught:
        load_settings()
    assert "your-secret-key" not in str(caught.value)
