"""What names of adapters mean that no card knows."""

from __future__ import annotations

import pytest

from server.adapter_names import MAX_NAME, Place, Rules, StoredFile, StoredFolders, WebFile, is_fetched, read_name
from server.errors import Code, Refusal

RULES = Rules(
    keys=("models/", "shared/loras/"),
    hosts=("files.test", ".many.test"),
    own=("https://pictures.s3.amazonaws.com/", "s3://pictures/", "http://minio:9000/pictures/"),
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("storage:models/a/b.safetensors", StoredFile("models/a/b.safetensors")),
        ("storage:shared/loras/ü b.safetensors", StoredFile("shared/loras/ü b.safetensors")),
        ("storage:models/style-7/", StoredFolders(("models/style-7",))),
        ("storage:models/style-7", StoredFolders(("models/style-7",))),
        ("storage:models/v1.5-style", StoredFolders(("models/v1.5-style",))),
        ("storage:style:7", StoredFolders(("models/style_7", "models/style-7"))),
        ("storage:style:007", StoredFolders(("models/style_7", "models/style-7"))),
        ("https://files.test/a.safetensors?token=x", WebFile("https://files.test/a.safetensors?token=x")),
        ("https://a.b.many.test/download/7", WebFile("https://a.b.many.test/download/7")),
        ("https://pictures.s3.amazonaws.com/models/a.safetensors?X-Amz-Signature=x", StoredFile("models/a.safetensors")),
        ("s3://pictures/models/style%2D7/", StoredFolders(("models/style-7",))),
        ("http://minio:9000/pictures/models/a.safetensors", StoredFile("models/a.safetensors")),
    ],
)  # fmt: skip
def test_a_name_says_where_the_files_are(name: str, place: Place) -> None:
    """In the storage by key or style, at an allowed host, or in the storage by an address of its own."""
    assert is_fetched(name)
    assert read_name(name, RULES) == place


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("storage:", "leads elsewhere"), ("storage:/etc/passwd", "leads elsewhere"),
        ("storage:models/../jobs/x", "leads elsewhere"),
        ("storage:models//x", "leads elsewhere"), ("storage:models/\0.safetensors", "leads elsewhere"),
        ("storage:models\\..\\x", "leads elsewhere"), ("storage:models/" + "x" * 1100, "leads elsewhere"),
        ("s3://pictures/models/%2e%2e/jobs/x", "leads elsewhere"),
        ("storage:jobs/job-1/0.png", "not one of adapters"), ("storage:generations/gen-1.png", "not one of adapters"),
        ("storage:models", "not one of adapters"), ("s3://pictures/jobs/x", "not one of adapters"),
        ("storage:models/a.pt", "pickles"), ("storage:models/a.BIN", "pickles"), ("storage:models/a.ckpt", "pickles"),
        ("https://files.test/a.bin?x=.safetensors", "pickles"),
        ("storage:style:", "a number"), ("storage:style:x", "a number"), ("storage:style:-1", "a number"),
        ("storage:style:../1", "a number"), ("storage:style:" + "9" * 20, "a number"), ("storage:style:٣", "a number"),
        ("https://other.test/a.safetensors", "not an allowed host"), ("https://many.test/a", "not an allowed host"),
        ("https://xfiles.test/a", "not an allowed host"), ("https://files.test.evil.test/a", "not an allowed host"),
        ("https://127.0.0.1/a.safetensors", "not an allowed host"), ("http://files.test/a.safetensors", "must begin with"),
        ("s3://others/models/a.safetensors", "must begin with"), ("file:///etc/passwd", "must begin with"),
        ("c:/x", "must begin with"),
        ("https://files.test@evil.test/a", "name or a password"), ("https://files.test:x/a", "not a URL"),
        ("https://files.test/" + "x" * MAX_NAME, "characters"),
    ],
)  # fmt: skip
def test_a_name_that_can_never_be_fetched_is_refused_at_once(name: str, why: str) -> None:
    """ADAPTER_INVALID, with what would have been taken."""
    with pytest.raises(Refusal, match=why) as refused:
        read_name(name, RULES)
    assert refused.value.code is Code.ADAPTER_INVALID
    assert refused.value.limit


def test_without_hosts_no_address_is_fetched() -> None:
    """That is how a server begins."""
    with pytest.raises(Refusal, match="not an allowed host"):
        read_name("https://files.test/a.safetensors", Rules(keys=("models/",)))


def test_a_card_s_name_is_none_of_these() -> None:
    """It has no colon."""
    assert not is_fetched("ink.v2")
