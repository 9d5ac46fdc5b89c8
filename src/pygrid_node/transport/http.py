"""HTTP: the workers' messages as POST, downloads and pages as GET."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web

from pygrid_node.downloads import Downloads, Query
from pygrid_node.errors import InvalidRequestKey, ModelNotFound, NodeError, ProcessNotFound
from pygrid_node.long_strings import parse_json
from pygrid_node.storage.blobs import PART, Blob
from pygrid_node.transport import speed_test
from pygrid_node.transport.answers import json_answer
from pygrid_node.transport.credential import with_credential
from pygrid_node.transport.frames import MessageTooLarge
from pygrid_node.transport.messages import (
    AUTHENTICATE,
    CYCLE_REQUEST,
    REPORT,
    Messages,
    error_data,
)
from pygrid_node.transport.pages import HOME
from pygrid_node.transport.websocket import WebSocketApi

# A message's error is an answer like any other to the clients that were written against the original.
_ALWAYS_OK = frozenset({CYCLE_REQUEST, REPORT})


class HttpApi:
    """The routes, all with CORS for any origin (see `app.py`)."""

    def __init__(
        self,
        messages: Messages,
        downloads: Downloads,
        sockets: WebSocketApi,
        *,
        node_id: str,
        max_body: int,
        authorization: str | None,
    ) -> None:
        """Answer messages with `messages` and downloads with `downloads`; hand WebSockets to `sockets`.

        Trained models are for who sends the header `authorization`; where it is None, for everybody.
        """
        self._messages = messages
        self._downloads = downloads
        self._sockets = sockets
        self._node_id = node_id
        self._max_body = max_body
        self._authorization = authorization

    def routes(self) -> list[web.RouteDef]:
        """What is served where."""
        downloads = self._downloads
        retrieve = _download(downloads.checkpoint, _RETRIEVAL_STATUS)
        return [
            web.get("/", self._home),
            web.get("/data-centric/identity/", self._identity),
            web.get("/data-centric/status/", self._status),
            *(web.post(f"/{kind}", self._message(kind)) for kind in (AUTHENTICATE, CYCLE_REQUEST, REPORT)),
            web.get("/model-centric/speed-test", speed_test.send_sample, allow_head=False),
            web.post("/model-centric/speed-test", speed_test.take_sample),
            web.get("/model-centric/get-model", _download(downloads.model)),
            web.get("/model-centric/get-plan", _download(downloads.plan)),
            web.get("/model-centric/get-protocol", _download(downloads.protocol)),
            web.get("/model-centric/retrieve-model", with_credential(self._authorization, retrieve)),
        ]

    async def _home(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._sockets.serve(request)
        return web.Response(text=HOME, content_type="text/html")

    async def _identity(self, _request: web.Request) -> web.Response:
        return json_answer({"success": True, "identity": self._node_id})

    async def _status(self, _request: web.Request) -> web.Response:
        return json_answer({"success": True, "status": "OpenGrid"})

    def _message(self, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        """A message's route. The body is JSON whatever its content type says, as clients rely on."""

        async def handle(request: web.Request) -> web.Response:
            data = await asyncio.to_thread(parse_json, await self._body(request))
            try:
                return json_answer(await self._messages.answer(kind, data))
            except NodeError as error:
                status = HTTPStatus.OK if kind in _ALWAYS_OK else status_of(error)
                return json_answer(error_data(kind, error), status=status)

        return handle

    async def _body(self, request: web.Request) -> bytearray:
        """A message's bytes, once; aiohttp's own way has them twice. Raises `MessageTooLarge`."""
        body = bytearray()
        if (request.content_length or 0) > self._max_body:
            raise MessageTooLarge(self._max_body)
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self._max_body:
                raise MessageTooLarge(self._max_body)
        return body


_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    MessageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ProcessNotFound: HTTPStatus.UNAUTHORIZED,
    InvalidRequestKey: HTTPStatus.UNAUTHORIZED,
}
_RETRIEVAL_STATUS: Mapping[type[NodeError], HTTPStatus] = {
    ProcessNotFound: HTTPStatus.NOT_FOUND,
    ModelNotFound: HTTPStatus.NOT_FOUND,
}


def status_of(error: NodeError, table: Mapping[type[NodeError], HTTPStatus] = _STATUS) -> HTTPStatus:
    """The status of an error's answer."""
    return table.get(type(error), HTTPStatus.BAD_REQUEST)


def _download(
    fetch: Callable[[Query], bytes | Blob], table: Mapping[type[NodeError], HTTPStatus] = _STATUS
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        query: dict[str, Any] = dict(request.query)
        try:
            body = await asyncio.to_thread(fetch, query)
        except NodeError as error:
            return json_answer({"error": str(error)}, status=status_of(error, table))
        # The original lets proxies keep a model for half a day; the next cycle's workers would train on it.
        headers = {"Cache-Control": "no-store", "Content-Type": "application/octet-stream"}
        if isinstance(body, bytes):
            return web.Response(body=body, headers=headers)
        if body.size <= PART:
            return web.Response(body=await asyncio.to_thread(body.read), headers=headers)
        return await _stream(request, body, headers)

    return handle


async def _stream(request: web.Request, body: Blob, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a state part by part, so that the whole of it is never in memory, however slow a worker's line."""
    response = web.StreamResponse(headers=headers)
    response.content_length = body.size
    parts = iter(body)
    # The first one before the status, so that a failure is not a success that breaks off.
    part = await asyncio.to_thread(next, parts, None)
    with contextlib.suppress(ConnectionResetError):  # a worker that has gone meanwhile
        await response.prepare(request)
        while part is not None and request.method != "HEAD":
            await response.write(part)
            part = await asyncio.to_thread(next, parts, None)
        await response.write_eof()
    return response
