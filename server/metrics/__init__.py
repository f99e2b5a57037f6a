"""What is measured of the server, as Prometheus reads it. The only room that imports prometheus_client.

    registry   the one registry, and its text; what is looked up is read on the reactor thread and written on another
    jobs, storage, webhooks, broker, web, records    told of what happens: they stand around the interfaces of server.interfaces
    engine, node                                     look up numbers that are kept where they arise
    access, page                                     who may read it, and where

Labels are bounded: model names of the cards, codes of the enum, states, kinds. No owner, job, address or prompt is ever one.
docs/metrics.md has every family.
"""
