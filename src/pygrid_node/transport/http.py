"""HTTP: the aiohttp application, with messages as POST, downloads and pages as GET."""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import web

from pygrid_node.downloads import Downloads, Query
from pygrid_node.errors import (
    CheckpointNotFound,
    InternalError,
    InvalidRequestKey,
    MessageTooLarge,
    ModelNotFound,
    NodeError,
)
from pygrid_node.storage.blobs import PART, Blob
from pygrid_node.transport import pages
from pygrid_node.transport.messages import (
    AUTHENTICATE,
    CYCLE_REQUEST,
    REPORT,
    Messages,
    error_data,
    parse,
)
from pygrid_node.transport.pages import json_answer
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.speed_test import SpeedTest
from pygrid_node.transport.websocket import WebSocketApi

_log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# PyGrid's clients expect status 200 for a refused message of these kinds.
_ALWAYS_OK = frozenset({CYCLE_REQUEST, REPORT})
_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    MessageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ModelNotFound: HTTPStatus.UNAUTHORIZED,
    InvalidRequestKey: HTTPStatus.UNAUTHORIZED,
}
_RETRIEVAL_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    ModelNotFound: HTTPStatus.NOT_FOUND,
    CheckpointNotFound: HTTPStatus.NOT_FOUND,
}
_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_CREDENTIAL_REQUIRED = "Only the orchestration service may retrieve models, with its credential."


class HttpApi:
    """The application; every answer allows requests of any origin (CORS)."""

    def __init__(
        self,
        messages: Messages,
        downloads: Downloads,
        sockets: WebSocketApi,
        peers: Peers,
        *,
        node_id: str,
        max_message: int,
        authorization: str | None,
    ) -> None:
        """Answer messages with `messages` and downloads with `downloads`; pass WebSockets to `sockets`.

        Checkpoints require the header `Authorization: <authorization>`; None requires nothing.
        """
        self._messages = messages
        self._downloads = downloads
        self._speed_test = SpeedTest(downloads.measuring_worker)
        self._sockets = sockets
        self._peers = peers
        self._node_id = node_id
        self._max_message = max_message
        self._authorization = authorization

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[_answer_errors])
        app.add_routes(self._routes())
        app.on_response_prepare.append(_allow_any_origin)
        return app

    def _routes(self) -> list[web.RouteDef]:
        downloads = self._downloads
        return [
            web.get("/", self._home),
            web.get("/data-centric/identity/", self._identity),
            web.get("/data-centric/status/", self._status),
            *(web.post(f"/{kind}", self._message(kind)) for kind in (AUTHENTICATE, CYCLE_REQUEST, REPORT)),
            web.get("/model-centric/speed-test", self._speed_test.send, allow_head=False),
            web.post("/model-centric/speed-test", self._speed_test.receive),
            web.get("/model-centric/get-model", _download(downloads.model)),
            web.get("/model-centric/get-plan", _download(downloads.plan)),
            web.get("/model-centric/get-protocol", _download(downloads.protocol)),
            web.get("/model-centric/retrieve-model", self._retrieve_model),
        ]

    async def _home(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._sockets.serve(request)
        return pages.home()

    async def _identity(self, _request: web.Request) -> web.Response:
        return json_answer({"success": True, "identity": self._node_id})

    async def _status(self, _request: web.Request) -> web.Response:
        return json_answer({"success": True, "status": "OpenGrid"})

    def _message(self, kind: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            # The body is JSON with any content type: clients send several.
            data = await parse(await self._body(request))
            try:
                return json_answer(await self._messages.answer(kind, data, self._peers.address(request)))
            except NodeError as error:
                status = HTTPStatus.OK if kind in _ALWAYS_OK else _STATUS.get(type(error), 400)
                return json_answer(error_data(kind, error), status=status)

        return handle

    async def _body(self, request: web.Request) -> bytearray:
        """Read a body into one buffer; aiohttp's `read()` holds it twice. Raises `MessageTooLarge`."""
        body = bytearray()
        if (request.content_length or 0) > self._max_message:
            raise MessageTooLarge(self._max_message)
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_message:
                raise MessageTooLarge(self._max_message)
        return body

    async def _retrieve_model(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if self._authorization is not None and not _is_same(given, self._authorization):
            challenge = {"WWW-Authenticate": 'Basic realm="node"'}
            return json_answer(
                {"error": _CREDENTIAL_REQUIRED}, status=HTTPStatus.UNAUTHORIZED, headers=challenge
            )
        return await _download(self._downloads.checkpoint, _RETRIEVAL_STATUS)(request)


def _is_same(given: str, wanted: str) -> bool:
    """Compare two `Authorization` headers in constant time; the letter case of the scheme does not matter."""
    scheme, _, credential = given.partition(" ")
    normalized = f"{scheme.capitalize()} {credential.strip()}"
    return hmac.compare_digest(normalized.encode(errors="surrogateescape"), wanted.encode())


def _download(
    fetch: Callable[[Query], bytes | Blob], statuses: Mapping[type[NodeError], HTTPStatus] = _STATUS
) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        query: dict[str, Any] = dict(request.query)
        try:
            body = await asyncio.to_thread(fetch, query)
        except NodeError as error:
            return json_answer({"error": str(error)}, status=statuses.get(type(error), 400))
        # PyGrid lets proxies cache a model for half a day; the workers of the next cycle would train on it.
        headers = {"Cache-Control": "no-store", "Content-Type": "application/octet-stream"}
        if isinstance(body, bytes):
            return web.Response(body=body, headers=headers)
        if body.size <= PART:
            return web.Response(body=await asyncio.to_thread(body.read), headers=headers)
        return await _stream(request, body, headers)

    return handle


async def _stream(request: web.Request, body: Blob, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a state part by part: memory holds one part, however slowly the worker reads."""
    response = web.StreamResponse(headers=headers)
    response.content_length = body.size
    parts = iter(body)
    # The first part is read before the status is sent, so that a failure gets the status 500.
    part = await asyncio.to_thread(next, parts, None)
    with contextlib.suppress(ConnectionResetError):  # the worker has disconnected
        await response.prepare(request)
        while part is not None and request.method != "HEAD":
            await response.write(part)
            part = await asyncio.to_thread(next, parts, None)
        await response.write_eof()
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render every error as a JSON object with the key `error`, and answer CORS preflights."""
    if request.method == "OPTIONS":
        return _preflight(request)
    try:
        return await handler(request)
    except NodeError as error:
        return json_answer({"error": str(error)}, status=_STATUS.get(type(error), 400))
    except web.HTTPException as error:
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return json_answer({"error": error.reason}, status=error.status, headers=allowed)
    except ConnectionResetError:
        raise
    except Exception:  # noqa: BLE001 - the last one, and logged
        _log.exception("request.failed", method=request.method, path=request.path)
        return json_answer({"error": InternalError.sentence}, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _preflight(request: web.Request) -> web.Response:
    """Allow a browser to send any header: no answer depends on the origin of a page."""
    headers = {"Access-Control-Allow-Methods": _METHODS}
    if requested := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = requested
    return web.Response(headers=headers)


async def _allow_any_origin(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"
