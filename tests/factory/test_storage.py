"""Settings → where pictures are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config import SettingsError, load_settings
from factory.storage import Storage
from server.pools import InlinePool
from tests.s3 import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

KEY = "jobs/a b/0.png"
KEYS = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """obstore reads the machine's environment too; a test has none of it."""
    for name in (
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_SESSION_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def storage(**settings: Any) -> Storage:
    """What these settings give."""
    return Storage(load_settings(**settings), InlinePool())


async def tried(made: Storage) -> list[dict[str, Any]]:
    """What the log says when it is tried."""
    with capture_logs() as logged:
        made.begin()
        assert made._trial is not None
        await made._trial
    return [dict(line) for line in logged]


async def test_pictures_are_kept_in_the_data_folder_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    """And a file:// URL says it; the trial leaves nothing there."""
    for made, folder in (
        (storage(data_dir=tmp_path / "data"), tmp_path / "data" / "artifacts"),
        (storage(storage_url=(tmp_path / "else where").as_uri()), tmp_path / "else where"),
    ):
        assert [line["event"] for line in await tried(made)] == ["storage.ready"]
        assert list((folder / "jobs").iterdir()) == []
        await made.artifacts.put(KEY, b"png", "image/png", "")
        assert (folder / KEY).read_bytes() == b"png"


@pytest.fixture
def env_file(rclone_s3: S3Server, tmp_path: Path) -> None:
    """A backend's own."""
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in rclone_s3.settings().items()))


@pytest.mark.usefixtures("env_file")
async def test_a_backend_s_own_env_file_reaches_its_bucket(rclone_s3: S3Server) -> None:
    """The AWS_ names as they stand; addresses are signed."""
    made = Storage(load_settings(), InlinePool())
    assert made.place == f"s3://{BUCKET}"
    assert (await tried(made))[0]["event"] == "storage.ready"
    address = await made.artifacts.address(KEY)
    assert address.startswith(f"{rclone_s3.url}/{BUCKET}/jobs/a%20b/0.png?X-Amz-Algorithm=")


async def test_a_session_s_token_is_sent(moto_s3: S3Server) -> None:
    """It is part of a signed address, too."""
    settings = load_settings(
        storage_url=f"s3://{BUCKET}/tokens", aws_endpoint_url=moto_s3.url, aws_session_token="the-token", **KEYS
    )
    made = Storage(settings, InlinePool())
    assert (await tried(made))[0]["event"] == "storage.ready"
    assert "X-Amz-Security-Token=the-token" in await made.artifacts.address(KEY)


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        ({"storage_url": "s3://mine/a b"}, "https://mine.s3.us-east-1.amazonaws.com/a%20b/jobs/a%20b/0.png"),
        ({"storage_url": "s3://my.own", "aws_s3_region_name": "eu-west-3"}, "https://s3.eu-west-3.amazonaws.com/my.own/jobs/a%20b/0.png"),
        ({"storage_url": "s3://mine", "aws_s3_addressing_style": "path"}, "https://s3.us-east-1.amazonaws.com/mine/jobs/a%20b/0.png"),
        ({"storage_url": "s3://mine", "aws_endpoint_url": "http://minio:9000/"}, "http://minio:9000/mine/jobs/a%20b/0.png"),
        (
            {"storage_url": "s3://mine", "aws_endpoint_url": "https://r2.test", "aws_s3_addressing_style": "virtual"},
            "https://mine.r2.test/jobs/a%20b/0.png",
        ),
        ({"storage_url": "az://mine/p", "azure_storage_account": "acc"}, "https://acc.blob.core.windows.net/mine/p/jobs/a%20b/0.png"),
        ({"storage_url": "gs://mine"}, "https://storage.googleapis.com/mine/jobs/a%20b/0.png"),
    ],
)  # fmt: skip
async def test_a_public_bucket_s_addresses_are_its_own(settings: dict[str, str], address: str) -> None:
    """Wherever the server is; signed ones go to the same host and path; a base of the operator's wins; none are none."""
    key = {"azure_storage_key": "a2V5"} if settings["storage_url"].startswith("az") else KEYS
    assert await storage(picture_urls="public", **settings, **key).artifacts.address(KEY) == address
    cdn = storage(picture_urls="public", public_base_url="https://cdn.test", **settings, **key)
    assert await cdn.artifacts.address(KEY) == "https://cdn.test/jobs/a%20b/0.png"
    assert await storage(picture_urls="none", **settings, **key).artifacts.address(KEY) == ""
    if not settings["storage_url"].startswith("gs"):  # which needs a service account to sign
        signed = await storage(signed_url_seconds=60, **settings, **key).artifacts.address(KEY)
        assert signed.startswith(f"{address}?")


@pytest.mark.parametrize(
    ("settings", "addresses"),
    [
        (
            {"storage_url": "s3://mine/p"},
            ("https://mine.s3.us-east-1.amazonaws.com/p/", "s3://mine/p/", "https://s3.us-east-1.amazonaws.com/mine/p/",
             "https://mine.s3.amazonaws.com/p/"),
        ),
        (
            {"storage_url": "s3://mine", "aws_endpoint_url": "http://minio:9000", "public_base_url": "https://cdn.test/"},
            ("https://cdn.test/", "http://minio:9000/mine/", "s3://mine/", "http://mine.minio:9000/"),
        ),
        ({"storage_url": "gs://mine"}, ("https://storage.googleapis.com/mine/", "gs://mine/")),
        ({"storage_url": "file:///srv"}, ()),
    ],
)  # fmt: skip
def test_what_others_call_the_storage(settings: dict[str, str], addresses: tuple[str, ...]) -> None:
    """So that a backend may give an adapter's address in its own bucket, which is then read with our credentials."""
    assert storage(**settings, **KEYS).own_addresses == addresses


async def test_wrong_credentials_are_told_at_the_start_and_stop_nothing(rclone_s3: S3Server) -> None:
    """With what to do, and without the secret."""
    settings = rclone_s3.settings() | {"AWS_SECRET_ACCESS_KEY": "another-secret-key"}
    given = {name.lower(): value for name, value in settings.items()}
    (line,) = await tried(storage(**given))
    assert (line["event"], line["log_level"], line["place"]) == ("storage.unusable", "error", f"s3://{BUCKET}")
    assert "refused access (403 SignatureDoesNotMatch)" in line["reason"]
    assert "another-secret-key" not in str(line)


async def test_a_storage_that_is_away_is_told_at_the_start_and_stops_nothing(tmp_path: Path) -> None:
    """A bucket that cannot be reached, and a folder that cannot be made."""
    (tmp_path / "file").touch()
    away = storage(storage_url="s3://mine", aws_endpoint_url="http://127.0.0.1:9", storage_timeout=0.5, **KEYS)
    for made, reason in (
        (away, "the storage cannot be reached"),
        (storage(storage_url=(tmp_path / "file").as_uri()), "Not a directory|File exists"),
    ):
        (line,) = await tried(made)
        assert line["event"] == "storage.unusable"
        assert line["reason"] in reason


async def test_stopping_does_not_wait_for_the_trial() -> None:
    """Nor for one that was never begun."""
    made = storage(storage_url="s3://mine", aws_endpoint_url="http://127.0.0.1:9", **KEYS)
    await made.stop()
    made.begin()
    await made.stop()
    assert made._trial is not None
    assert made._trial.done()


def test_a_key_file_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    """With the name of the setting, and nothing of the file."""
    with pytest.raises(SettingsError, match="ATELIER_STORAGE_URL: gs://"):
        storage(storage_url="gs://mine", google_application_credentials=tmp_path / "nowhere.json")
