"""A Celery application as its documentation shows one: a task that does nothing, acknowledged late, its result in a database.

    python -m celery --app bench.peers.celery_app worker

PEER_BROKER and PEER_RESULTS are where; PEER_QUEUE is the queue.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

app = Celery("durable", broker=os.environ["PEER_BROKER"], backend=os.environ["PEER_RESULTS"])
app.conf.update(
    task_acks_late=True,
    task_default_queue=os.environ["PEER_QUEUE"],
    worker_prefetch_multiplier=int(os.environ["PEER_PREFETCH"]),  # times the processes
    broker_connection_retry_on_startup=True,
)


@app.task(name="generate")  # type: ignore[untyped-decorator]
def generate(job: dict[str, Any]) -> None:
    """What a zero-cost engine does."""
