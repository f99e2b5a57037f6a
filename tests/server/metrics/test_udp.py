"""The UDP door's numbers."""

from __future__ import annotations

from proto import atelier_udp_pb2 as udp
from server.doors.udp.parts import UdpCounts
from server.metrics.udp import udp_families
from tests.server.doors.udp.site import Site
from tests.server.metrics.scrape import now, some_metrics


class Door:
    """What `factory.udp.UdpHouse` tells of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @property
    def counts(self) -> UdpCounts:
        return self._site.counts

    @property
    def peers(self) -> int:
        return self._site.door.peers

    @property
    def subscriptions(self) -> int:
        return self._site.door.subscriptions

    @property
    def keys(self) -> int:
        return len(self._site.keys)


async def test_what_comes_and_goes_is_counted() -> None:
    """Both ways, with the reasons of what was dropped or refused; nobody's name or address is among it."""
    site, metrics = Site(), some_metrics()
    metrics.add(udp_families(Door(site)))
    client = await site.proved()
    job = await site.house.job()
    await client.subscribe(job_id=job.id)
    await client.subscribe(job_id="none")
    client.deliver(client.datagram(heartbeat=udp.Heartbeat())[:-1] + b"\xff")
    site.door.datagramReceived(bytes(99), ("203.0.113.9", 5))
    told = {name: value for name, value in now(metrics).items() if name.startswith("atelier_udp")}
    expected = {
        "atelier_udp_peers": 1.0,
        "atelier_udp_subscriptions": 1.0,
        "atelier_udp_keys": 1.0,
        'atelier_udp_datagrams_total{direction="in"}': 6.0,
        'atelier_udp_datagrams_total{direction="out"}': 4.0,
        'atelier_udp_dropped_total{reason="forged"}': 1.0,
        'atelier_udp_dropped_total{reason="stranger"}': 1.0,
        'atelier_udp_messages_total{kind="subscribe"}': 2.0,
        'atelier_udp_messages_total{kind="heartbeat"}': 1.0,
        'atelier_udp_refusals_total{code="JOB_NOT_FOUND"}': 1.0,
        'atelier_udp_unsent_total{reason="overtaken"}': 0.0,
    }
    assert {name: told.get(name) for name in expected} == expected
    assert told['atelier_udp_bytes_total{direction="out"}'] > 100
    assert not any("203.0.113.9" in name or "ada" in name for name in told)
