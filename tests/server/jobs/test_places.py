"""How many jobs may be pending."""

from __future__ import annotations

import pytest

from server.errors import Code, Refusal
from server.jobs.places import Places


def test_one_owner_gets_so_many_places() -> None:
    """The next is refused with the limit and an estimate of when to try again; another owner's is not."""
    places = Places(10, 2, lambda: 7.5, image_bytes=0, signature_bytes=0)
    places.take("ada")
    places.take("ada")
    with pytest.raises(Refusal) as caught:
        places.take("ada")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.limit == "2 pending jobs for one owner"
    assert caught.value.retry_after_seconds == 7.5
    places.take("bob")
    assert places.taken == 3


def test_all_owners_together_get_so_many_places() -> None:
    """Whoever comes next is refused."""
    places = Places(2, 2, lambda: 1.0, image_bytes=0, signature_bytes=0)
    places.take("ada")
    places.take("bob")
    with pytest.raises(Refusal, match="2 pending jobs in all"):
        places.take("eve")
    assert places.taken == 2


def test_a_place_given_back_is_free() -> None:
    """For anybody."""
    places = Places(1, 1, lambda: 1.0, image_bytes=0, signature_bytes=0)
    for owner in ("ada", "bob", "ada"):
        places.take(owner)
        places.release(owner, "job")
    assert places.taken == 0


def test_init_images_get_so_much_room() -> None:
    """The next is refused by its field, whoever's it is; what was accepted before counts, and need not fit."""
    places = Places(10, 10, lambda: 7.5, image_bytes=100, signature_bytes=10)
    places.take("ada")
    places.take_image("one", 60)
    with pytest.raises(Refusal) as caught:
        places.take_image("two", 41)
    assert (caught.value.code, caught.value.field) == (Code.RESOURCE_EXHAUSTED, "init_image")
    assert caught.value.limit == "100 bytes of pending init images in all"
    assert caught.value.retry_after_seconds == 7.5
    places.take_image("two", 40)
    places.hold("bob", "old", 50)
    assert places.image_bytes == 150
    places.release("ada", "one")
    places.release("bob", "old")
    assert places.image_bytes == 40


def test_signature_images_get_so_much_room() -> None:
    """Of their own, beside init images'."""
    places = Places(10, 10, lambda: 7.5, image_bytes=100, signature_bytes=50)
    places.take("ada")
    places.take_image("one", 100)
    places.take_signature("one", 30)
    with pytest.raises(Refusal) as caught:
        places.take_signature("two", 21)
    assert (caught.value.code, caught.value.field) == (Code.RESOURCE_EXHAUSTED, "signature.image")
    assert caught.value.limit == "50 bytes of pending signature images in all"
    places.take_signature("two", 20)
    places.hold("bob", "old", 0, 50)
    assert (places.image_bytes, places.signature_bytes) == (100, 100)
    places.release("ada", "one")
    places.release("bob", "old")
    assert (places.image_bytes, places.signature_bytes) == (0, 20)
