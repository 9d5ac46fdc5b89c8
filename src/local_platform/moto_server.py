"""A server that simulates AWS: moto with repairs. `python -m local_platform.moto_server --port 5055`."""

import io
import logging
import signal
import sys
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, Any

import click
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from local_platform import repairs
from local_platform.network import LOOPBACK

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class OneAtATime:
    """WSGI middleware that passes on one request at a time: under threads, moto's DynamoDB loses updates."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request. Its body is read before the lock, so that a slow sender blocks only itself."""
        if "HTTP_TRANSFER_ENCODING" in environ:
            body = environ["wsgi.input"].read()
        else:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            return list(self._app(environ, start_response))


class QuietHandler(MotoRequestHandler):  # type: ignore[misc]  # moto has no types
    """Request handler without an access log: the ECS agent alone sends several requests a second."""

    def log_request(self, *_: Any) -> None:
        """Log nothing."""


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True)
@click.option("--port", type=int, required=True)
def main(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, on a loopback address only: moto's private keys are public."""
    if not host.startswith("127."):
        raise click.BadParameter("The simulated AWS listens on loopback addresses only.", param_hint="--host")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    logging.basicConfig(level=logging.WARNING)
    repairs.apply()
    app = OneAtATime(DomainDispatcherApplication(create_backend_app))
    make_server(host, port, app, threaded=True, request_handler=QuietHandler).serve_forever()


if __name__ == "__main__":
    main()
