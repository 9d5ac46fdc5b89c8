"""Workers that train over real sockets, and retry while the node is down."""

import asyncio
import base64
import itertools
import json
from dataclasses import dataclass
from typing import Any

import aiohttp

# Errors of a client whose node is killed or does not listen yet.
AWAY = (aiohttp.ClientError, OSError, TimeoutError, TypeError)
PAUSE = 0.02  # seconds
SPEEDS = {"ping": 8.5, "download": 46751.25, "upload": 12345.5}
# The credential of the fake orchestrator.
ORCHESTRATOR = {"Authorization": "Basic dXNAZXI6cC93"}
LIMIT = aiohttp.ClientTimeout(total=20)


class Line:
    """One device's connection to the node, over HTTP or one WebSocket.

    A request without an answer is sent again, to the next process if the node has several.
    """

    def __init__(self, session: aiohttp.ClientSession, address: str, over: str, *more: str) -> None:
        self._session = session
        self._addresses = itertools.cycle([address, *more])
        self._address = next(self._addresses)
        self._over = over
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self.on_request = lambda: None

    async def ask(self, kind: str, **data: Any) -> dict[str, Any]:
        """Send a message; return the data of its answer."""
        while True:
            self.on_request()
            try:
                return await (self._by_socket if self._over == "ws" else self._by_post)(kind, data)
            except AWAY:
                await self._try_elsewhere()

    async def get(self, what: str, **query: Any) -> bytes | None:
        """Download a body; None if it is refused."""
        while True:
            self.on_request()
            try:
                url = f"http://{self._address}/model-centric/{what}"
                async with self._session.get(
                    url, params=query, headers=ORCHESTRATOR, timeout=LIMIT
                ) as answer:
                    body = await answer.read()
                    return body if answer.ok else None
            except AWAY:
                await self._try_elsewhere()

    async def trained(self, model: str, checkpoint: int) -> bytes | None:
        """Retrieve a checkpoint like the orchestrator; None if it does not exist."""
        query = {"name": model, "version": "0.1", "checkpoint": checkpoint}
        return await self.get("retrieve-model", **query)

    async def hang_up(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    async def _try_elsewhere(self) -> None:
        await self.hang_up()
        self._address = next(self._addresses)
        await asyncio.sleep(PAUSE)

    async def _by_post(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        url = f"http://{self._address}/model-centric/{kind}"
        async with self._session.post(url, json=data, timeout=LIMIT) as answer:
            return dict(await answer.json())

    async def _by_socket(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        if self._socket is None:
            self._socket = await self._session.ws_connect(f"ws://{self._address}/", max_msg_size=0)
        await self._socket.send_str(json.dumps({"type": f"model-centric/{kind}", "data": data}))
        return dict((await self._socket.receive_json(timeout=20))["data"])


@dataclass(frozen=True)
class Assigned:
    """An assignment to a cycle."""

    proof: dict[str, str]
    model_id: int


class Phone:
    """A device that takes part in the training of one model."""

    def __init__(self, line: Line, model: str) -> None:
        self.line = line
        self.model = model
        self.worker_id: str | None = None

    async def enter(self, *, as_another: bool = False) -> Assigned | None:
        """Request until assigned to a cycle; None when the training is finished."""
        if as_another or self.worker_id is None:
            answer = await self.line.ask("authenticate", model_name=self.model, model_version="0.1")
            self.worker_id = answer["worker_id"]
        while True:
            request = {"worker_id": self.worker_id, "model": self.model, "version": "0.1"}
            answer = await self.line.ask("cycle-request", **request, **SPEEDS)
            if answer["status"] == "accepted":
                proof = {"worker_id": self.worker_id, "request_key": answer["request_key"]}
                return Assigned(proof, answer["model_id"])
            assert "error" not in answer
            if "timeout" not in answer:
                return None
            await asyncio.sleep(PAUSE)

    async def checkpoint(self, assigned: Assigned) -> bytes | None:
        """Download the checkpoint of the cycle; None if the cycle is over."""
        return await self.line.get("get-model", **assigned.proof, model_id=assigned.model_id)

    async def report(self, assigned: Assigned, diff: bytes) -> dict[str, Any]:
        """Report a diff; return the answer."""
        return await self.line.ask("report", **assigned.proof, diff=base64.b64encode(diff).decode())
