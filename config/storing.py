"""The settings of where pictures are kept, and by which addresses they are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from config.fields import setting
from config.places import read_place


class StoringSettings(BaseSettings):
    """Part of `config.Settings`."""

    data_dir: Path = setting(
        Path("data"), "DATA_DIR", why="One server's own: pictures in DATA_DIR/artifacts and records, unless elsewhere."
    )
    storage_url: str = setting(
        "", "STORAGE_URL", "STORAGE_URL",
        why="Where pictures are kept: s3://bucket/prefix, gs://…, az://container/… or file:///folder (docs/storage.md).",
    )  # fmt: skip
    storage_type: Literal["", "local", "s3"] = setting(
        "", "STORAGE_TYPE", "STORAGE_TYPE",
        why="Where there is no STORAGE_URL: local is DATA_DIR/artifacts, s3 the bucket below. Empty: s3 where one is named.",
    )  # fmt: skip
    aws_storage_bucket_name: str = setting(
        "", "AWS_STORAGE_BUCKET_NAME", "AWS_STORAGE_BUCKET_NAME", pattern=r"^([A-Za-z0-9._-]{3,255})?$",
        why="The bucket, where there is no STORAGE_URL.",
    )  # fmt: skip
    aws_s3_region_name: str = setting(
        "", "AWS_S3_REGION_NAME", "AWS_S3_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION", pattern=r"^[a-z0-9-]*$",
        why="The bucket's region. Empty: us-east-1, which servers of others than AWS take too.",
    )  # fmt: skip
    aws_access_key_id: SecretStr = setting(
        SecretStr(""), "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID",
        why="Who asks S3. Empty: the machine's own role (web identity, container, instance).",
    )  # fmt: skip
    aws_secret_access_key: SecretStr = setting(
        SecretStr(""), "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", why="Its secret."
    )
    aws_session_token: SecretStr = setting(
        SecretStr(""), "AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN",
        why="For credentials that end; signed addresses end with them.",
    )  # fmt: skip
    aws_endpoint_url: str = setting(
        "", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_S3_ENDPOINT_URL",
        pattern=r"^(https?://[^/@?#]+/?)?$", why="An S3 server other than AWS: https://minio.example:9000.",
    )  # fmt: skip
    aws_s3_addressing_style: Literal["auto", "path", "virtual"] = setting(
        "auto", "AWS_S3_ADDRESSING_STYLE", "AWS_S3_ADDRESSING_STYLE",
        why="The bucket in the path, or in the host's name. auto: in the name at AWS, in the path elsewhere.",
    )  # fmt: skip
    google_application_credentials: Path | None = setting(
        None, "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS",
        why="A service account's key file, for gs://. None: the machine's own account.",
    )  # fmt: skip
    azure_storage_account: str = setting(
        "", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME", pattern=r"^[a-z0-9-]*$",
        why="The account, for az://.",
    )  # fmt: skip
    azure_storage_key: SecretStr = setting(
        SecretStr(""), "AZURE_STORAGE_KEY", "AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY",
        why="Its key. Empty: AZURE_STORAGE_SAS_TOKEN, or the machine's own identity.",
    )  # fmt: skip
    azure_storage_sas_token: SecretStr = setting(
        SecretStr(""), "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_TOKEN",
        why="A shared access signature instead of the key. It cannot sign addresses: see PICTURE_URLS.",
    )  # fmt: skip
    storage_timeout: float = setting(
        20.0, "STORAGE_TIMEOUT", gt=0, le=600,
        why="For one picture, tries again included (at most DRAIN_TIMEOUT); then its job is retried as RETRY_DELAYS says.",
    )  # fmt: skip
    picture_urls: Literal["signed", "public", "none"] = setting(
        "signed", "PICTURE_URLS",
        why="Of pictures in a bucket: signed for a time, plain (the bucket must allow it), or none. See PUBLIC_BASE_URL.",
    )  # fmt: skip
    signed_url_seconds: int = setting(
        604_800, "SIGNED_URL_SECONDS", ge=1, le=604_800,
        why="So long a signed address holds; a week is the most that S3 and Google sign. GetJob gives a new one.",
    )  # fmt: skip
    public_base_url: str = setting(
        "", "PUBLIC_BASE_URL", "PUBLIC_BASE_URL", pattern=r"^(https?://.+)?$",
        why="Where something else serves the pictures (a web server, a CDN); results carry addresses below it.",
    )  # fmt: skip

    @field_validator("storage_url")
    @classmethod
    def _a_place(cls, value: str) -> str:
        if value:
            read_place(value)
        return value

    @model_validator(mode="after")
    def _storage_is_named(self) -> Self:
        if self.storage_type == "s3" and not self.storage_url and not self.aws_storage_bucket_name:
            raise ValueError("STORAGE_TYPE=s3 needs AWS_STORAGE_BUCKET_NAME")
        if self.storage_type == "local" and self.storage_url and read_place(self.storage_url).scheme != "file":
            raise ValueError("STORAGE_TYPE=local and ATELIER_STORAGE_URL name two places")
        if read_place(self.storage_place()).scheme == "az" and not self.azure_storage_account:
            raise ValueError("ATELIER_STORAGE_URL: az:// needs AZURE_STORAGE_ACCOUNT")
        return self

    def storage_place(self) -> str:
        """Where pictures are kept, as a URL."""
        if self.storage_url:
            return self.storage_url
        if self.aws_storage_bucket_name and self.storage_type != "local":
            return f"s3://{self.aws_storage_bucket_name}"
        return (self.data_dir / "artifacts").absolute().as_uri()
