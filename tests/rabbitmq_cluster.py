"""Three RabbitMQ nodes that are one broker."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pika

from tests.rabbitmq import OLD_ENOUGH, WORK, RabbitNode

_FORMED_WITHIN = 120.0  # seconds
_LOOK_EVERY = 0.2  # seconds; a look itself takes one


class RabbitCluster:
    """Started together, they find each other by their configuration. What begins with image_generation is mirrored."""

    def __init__(self, size: int = 3) -> None:
        first = RabbitNode()
        self.nodes = [first, *(RabbitNode(first=first) for _ in range(size - 1))]
        known = "".join(
            f"cluster_formation.classic_config.nodes.{number} = {node.name}\n"
            for number, node in enumerate(self.nodes, start=1)
        )
        for node in self.nodes:
            node.configure("cluster_formation.peer_discovery_backend = classic_config\n" + known)

    @property
    def hosts(self) -> str:
        """As RABBITMQ_HOST has them."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Returns when each node answers, WORK has a member on each, and is old enough to survive a kill -9."""
        first = self.nodes[0]
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.wait()
        first.ctl("set_policy", "mirrored", "^image_generation", '{"ha-mode":"all"}', "--apply-to", "queues")
        first.declare_work()
        declared_at = time.monotonic()
        self.until_online(self.nodes)
        self._carries()
        time.sleep(max(0.0, declared_at + OLD_ENOUGH - time.monotonic()))

    def remove(self) -> None:
        """Leave nothing behind."""
        for node in reversed(self.nodes):  # the first one's port mapper last
            node.remove()

    def leader(self) -> RabbitNode:
        """Where WORK is led now."""
        name = self._row(self._one_that_runs(), "leader")[0]
        return next(node for node in self.nodes if node.name == name)

    def until_online(self, nodes: Sequence[RabbitNode]) -> None:
        """Until exactly these have a member of WORK that is up, and one of them leads it."""
        names = sorted(node.name for node in nodes)
        end = time.monotonic() + _FORMED_WITHIN
        while True:
            leader, *online = self._row(nodes[0], "leader", "online")
            if sorted(online) == names and leader in names:
                return
            assert time.monotonic() < end, f"{names}: {leader} leads {online}"
            time.sleep(_LOOK_EVERY)

    def count(self, queue: str = WORK) -> tuple[int, int]:
        """Messages of a queue that are ready, and that are unacknowledged."""
        listed = self._one_that_runs().ctl(
            "list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers"
        )
        rows = {name: (int(ready), int(unacked)) for name, ready, unacked in map(str.split, listed.splitlines())}
        return rows.get(queue, (0, 0))

    def _carries(self) -> None:
        """A message goes in at each node and comes out at the next: only that shows that the queue works."""
        for here, there in zip(self.nodes, [*self.nodes[1:], self.nodes[0]], strict=True):
            giving, taking = here.connect(), there.connect()
            channel = giving.channel()
            channel.confirm_delivery()
            channel.basic_publish("", WORK, b"{}", pika.BasicProperties(delivery_mode=2), mandatory=True)
            method, _, _ = taking.channel().basic_get(WORK, auto_ack=True)
            assert method is not None, f"nothing came from {here.name} to {there.name}"
            giving.close()
            taking.close()

    def _one_that_runs(self) -> RabbitNode:
        return next(node for node in self.nodes if node.runs)

    def _row(self, node: RabbitNode, *columns: str) -> list[str]:
        """Of WORK; lists are flattened."""
        for line in node.ctl("list_queues", "name", *columns, "--no-table-headers").splitlines():
            name, *rest = line.replace("[", " ").replace("]", " ").replace(",", " ").split()
            if name == WORK:
                return rest
        return [""]
