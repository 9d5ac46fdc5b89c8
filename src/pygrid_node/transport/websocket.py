"""WebSocket: one JSON object per message, answered one by one, in order."""

import asyncio
import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any, cast

from aiohttp import WSCloseCode, web

from pygrid_node.errors import MessageTooLarge, NodeBusy, NodeError, TooSlow
from pygrid_node.transport.frames import Closed, ProtocolViolation, WebSocket
from pygrid_node.transport.intake import SMALL, Incoming, Intake
from pygrid_node.transport.messages import HOST_TRAINING, KINDS, REPORT, Messages, error_data
from pygrid_node.transport.peers import Peers

# The only version of syft whose clients call this node.
_SYFT_VERSION = "0.2.9"

_LONGEST_REQUEST_ID = 128  # characters
_CLOSE_TIMEOUT = 1.0  # seconds that a client has to answer a close
# Codes of messages that are refused while they are received.
_CODES: Mapping[type[NodeError], WSCloseCode] = {
    MessageTooLarge: WSCloseCode.MESSAGE_TOO_BIG,
    NodeBusy: WSCloseCode.TRY_AGAIN_LATER,
    TooSlow: WSCloseCode.POLICY_VIOLATION,
}


class WebSocketApi:
    """The node's side of all open connections."""

    def __init__(self, messages: Messages, peers: Peers, intake: Intake, *, node_id: str) -> None:
        """Answer with `messages` what `intake` lets in."""
        self._messages = messages
        self._peers = peers
        self._intake = intake
        self._node_id = node_id
        self._open: dict[WebSocket, asyncio.Task[Any]] = {}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a client until it disconnects.

        The connection of a message that is too long, or that arrives too slowly, is closed. Nothing is read
        from a client whose answer is not ready.
        """
        address = self._peers.address(request)
        socket = await WebSocket.accept(request)
        self._open[socket] = cast("asyncio.Task[Any]", asyncio.current_task())
        try:
            while True:
                await self._exchange(socket, address)
        except Closed:
            pass
        except ProtocolViolation:
            await _close(socket, WSCloseCode.PROTOCOL_ERROR)
        except NodeError as error:
            await _close(socket, _CODES.get(type(error), WSCloseCode.INTERNAL_ERROR), str(error))
        finally:
            socket.is_closing = True
            del self._open[socket]
        return socket.response

    async def close(self) -> None:
        """Close all connections; clients connect again when the node is back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*(socket.start_close(WSCloseCode.GOING_AWAY) for socket in self._open))
                if self._open:
                    await asyncio.wait(self._open.values())
        for socket in self._open:
            socket.disconnect()

    async def _exchange(self, socket: WebSocket, address: str) -> None:
        with self._intake.message() as message:
            await socket.receive(message)
            answer = json.dumps(await self._answer(message, address))
        if len(answer) <= SMALL:
            await socket.send(answer)
            return
        async with self._intake.download(), self._intake.pace.start().required():
            await socket.send(answer)

    async def _answer(self, message: Incoming, address: str) -> dict[str, Any]:
        try:
            value = await message.parse()
        except NodeError as error:
            return {"error": str(error)}
        return await self._reply(message, value, address) | _request_id(value)

    async def _reply(self, message: Incoming, value: dict[str, Any], address: str) -> dict[str, Any]:
        kind = value.get("type")
        if isinstance(kind, str) and kind in KINDS:
            return await self._answer_message(kind, message, value, address)
        try:
            message.require_small()
        except MessageTooLarge as error:
            return {"error": str(error)}
        match kind:
            case "socket-ping":
                return {"alive": "True"}
            case "get-id":
                return {"id": self._node_id, "syft_version": _SYFT_VERSION}
            case _:
                return {"error": repr(kind if "type" in value else "type")}

    async def _answer_message(
        self, kind: str, message: Incoming, value: dict[str, Any], address: str
    ) -> dict[str, Any]:
        if kind == HOST_TRAINING and "data" not in value:
            return {"error": "'data'"}
        try:
            if kind not in (HOST_TRAINING, REPORT):
                message.require_small()
            return {"type": kind, "data": await self._messages.answer(kind, value.get("data"), address)}
        except NodeError as error:
            return {"type": kind, "data": error_data(kind, error)}


async def _close(socket: WebSocket, code: WSCloseCode, reason: str = "") -> None:
    """Say why the connection is closed, and give the client a moment to read it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await socket.start_close(code, reason)
            await socket.discard()


def _request_id(message: dict[str, Any]) -> dict[str, Any]:
    """Return what newer clients of syft find the message of an answer by, if it is a short text or number."""
    value = message.get("request_id")
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if (is_number or isinstance(value, str)) and len(str(value)) <= _LONGEST_REQUEST_ID:
        return {"request_id": value}
    return {}
