"""Jobs as OpenTelemetry traces, a trace a job. The only room that imports opentelemetry, where that is wanted.

    job                      from its door until its end is told
    ├── admit                read, checked, made durable
    ├── dispatch             of a gateway: until a worker is heard of
    ├── queue                until it has a place in a batch; again after a retry
    ├── paint                its steps: the first, parked and resumed are events of it
    ├── finish               signed, stored, recorded
    │   └── store            one picture
    └── tell                 one try of a webhook's call

A trace's id is its job's, so that another node, or the next life, adds to it what it does without being told; where the caller
sent a traceparent the trace is the caller's. The root is told by the node that admitted the job. No prompt, owner or address is
in any span.
"""
