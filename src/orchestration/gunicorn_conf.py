"""gunicorn's settings: `gunicorn -c python:orchestration.gunicorn_conf orchestration.wsgi:app`."""

import json
import os
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

STATUS = {
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
}
"""What gunicorn refuses with another status than 400."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """Serves requests in threads. What is not valid HTTP is refused in JSON, as by the application."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that gunicorn can't parse. Its bytes are not logged: they may be a secret."""
        if not isinstance(exc, errors.ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = STATUS.get(type(exc), HTTPStatus.BAD_REQUEST)
        self.log.warning("Invalid request: %s", type(exc).__name__)
        body = json.dumps({"error": f"The request is not valid HTTP: {status.phrase}."})
        head = (
            f"HTTP/1.1 {status:d} {status.phrase}",
            "Connection: close",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        with suppress(OSError):  # the client is gone
            util.write_nonblock(client, "\r\n".join((*head, "", body)).encode())


bind = os.environ.get("BIND", "0.0.0.0:5001")
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = Worker
threads = int(os.environ.get("WEB_THREADS", "16"))
timeout = 60
graceful_timeout = 20

# Longer than the load balancer's idle time-out of 60 s, so that the load balancer closes connections first.
keepalive = 75

# The pod's header is called `api_key`, and gunicorn drops names with an underscore. `forwarder_headers` lets
# one name through, but from trusted peers only, and devices call from any address. The third line disables
# the only other claim of a trusted peer, that its connection was https.
forwarder_headers = "API_KEY"
forwarded_allow_ips = "*"
secure_scheme_headers: dict[str, str] = {}

# The largest limit that gunicorn takes. A download link has the model's id in its path: up to 512 characters,
# of up to 12 bytes when percent-encoded.
limit_request_line = 8190

accesslog = os.environ.get("ACCESS_LOG") or None
errorlog = "-"
control_socket_disable = True  # the socket is a file in the home directory, which the image's user lacks
