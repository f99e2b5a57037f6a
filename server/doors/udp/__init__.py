"""The UDP door: signed datagrams in; what live sessions and jobs say out, to many at once (docs/udp.md)."""
