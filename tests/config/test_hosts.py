"""Several hosts in one setting."""

from __future__ import annotations

import pytest

from config import SettingsError, load_settings
from config.hosts import hosts_of


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("rabbit", (("rabbit", 5672),)),
        ("a.test, b.test:5673 ,", (("a.test", 5672), ("b.test", 5673))),
        ("10.0.0.1:1,[fd00::1]:2,[fd00::2],fd00::3", (("10.0.0.1", 1), ("fd00::1", 2), ("fd00::2", 5672), ("fd00::3", 5672))),
    ],
)  # fmt: skip
def test_hosts_are_read(text: str, hosts: tuple[tuple[str, int], ...]) -> None:
    """With their own port, or the usual one."""
    assert hosts_of(text, 5672) == hosts


@pytest.mark.parametrize(
    "text", [",", "a:", "a:0", "a:70000", "a:b", "amqp://u:s3cret@a", "u:s3cret@a", "a b", "[a:1", ":5672"]
)
def test_what_is_no_host_is_refused_and_not_repeated(text: str) -> None:
    """Someone may have put a whole address with its password there."""
    with pytest.raises(SettingsError, match=r"ATELIER_RABBITMQ_HOST: (entry 1 )?must") as refused:
        load_settings(rabbitmq_host=text)
    assert "s3cret" not in str(refused.value)


def test_the_port_follows_from_the_setting_or_from_tls() -> None:
    """Of those that name none."""
    assert load_settings(rabbitmq_host="a,b:1").rabbitmq_hosts() == (("a", 5672), ("b", 1))
    assert load_settings(rabbitmq_host="a", rabbitmq_tls=True).rabbitmq_hosts() == (("a", 5671),)
    assert load_settings(rabbitmq_host="a", rabbitmq_port=9).rabbitmq_hosts() == (("a", 9),)
