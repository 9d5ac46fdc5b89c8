"""The node's connections: how many there are, and what one of them can make the node keep."""

import asyncio
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import StreamReader, web

from pygrid_node.errors import NodeBusy
from pygrid_node.transport.pages import ANY_ORIGIN, json_answer

_log = structlog.get_logger()

# Beyond the limit, so many connections are answered 503, and health checks as usual: a node that is full must
# not look dead. Further ones are closed.
_SURPLUS = 64
_SURPLUS_TIMEOUT = 10.0  # seconds in which such a connection has to send a request
_HEALTH_CHECKS = frozenset({"/", "/data-centric/identity/", "/data-centric/status/"})

_AT_ONCE = 64 * 1024  # bytes that are received at once; asyncio's default is four times as much
_BUFFER = 32 * 1024  # bytes of a body after which the transport is paused
_HEADERS, _HEADER = 64, 2048  # headers of a request, and bytes of each
_PIPELINED = 2  # requests of a connection that may wait for the one that is being handled


class Connections:
    """Makes the protocol of each new connection."""

    def __init__(self, server: web.Server, limit: int) -> None:
        """Serve `limit` connections with the handlers of `server`."""
        self._server = server
        self._limit = limit

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a connection that is being accepted."""
        # Those whose client has gone while its message is being handled are counted, too.
        count = len(self._server.connections)
        if count < self._limit:
            return Connection(self._server)
        return Connection(self._server, is_surplus=True) if count < self._limit + _SURPLUS else _Refused()


class Connection(web.RequestHandler):
    """A connection that keeps little, and answers what is not HTTP in JSON."""

    __slots__ = ("_body", "_received_eof", "is_surplus")

    def __init__(self, server: web.Server, *, is_surplus: bool = False) -> None:
        """Serve one client."""
        options: dict[str, Any] = {"keepalive_timeout": _SURPLUS_TIMEOUT} if is_surplus else {}
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            auto_decompress=False,
            read_bufsize=_BUFFER,
            max_headers=_HEADERS,
            max_field_size=_HEADER,
            **options,
        )
        self.is_surplus = is_surplus
        self._received_eof = False
        self._body: StreamReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Receive little at once."""
        transport.max_size = _AT_ONCE  # type: ignore[attr-defined]
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse what has been received. Disconnect a client that sends many requests at once."""
        super().data_received(data)
        if len(self._messages) > _PIPELINED:
            self.force_close()
        elif self._messages and self._current_request is not None:
            # The parser goes on to what is behind a body when the body is complete, or malformed.
            _fail(self._current_request.content)

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's own type
        """Answer a client that sends nothing more; its request may be incomplete."""
        is_idle = self._waiter is not None and not self._messages
        if self._payload_parser is not None or is_idle:  # a WebSocket, or no request
            return False
        self._received_eof = True
        if self._current_request is not None:
            _fail(self._current_request.content)
        self._end_body()
        self.close()  # after the answers
        return True

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the handler, and what aiohttp does after it."""
        super().connection_lost(exc)
        self._end_body()

    def begin(self, request: web.Request) -> None:
        """Note that the handler of a request begins."""
        self._body = request.content
        if self._received_eof:
            _fail(request.content)

    def _end_body(self) -> None:
        """Do not let aiohttp wait ten seconds for the rest of an answered request's body."""
        if self._current_request is None and self._body is not None and not self._body.is_eof():
            self._body.feed_eof()

    def handle_error(
        self,
        _request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser or aiohttp refuses."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(exc, ConnectionError):
            _log.error("request.failed", error=repr(exc))
        reason = (message or "").strip().partition("\n")[0].rstrip(":")
        answer = json_answer({"error": reason or HTTPStatus(status).phrase}, status, ANY_ORIGIN)
        answer.force_close()
        return answer


class _Refused(asyncio.Protocol):
    """Closes a connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def begin(request: web.Request) -> None:
    """Begin to handle a request.

    Raises `NodeBusy` if it came over a connection beyond the limit, and is no health check.
    """
    connection = request.protocol
    if not isinstance(connection, Connection):  # a server of aiohttp's own, in tests
        return
    connection.begin(request)
    if connection.is_surplus and (request.path not in _HEALTH_CHECKS or "Upgrade" in request.headers):
        raise NodeBusy


def _fail(content: Any) -> None:
    """Let the handler know that the rest of its request's body will not come."""
    if not content.is_eof():
        content.set_exception(web.RequestPayloadError())
        content.feed_eof()
