"""The messages that arrive over WebSocket and over HTTP alike."""

import asyncio
from typing import Any

import structlog

from pygrid_node.averaging.averager import Averager
from pygrid_node.errors import AlreadyExists, InternalError, InvalidRequest, NodeError
from pygrid_node.orchestrator import UploadCheck
from pygrid_node.training import Answer, Message, Training
from pygrid_node.uploads import upload_request

_log = structlog.get_logger()

HOST_TRAINING = "model-centric/host-training"
AUTHENTICATE = "model-centric/authenticate"
CYCLE_REQUEST = "model-centric/cycle-request"
REPORT = "model-centric/report"
KINDS = frozenset({HOST_TRAINING, AUTHENTICATE, CYCLE_REQUEST, REPORT})

# Seconds that the answer to a cycle-request waits for the averaging of a cycle, so that the worker gets into
# the next one. Clients wait 10 s (syft.js) or longer.
_PATIENCE = 3.0
# Seconds between the looks at a pending cycle, which opens after two seconds at the latest. The process that
# opens it may be another one.
_LOOKS = (0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5)


class Messages:
    """Answers messages by their kind.

    Handlers block on the database, so each runs in a thread: this is the one thread that a message needs.
    """

    def __init__(
        self,
        training: Training,
        averager: Averager,
        upload_check: UploadCheck | None,
        patience: float = _PATIENCE,
    ) -> None:
        """Accept only uploads that `upload_check` allows; None allows all."""
        self._training = training
        self._averager = averager
        self._upload_check = upload_check
        self._patience = patience

    async def answer(self, kind: str, data: Any, address: str) -> Answer:
        """Return the data of the answer to a client at `address`.

        Raises a `NodeError`: `InternalError` for a fault of the node.
        """
        if not isinstance(data, dict):
            raise InvalidRequest("'data' is required")
        try:
            if kind == HOST_TRAINING:
                return await self._host(data, address)
            if kind == CYCLE_REQUEST:
                return await self._request_cycle(data)
            handle = self._training.authenticate if kind == AUTHENTICATE else self._training.report
            return await asyncio.to_thread(handle, data)
        except NodeError:
            raise
        except Exception as error:
            _log.exception("message.failed", kind=kind, address=address)
            raise InternalError from error

    async def _host(self, data: Message, address: str) -> Answer:
        if self._upload_check is None:
            return await asyncio.to_thread(self._training.host, data)
        upload = upload_request(data, address)
        await self._upload_check.require_allowed(upload)
        try:
            answer = await asyncio.to_thread(self._training.host, data)
        except AlreadyExists:
            await self._upload_check.tell(upload, "exists")
            raise
        await self._upload_check.tell(upload, "stored")
        return answer

    async def _request_cycle(self, data: Message) -> Answer:
        reply = await asyncio.to_thread(self._training.request_cycle, data)
        if reply.averaging is not None:
            await self._averager.wait_until_closed(reply.averaging, at_most=self._patience)
            reply = await asyncio.to_thread(self._training.request_cycle, data)
        for pause in _LOOKS:
            if not reply.is_pending:
                break
            await asyncio.sleep(pause)
            reply = await asyncio.to_thread(self._training.request_cycle, data)
        return reply.answer


def error_data(kind: str, error: NodeError) -> Answer:
    """Return the data of the answer to a refused message."""
    refusal: Answer = {"status": "rejected"} if kind == CYCLE_REQUEST else {}
    return refusal | {"error": str(error)}
