"""The messages that come over WebSocket and over HTTP alike."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from pygrid_node.admission import Admission
from pygrid_node.averaging.averager import Averager
from pygrid_node.errors import CycleFull, InvalidRequest, NodeError
from pygrid_node.training import Answer, Message, Training
from pygrid_node.uploads import name_and_version

_log = structlog.get_logger()

HOST_TRAINING = "model-centric/host-training"
AUTHENTICATE = "model-centric/authenticate"
CYCLE_REQUEST = "model-centric/cycle-request"
REPORT = "model-centric/report"

# How long a worker that asks in the moment of averaging is kept waiting for the next cycle, in seconds.
# Clients give a message 10 s (syft.js) or more.
_PATIENCE = 3.0


class UnexpectedError(NodeError):
    """A fault of this node; its trace is in the log."""

    sentence = "Internal error of the node."


class Messages:
    """Answers messages by their type, away from the event loop."""

    def __init__(self, training: Training, averager: Averager, admission: Admission | None) -> None:
        """Hand messages to `training`; wait for `averager` where that helps a worker.

        Uploads have to pass `admission`; without one everybody's are taken.
        """
        self._averager = averager
        self._admission = admission
        self._handlers: Mapping[str, Callable[[Message], Answer]] = {
            HOST_TRAINING: training.host,
            AUTHENTICATE: training.authenticate,
            CYCLE_REQUEST: training.request_cycle,
            REPORT: training.report,
        }

    def knows(self, kind: str) -> bool:
        """Whether there is a message of this type."""
        return kind in self._handlers

    async def answer(self, kind: str, data: Any) -> Answer:
        """The answer's data; raises a `NodeError`, `UnexpectedError` for what is this node's own fault."""
        if not isinstance(data, dict):
            raise InvalidRequest("'data' is required")
        handler = self._handlers[kind]
        try:
            if kind == HOST_TRAINING and self._admission is not None:
                await self._admission.check(*name_and_version(data))
            return await self._patiently(handler, data)
        except NodeError:
            raise
        except Exception as error:
            _log.exception("message_failed", kind=kind)
            raise UnexpectedError from error

    async def _patiently(self, handler: Callable[[Message], Answer], data: Message) -> Answer:
        try:
            return await asyncio.to_thread(handler, data)
        except CycleFull as full:
            await self._averager.settled(full.cycle_id, within=_PATIENCE)
        try:
            return await asyncio.to_thread(handler, data)
        except CycleFull as still_full:
            return still_full.rejection


def error_data(kind: str, error: NodeError) -> Answer:
    """How a message is refused."""
    refusal: Answer = {"status": "rejected"} if kind == CYCLE_REQUEST else {}
    return refusal | {"error": str(error)}
