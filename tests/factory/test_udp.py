"""Where the UDP door is, what clients are told of it, and what its socket may do."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.error import CannotListenError

from config import SettingsError, load_settings
from config.processes import ProcessPlan
from factory.listening import check_listening
from factory.several import SeveralProcesses
from factory.udp import UdpHouse, first_port, prepare
from server.commands import ConnectUdp
from server.errors import Code, Refusal
from server.live.none import NoLive
from server.principal import Principal
from tests.server.house import House

ADA = ConnectUdp(owner="ada", principal=Principal(owner="ada"), token="t")
TOKENS = "ada:s3cret-ada-0123456789"


def udp_house(reactor: Any, **given: Any) -> UdpHouse:
    """One that can listen, with nothing behind it."""
    made = UdpHouse(load_settings(**{"tcp_listen": "tcp:0:interface=127.0.0.1", **given}), reactor)
    house = House()
    made.join(house.handlers, house.board, house.identities, NoLive())
    return made


def taken_port() -> tuple[socket.socket, int]:
    """One that somebody else has."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    return bound, bound.getsockname()[1]


@pytest.mark.parametrize(
    ("listen", "port"),
    [
        ("tcp:9000:interface=127.0.0.1", 9001),
        ("tcp6:7000:interface=\\:\\:1", 7001),
        ("tcp:0", 0),
        ("tcp:65535", 0),
        ("unix:/run/atelier.sock", 9001),
        ("systemd:domain=INET:index=0", 9001),
    ],
)
def test_the_port_is_the_one_after_the_tcp_door_s(listen: str, port: int) -> None:
    """Unless one is set."""
    assert first_port(load_settings(tcp_listen=listen)) == port


async def test_a_key_names_the_port_and_ends_with_it(reactor: Any) -> None:
    """Before it is open, and after it was shut, there is no key to have."""
    house = udp_house(reactor)
    with pytest.raises(Refusal, match="no UDP door"):
        house.connect(ADA)
    where = house.listen()
    told = house.connect(ADA)
    assert where == f"udp:127.0.0.1:{told.port}"
    assert (told.host, len(told.key), told.expires_seconds, told.heartbeat_seconds) == ("127.0.0.1", 32, 3600.0, 5.0)
    assert told.key_id > 0
    assert repr(told.key) not in repr(told)
    assert house.keys == 1
    await house.close()
    with pytest.raises(Refusal) as refused:
        house.connect(ADA)
    assert refused.value.code is Code.UNAVAILABLE
    await house.close()


async def test_a_taken_port_is_another_unless_it_was_set(reactor: Any) -> None:
    """Clients are told which; an operator who has named one is told that it is taken."""
    other, port = taken_port()
    house = udp_house(reactor, tcp_listen=f"tcp:{port - 1}:interface=127.0.0.1")
    with capture_logs() as logs:
        house.listen()
    (line,) = [entry for entry in logs if entry["event"] == "udp.other_port"]
    assert (line["wanted"], line["port"]) == (port, house.connect(ADA).port)
    await house.close()
    with pytest.raises(CannotListenError):
        udp_house(reactor, udp_port=port).listen()
    other.close()


async def test_a_door_that_is_off_is_shut(reactor: Any) -> None:
    """And no port is taken."""
    house = udp_house(reactor, udp=False)
    assert house.listen() == ""
    with pytest.raises(Refusal, match="no UDP door"):
        house.connect(ADA)


async def test_clients_are_told_a_host_that_they_can_reach(reactor: Any) -> None:
    """The one that they reached by TCP where it listens on all, or the one that the operator names."""
    for given, host in (({}, ""), ({"udp_public_host": "paint.example.org"}, "paint.example.org")):
        house = udp_house(reactor, udp_host="0.0.0.0", **given)
        house.listen()
        assert house.connect(ADA).host == host
        await house.close()


def test_a_group_s_socket_may_send_to_it() -> None:
    """Multicast with its number of hops, from the door's own address; broadcast with leave; another family not at all."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        prepare(bound, load_settings(udp_group="239.192.7.1:9100", udp_multicast_ttl=3))
        assert bound.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 3
        assert bound.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == socket.inet_aton("127.0.0.1")
        assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        prepare(bound, load_settings(udp_group="192.168.1.255:9100"))
        assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        with pytest.raises(OSError, match="IPv6 address cannot be reached"):
            prepare(bound, load_settings(udp_group="[ff05::7]:9100"))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:
        prepare(bound, load_settings(udp_host="::1", udp_group="[ff05::7]:9100", udp_multicast_ttl=4))
        assert bound.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS) == 4


@pytest.mark.parametrize("group", ["239.192.7.1", "host:9100", "1.2.3.4:1,1.2.3.5:2", "239.192.7.1:0"])
def test_a_group_is_an_address_with_its_port(group: str) -> None:
    """Anything else is told at the start."""
    with pytest.raises(SettingsError, match="ATELIER_UDP_GROUP"):
        load_settings(udp_group=group)


def test_other_machines_are_served_with_tokens_and_a_word_for_plain_text_alone() -> None:
    """As at the TCP door; a name is no address."""
    with pytest.raises(SettingsError, match=r"ATELIER_UDP_HOST: listening on 0\.0\.0\.0 needs tokens"):
        check_listening(load_settings(udp_host="0.0.0.0"))
    with pytest.raises(SettingsError, match="ATELIER_ALLOW_PLAINTEXT"):
        check_listening(load_settings(udp_host="0.0.0.0", tokens=TOKENS))
    check_listening(load_settings(udp_host="0.0.0.0", tokens=TOKENS, allow_plaintext=True))
    check_listening(load_settings(udp_host="0.0.0.0", udp=False))
    check_listening(load_settings(udp_host="::1"))
    with pytest.raises(SettingsError, match="ATELIER_UDP_HOST: must be an IP address"):
        load_settings(udp_host="localhost")


def test_each_of_several_processes_has_a_port_of_its_own(reactor: Any, tmp_path: Path) -> None:
    """Also while one takes over from another; where none was set each finds one by itself."""
    plans = [ProcessPlan("1"), ProcessPlan("gpu-2"), ProcessPlan("3")]

    def ports(**given: Any) -> list[str | None]:
        several = SeveralProcesses(load_settings(data_dir=tmp_path, **given), reactor, plans, lambda line: None)
        names = [f"{plan.name}{letter}" for letter in "ab" for plan in plans]
        return [several._environment(name).get("ATELIER_UDP_PORT") for name in names]

    assert ports(udp_port=9100) == ["9100", "9101", "9102", "9103", "9104", "9105"]
    assert ports() == ports(udp_port=0) == [None] * 6
    with pytest.raises(SettingsError, match="ATELIER_UDP_PORT: 3 processes need the ports up to 65536"):
        SeveralProcesses(load_settings(data_dir=tmp_path, udp_port=65_531), reactor, plans, lambda line: None)._listen()
