"""The settings of the UDP door (docs/udp.md)."""

from __future__ import annotations

import ipaddress

from pydantic import field_validator
from pydantic_settings import BaseSettings

from config.fields import setting
from config.hosts import hosts_of


class UdpSettings(BaseSettings):
    """Part of `config.Settings`."""

    udp: bool = setting(
        True, "UDP",
        why="Whether live results and progress are told by UDP to whoever asked for a key over TCP.",
    )  # fmt: skip
    udp_host: str = setting(
        "127.0.0.1", "UDP_HOST",
        why="The address of the UDP port. Any but loopback needs tokens, and ALLOW_PLAINTEXT: datagrams are not encrypted.",
    )  # fmt: skip
    udp_port: int | None = setting(
        None, "UDP_PORT", ge=0, le=65_535,
        why="Unset: the one after the TCP port (9001), or a free one. Of several processes each has its own, from here on.",
    )  # fmt: skip
    udp_public_host: str = setting(
        "", "UDP_PUBLIC_HOST",
        why="The host that clients are told to send to, where it is not the one that they reached by TCP.",
    )  # fmt: skip
    udp_group: str = setting(
        "", "UDP_GROUP",
        why="A multicast or broadcast address with its port (239.192.7.1:9100) that owners may have their results sent to.",
    )  # fmt: skip
    udp_multicast_ttl: int = setting(
        1, "UDP_MULTICAST_TTL", ge=0, le=255,
        why="How many routers a multicast datagram may pass, and one: 1 stays in this network.",
    )  # fmt: skip
    udp_key_seconds: float = setting(
        3600.0, "UDP_KEY_SECONDS", gt=0,
        why="A key holds so long, and less if the credential that it was asked for with ends before.",
    )  # fmt: skip
    udp_heartbeat: float = setting(
        5.0, "UDP_HEARTBEAT", gt=0,
        why="Clients say something so often; who misses three is put out, and the sessions that it opened by datagram end.",
    )  # fmt: skip
    udp_keys: int = setting(
        10_000, "UDP_KEYS", ge=1,
        why="Keys that hold at once, of all owners: each is one client, and costs about 1 kB.",
    )  # fmt: skip
    udp_keys_per_owner: int = setting(
        2_000, "UDP_KEYS_PER_OWNER", ge=1,
        why="So that one owner cannot take all: an audience of a thousand fits.",
    )  # fmt: skip
    udp_subscriptions: int = setting(
        20_000, "UDP_SUBSCRIPTIONS", ge=1,
        why="Of all owners. Thirty datagrams a second for each are a core's work at a few thousand.",
    )  # fmt: skip
    udp_subscriptions_per_owner: int = setting(
        4_000, "UDP_SUBSCRIPTIONS_PER_OWNER", ge=1,
        why="An audience of a thousand that hears several topics fits.",
    )  # fmt: skip
    udp_datagrams_per_second: int = setting(
        1_000, "UDP_DATAGRAMS_PER_SECOND", ge=1,
        why="From one key; what is more is dropped. Thirty sessions at thirty frames a second fit.",
    )  # fmt: skip
    udp_buffer_bytes: int = setting(
        4 << 20, "UDP_BUFFER_BYTES", ge=4096, le=1 << 30,
        why="Asked of the system for either direction; Linux gives net.core.rmem_max and wmem_max at most.",
    )  # fmt: skip

    @field_validator("udp_host")
    @classmethod
    def _an_ip_address(cls, value: str) -> str:
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("must be an IP address: 127.0.0.1, 0.0.0.0, ::1, ::") from None

    @field_validator("udp_group")
    @classmethod
    def _one_group(cls, value: str) -> str:
        groups = hosts_of(value, 0)
        if len(groups) > 1 or not all(port for _, port in groups):
            raise ValueError("must be one address with its port")
        for host, _ in groups:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise ValueError("must be an IP address with its port") from None
        return value

    def udp_group_address(self) -> tuple[str, int] | None:
        """Host and port of the group, None where there is none."""
        groups = hosts_of(self.udp_group, 0)
        return groups[0] if groups else None
