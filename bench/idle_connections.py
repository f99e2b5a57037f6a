"""Holds idle connections to Atelier, as a process of its own so that their memory here is not counted.

    python -m bench.idle_connections PORT

Told a number on stdin, opens so many more (each says Hello and is welcomed) and answers with how many there are; told
"check", asks each of them for a Pong.
"""

from __future__ import annotations

import json
import resource
import socket
import sys

from bench.callers import AtelierCaller, WrongReply


def raise_open_files(wanted: int) -> None:
    """Let this process and its children open so many files, if the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    elif hard < wanted:
        raise SystemExit(f"{wanted} open files are needed, the system allows {hard}: raise `ulimit -Hn`")


def main(port: int) -> None:
    """Answer a line with a line until stdin ends."""
    held: list[tuple[socket.socket, AtelierCaller]] = []
    for line in sys.stdin:
        wanted = json.loads(line)
        if wanted == "check":
            for connection, caller in held:
                connection.sendall(caller.first())
                if not caller.take(connection.recv(4096)):
                    raise WrongReply("half an answer")
        else:
            for number in range(len(held), len(held) + wanted):
                connection = socket.create_connection(("127.0.0.1", port), 10.0)
                caller = AtelierCaller(number)
                caller.open(connection)
                held.append((connection, caller))
        print(json.dumps(len(held)), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
