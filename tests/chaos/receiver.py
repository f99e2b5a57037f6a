"""The backend's side of the webhooks: a real HTTP server that notes every call, and can be away."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "a-token-of-32-characters-or-more-that-no-log-may-show"
ENDS = ("complete", "failed")


class Receiver:
    """`ends` has, of each generation, how often each call about its end has come, by the call's kind and id."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.ends: dict[int, Counter[tuple[str, str]]] = defaultdict(Counter)
        self.milestones: dict[int, Counter[int]] = defaultdict(Counter)
        self.wrong: list[str] = []  # calls that are not as they should be
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """What BACKEND_API_URL is to be."""
        return f"http://127.0.0.1:{self.port}"

    def back(self) -> None:
        """Answer."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PATCH(handler) -> None:  # noqa: N805
                self._take(handler)

            def do_POST(handler) -> None:  # noqa: N805
                self._take(handler)

            def log_message(handler, *words: object) -> None:  # noqa: N805
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def away(self) -> None:
        """Refuse connections; what is being answered is answered."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        call = handler.path.removeprefix("/api/webhooks/inference/")
        with self._lock:
            if handler.headers["Authorization"] != f"Bearer {TOKEN}":
                self.wrong.append(f"{call}: the token")
            if handler.headers["X-Request-Source"] != "inference-server":
                self.wrong.append(f"{call}: X-Request-Source")
            if call in ENDS:
                self.ends[body["generation_id"]][call, handler.headers["webhook-id"]] += 1
            elif call == "progress":
                self.milestones[body["generation_id"]][body["progress"]["progress_percent"]] += 1
            else:
                self.wrong.append(f"{handler.command} {handler.path}")
        answer = b'{"success": true}'
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(answer)))
        with suppress(ConnectionError):  # whoever called has been killed
            handler.end_headers()
            handler.wfile.write(answer)
