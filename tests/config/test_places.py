"""Where pictures may be kept, as a URL says it."""

from __future__ import annotations

import pytest

from config.places import Place, read_place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://pictures", Place("s3", "pictures", "")),
        ("s3://my.pictures/a/b/", Place("s3", "my.pictures", "a/b")),
        ("gs://pictures/a", Place("gs", "pictures", "a")),
        ("az://pictures", Place("az", "pictures", "")),
        ("azure://pictures/a", Place("az", "pictures", "a")),
        ("file:///srv/my%20pictures", Place("file", "", "/srv/my pictures")),
    ],
)
def test_a_place_is_read(url: str, place: Place) -> None:
    """Its kind, its bucket and what stands before every key."""
    assert read_place(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "pictures", "http://x.test/pictures", "s3:/pictures", "s3://", "s3://a", "s3://k3y:s3cret@pictures", "s3://pictures?k3y=s3cret",
        "s3://pictures#s3cret", "s3://pictures/a//b", "s3://pictures/../b", "file://srv/pictures", "file:pictures", "file://",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused_and_not_repeated(url: str) -> None:
    """Someone may have put a key into it."""
    with pytest.raises(ValueError, match="must") as refused:
        read_place(url)
    assert "s3cret" not in str(refused.value)
