"""``/metrics`` of a worker process: a small HTTP server on ``WORKER_METRICS_PORT``, because it has no web server."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.conf import settings

from sessions_app.scraping import (
    CONTENT_TYPE,
    exposition,
    is_allowed_address,
    is_called_by_address,
    is_right_token,
)

log = logging.getLogger(__name__)

#: a client that sends nothing for this long is disconnected
READ_SECONDS = 5.0


class _Handler(BaseHTTPRequestHandler):
    timeout = READ_SECONDS
    server_version = "sambung"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND)
        elif not self._may_read():
            self.send_error(HTTPStatus.UNAUTHORIZED if settings.METRICS_TOKEN else HTTPStatus.FORBIDDEN)
        else:
            body = exposition()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _may_read(self) -> bool:
        if settings.METRICS_TOKEN:
            return is_right_token(self.headers.get("Authorization", ""))
        # By DNS rebinding, a web page can reach this port under a name of its own, with its visitor's address.
        host = self.headers.get("Host", "")
        is_ours = is_called_by_address(host) or host.partition(":")[0] == "localhost"
        return is_ours and is_allowed_address(self.client_address[0])

    def log_message(self, *args: object) -> None:
        """Log nothing: a line for every scrape would be noise."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        log.info("a client of the metrics disconnected")


def serve_metrics() -> ThreadingHTTPServer | None:
    """Listen in a thread, if ``WORKER_METRICS_PORT`` is set. A port that is taken is only logged."""
    if not settings.WORKER_METRICS_PORT:
        return None
    address = (settings.WORKER_METRICS_HOST, settings.WORKER_METRICS_PORT)
    try:
        server = _Server(address, _Handler)
    except OSError as exc:
        log.error("the metrics cannot be served at %s:%d: %s", *address, exc.strerror or exc)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("the metrics of this worker are at http://%s:%d/metrics", *address)
    return server
