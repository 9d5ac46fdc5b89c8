"""WebSocket: one JSON object per frame, answered one by one, in order."""

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from pygrid_node.errors import NodeError
from pygrid_node.long_strings import Frame
from pygrid_node.transport.messages import HOST_TRAINING, KINDS, Messages, error_data, parse
from pygrid_node.transport.peers import Peers

# The only version of syft whose clients call this node.
_SYFT_VERSION = "0.2.9"

_CLOSE_TIMEOUT = 1.0  # seconds that a client has to answer a close


class WebSocketApi:
    """The node's side of all open connections."""

    def __init__(self, messages: Messages, peers: Peers, *, node_id: str, max_message: int) -> None:
        """Answer with `messages`. A message of more than `max_message` bytes closes its connection."""
        self._messages = messages
        self._peers = peers
        self._node_id = node_id
        self._max_message = max_message
        self._open: set[web.WebSocketResponse[bool]] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse[bool]:
        """Answer a client until it disconnects.

        aiohttp checks the length that a frame declares before it reads the frame. It closes the connection of
        a message that is too long with code 1009, and stops reading from a client whose answers are not
        ready.
        """
        socket = web.WebSocketResponse(
            max_msg_size=self._max_message + 1, decode_text=False, compress=False, timeout=_CLOSE_TIMEOUT
        )
        address = self._peers.address(request)
        await socket.prepare(request)
        self._open.add(socket)
        try:
            async for frame in socket:
                if frame.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    answer = json.dumps(await self._answer(frame.data, address))
                    # A client that has disconnected sends its message again.
                    with contextlib.suppress(ConnectionResetError):
                        await socket.send_str(answer)
        finally:
            self._open.discard(socket)
        return socket

    async def close(self) -> None:
        """Close all connections; clients connect again when the node is back."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open]
        await asyncio.gather(*closing, return_exceptions=True)

    async def _answer(self, frame: Frame, address: str) -> dict[str, Any]:
        try:
            message = await parse(frame)
        except NodeError as error:
            return {"error": str(error)}
        kind = message.get("type")
        match kind:
            case "socket-ping":
                return {"alive": "True"}
            case "get-id":
                return {"id": self._node_id, "syft_version": _SYFT_VERSION}
            case str() if kind in KINDS:
                return await self._answer_message(kind, message, address)
            case _:
                return {"error": repr(kind if "type" in message else "type")}

    async def _answer_message(self, kind: str, message: dict[str, Any], address: str) -> dict[str, Any]:
        if kind == HOST_TRAINING and "data" not in message:
            return {"error": "'data'"}
        try:
            return {"type": kind, "data": await self._messages.answer(kind, message.get("data"), address)}
        except NodeError as error:
            return {"type": kind, "data": error_data(kind, error)}
