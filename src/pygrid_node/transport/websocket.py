"""WebSocket: one JSON object a text frame, answered one by one, in order."""

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from pygrid_node.errors import NodeError
from pygrid_node.long_strings import parse_json
from pygrid_node.longtext import Frame
from pygrid_node.transport.frames import MessageTooLarge, Socket
from pygrid_node.transport.messages import HOST_TRAINING, Messages, error_data

# The version that clients ask for; they know no other server.
SYFT_VERSION = "0.2.9"

_CLOSING_TIME = 1.0  # seconds that a client has to answer a close


class WebSocketApi:
    """The node's side of every open connection."""

    def __init__(self, messages: Messages, *, node_id: str, max_frame: int) -> None:
        """Answer with `messages`; frames of more than `max_frame` bytes end their connection."""
        self._messages = messages
        self._node_id = node_id
        self._max_frame = max_frame
        self._open: set[Socket] = set()

    async def serve(self, request: web.Request) -> Socket:
        """Answer a client until it goes."""
        socket = Socket(max_frame=self._max_frame, compress=False, timeout=_CLOSING_TIME)
        await socket.prepare(request)
        self._open.add(socket)
        try:
            async for frame in socket:
                if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._reply(socket, frame.data)
        finally:
            self._open.discard(socket)
        return socket

    async def close(self) -> None:
        """End all connections; their clients come back to the node's next life."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _reply(self, socket: Socket, data: bytes) -> None:
        try:
            reply = json.dumps(await self._answer(socket.contents(data)))
        except MessageTooLarge as error:
            # Its type is not known; clients look for an error in `data`, others at the top.
            reply = json.dumps({"error": str(error), "data": {"error": str(error)}})
        # A client that has gone meanwhile will ask again.
        with contextlib.suppress(ConnectionResetError):
            await socket.send_str(reply)

    async def _answer(self, text: Frame) -> dict[str, Any]:
        try:
            message = await asyncio.to_thread(parse_json, text)
        except NodeError as error:
            return {"error": str(error)}
        kind = message.get("type")
        match kind:
            case "socket-ping":
                return {"alive": "True"}
            case "get-id":
                return {"id": self._node_id, "syft_version": SYFT_VERSION}
            case str() if self._messages.knows(kind):
                return await self._answer_message(kind, message)
            case _:
                return {"error": repr(kind if "type" in message else "type")}

    async def _answer_message(self, kind: str, message: dict[str, Any]) -> dict[str, Any]:
        if kind == HOST_TRAINING and "data" not in message:
            return {"error": "'data'"}
        try:
            return {"type": kind, "data": await self._messages.answer(kind, message.get("data"))}
        except NodeError as error:
            return {"type": kind, "data": error_data(kind, error)}
