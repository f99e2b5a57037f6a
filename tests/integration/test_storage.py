"""The whole server with its pictures in a bucket, by what a client and an operator see."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import urllib.request
from pathlib import Path
from typing import Any

import obstore

from proto import atelier_pb2 as pb
from tests.integration.raw_client import RawClient, picture_of
from tests.integration.served import serving
from tests.s3 import SECRET_KEY, S3Server

WISHES = {"num_inference_steps": 2, "width": 128, "height": 128}


async def fetched(url: str) -> bytes:
    """What anyone gets who has the address."""
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read())


async def test_a_picture_goes_to_the_bucket_and_comes_back_by_its_address(tmp_path: Path, rclone_s3: S3Server) -> None:
    """The result's address shows it, asking later gives another that does, and inline it is the same; no log has the secret."""
    async with serving(tmp_path, **rclone_s3.settings()) as served:
        client = await RawClient.connect(served.address)
        heard = await client.hear_all(client.submit("a red star", seed=1, inline_pictures=True, **WISHES))
        result: Any = heard[-1].message
        artifact = result.artifacts[0]
        data = picture_of(heard)
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
        assert await fetched(artifact.url) == data
        stored = await obstore.get_async(rclone_s3.store(), artifact.key)
        assert bytes(await stored.bytes_async()) == data
        assert stored.attributes["sha256"] == artifact.sha256
        job: Any = (await client.ask(get_job=pb.GetJob(job_id=result.job_id))).message
        assert await fetched(job.artifacts[0].url) == data
        await client.close()
        served.signal(signal.SIGTERM)
        status, logged = await served.ended()
    assert status == 0
    assert "storage.ready" in logged
    assert SECRET_KEY not in logged


async def test_a_job_fails_with_the_storage_s_word_for_it(tmp_path: Path, rclone_s3: S3Server) -> None:
    """Wrong credentials: told at the start, and as STORAGE_FAILED once the retries are over."""
    wrong = rclone_s3.settings() | {"AWS_SECRET_ACCESS_KEY": "another-secret-key-to-keep", "ATELIER_RETRY_DELAYS": "0"}
    async with serving(tmp_path, **wrong) as served:
        client = await RawClient.connect(served.address)
        heard = await client.hear_all(client.submit("a red star", seed=1, **WISHES))
        failed: Any = heard[-1].message
        failure = failed.error
        assert failure.code == pb.STORAGE_FAILED
        assert "refused access (403 SignatureDoesNotMatch)" in failure.message
        await client.close()
        served.signal(signal.SIGTERM)
        status, logged = await served.ended()
    assert status == 0
    assert "storage.unusable" in logged
    assert "another-secret-key-to-keep" not in logged + str(failure)
