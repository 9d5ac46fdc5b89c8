"""HTTP: the aiohttp application, with messages as POST, downloads and pages as GET."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, cast

import structlog
from aiohttp import web

from pygrid_node.downloads import Downloads, Query
from pygrid_node.errors import (
    CheckpointNotFound,
    EncodingNotAccepted,
    InternalError,
    InvalidRequestKey,
    MalformedBody,
    MessageTooLarge,
    ModelNotFound,
    NodeBusy,
    NodeError,
    TooSlow,
)
from pygrid_node.storage.blobs import Blob
from pygrid_node.transport import pages
from pygrid_node.transport.connections import begin
from pygrid_node.transport.intake import SMALL, Incoming, Intake
from pygrid_node.transport.messages import (
    AUTHENTICATE,
    CYCLE_REQUEST,
    REPORT,
    Messages,
    error_data,
)
from pygrid_node.transport.pages import json_answer
from pygrid_node.transport.peers import Peers
from pygrid_node.transport.speed_test import SpeedTest
from pygrid_node.transport.websocket import WebSocketApi
from pygrid_wire import Bytes

_log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# PyGrid's clients expect status 200 for a refused message of these kinds.
_ALWAYS_OK = frozenset({CYCLE_REQUEST, REPORT})
_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    EncodingNotAccepted: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    MessageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    NodeBusy: HTTPStatus.SERVICE_UNAVAILABLE,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    ModelNotFound: HTTPStatus.UNAUTHORIZED,
    InvalidRequestKey: HTTPStatus.UNAUTHORIZED,
}
_RETRIEVAL_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    ModelNotFound: HTTPStatus.NOT_FOUND,
    CheckpointNotFound: HTTPStatus.NOT_FOUND,
}
# Known by their kind to be small, before they are read.
_SMALL_KINDS = frozenset({AUTHENTICATE, CYCLE_REQUEST})
_NO_ENCODING = frozenset({"", "identity"})
_RETRY_AFTER = "10"  # seconds
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
        intake: Intake,
        *,
        node_id: str,
        authorization: str | None,
    ) -> None:
        """Answer messages with `messages` and downloads with `downloads`; pass WebSockets to `sockets`.

        `intake` bounds the memory of messages and downloads. Checkpoints require the header
        `Authorization: <authorization>`; None requires nothing.
        """
        self._messages = messages
        self._downloads = downloads
        self._speed_test = SpeedTest(downloads.measuring_worker)
        self._sockets = sockets
        self._peers = peers
        self._intake = intake
        self._node_id = node_id
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
            web.get("/model-centric/get-model", self._download(downloads.model)),
            web.get("/model-centric/get-plan", self._download(downloads.plan)),
            web.get("/model-centric/get-protocol", self._download(downloads.protocol)),
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
        async def handle(request: web.Request) -> web.StreamResponse:
            with self._intake.message(is_small=kind in _SMALL_KINDS) as message:
                await _receive(request, message)
                # The body is JSON with any content type: clients send several.
                data = await message.parse()
                try:
                    answer = json_answer(
                        await self._messages.answer(kind, data, self._peers.address(request))
                    )
                except NodeError as error:
                    status = HTTPStatus.OK if kind in _ALWAYS_OK else _STATUS.get(type(error), 400)
                    answer = json_answer(error_data(kind, error), status=status)
            body = cast("bytes", answer.body)
            if len(body) <= SMALL:
                return answer
            async with self._intake.download():
                return await self._stream(request, len(body), iter([body]), answer.headers)

        return handle

    async def _retrieve_model(self, request: web.Request) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if self._authorization is not None and not _is_same(given, self._authorization):
            challenge = {"WWW-Authenticate": 'Basic realm="node"'}
            return json_answer(
                {"error": _CREDENTIAL_REQUIRED}, status=HTTPStatus.UNAUTHORIZED, headers=challenge
            )
        return await self._download(self._downloads.checkpoint, _RETRIEVAL_STATUS)(request)

    def _download(
        self, fetch: Callable[[Query], bytes | Blob], statuses: Mapping[type[NodeError], HTTPStatus] = _STATUS
    ) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            query: dict[str, Any] = dict(request.query)
            # PyGrid lets proxies cache a model for half a day; the workers of the next cycle would train on
            # it.
            headers = {"Cache-Control": "no-store", "Content-Type": "application/octet-stream"}
            async with self._intake.download() as hold:
                try:
                    body = await asyncio.to_thread(fetch, query)
                except NodeError as error:
                    return json_answer({"error": str(error)}, status=statuses.get(type(error), 400))
                if isinstance(body, Blob):
                    size, parts = body.size, iter(body)
                else:
                    size, parts = len(body), iter([body])
                    await hold.grow(2 * size)
                if size > SMALL:
                    return await self._stream(request, size, parts, headers)
                content = await asyncio.to_thread(b"".join, parts)
            return web.Response(body=content, headers=headers)

        return handle

    async def _stream(
        self, request: web.Request, size: int, parts: Iterator[Bytes], headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """Send a body part by part: memory holds one part, however slowly the client reads."""
        response = web.StreamResponse(headers=headers)
        response.content_length = size
        # The first part is read before the status is sent, so that a failure gets the status 500.
        part = await asyncio.to_thread(next, parts, None)
        progress = self._intake.pace.start()
        try:
            await response.prepare(request)
            while part is not None and request.method != "HEAD":
                for start in range(0, len(part), SMALL):
                    piece = memoryview(part)[start : start + SMALL]
                    async with progress.required():
                        await response.write(piece)
                    progress.moved(len(piece))
                part = await asyncio.to_thread(next, parts, None)
            await response.write_eof()
        except ConnectionResetError:  # the worker has disconnected
            pass
        except TooSlow:
            if request.transport is not None:
                request.transport.abort()
        return response


async def _receive(request: web.Request, message: Incoming) -> None:
    """Receive a body. Raises `RequestPayloadError`, and the errors of `Incoming`."""
    await message.expect(request.content_length or 0)
    while True:
        async with message.in_time():
            part = await request.content.readany()
        if not part:
            return
        await message.add(part)


def _is_same(given: str, wanted: str) -> bool:
    """Compare two `Authorization` headers in constant time; the letter case of the scheme does not matter."""
    scheme, _, credential = given.partition(" ")
    normalized = f"{scheme.capitalize()} {credential.strip()}"
    return hmac.compare_digest(normalized.encode(errors="surrogateescape"), wanted.encode())


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render every error as a JSON object with the key `error`, and answer CORS preflights."""
    try:
        begin(request)
        if request.method == "OPTIONS":
            return _preflight(request)
        _require_no_encoding(request)
        return await handler(request)
    except web.RequestPayloadError:
        return _refusal(MalformedBody())
    except NodeError as error:
        return _refusal(error)
    except web.HTTPException as error:
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return json_answer({"error": error.reason}, status=error.status, headers=allowed)
    except ConnectionResetError:
        raise
    except Exception:  # noqa: BLE001 - the last one, and logged
        _log.exception("request.failed", method=request.method, path=request.path)
        return json_answer({"error": InternalError.sentence}, status=HTTPStatus.INTERNAL_SERVER_ERROR)


def _require_no_encoding(request: web.Request) -> None:
    """Raise `EncodingNotAccepted` for a compressed body."""
    encodings = ",".join(request.headers.getall("Content-Encoding", [])).lower().split(",")
    if any(encoding.strip() not in _NO_ENCODING for encoding in encodings):
        raise EncodingNotAccepted


def _refusal(error: NodeError) -> web.Response:
    headers = {"Retry-After": _RETRY_AFTER} if isinstance(error, NodeBusy) else None
    answer = json_answer({"error": str(error)}, status=_STATUS.get(type(error), 400), headers=headers)
    if isinstance(error, MalformedBody | NodeBusy | TooSlow):
        # The body may be incomplete; and a connection less leaves room for another one.
        answer.force_close()
    return answer


def _preflight(request: web.Request) -> web.Response:
    """Allow a browser to send any header: no answer depends on the origin of a page."""
    headers = {"Access-Control-Allow-Methods": _METHODS}
    if requested := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = requested
    return web.Response(headers=headers)


async def _allow_any_origin(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(pages.ANY_ORIGIN)
