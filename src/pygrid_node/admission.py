"""Which uploads this node takes: those of models that the orchestration node knows for its dataset."""

import asyncio
from http import HTTPStatus

import aiohttp
import structlog
from yarl import URL

from pygrid_node.errors import MasterAway, UnknownModel
from pygrid_node.settings import MasterNode

_log = structlog.get_logger()

# Seconds for one question; an uploader waits up to a minute for its answer.
_PATIENCE = 5.0
# Of no model that is meant: it will be refused again.
_REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
_AT_ONCE = 8


class Admission:
    """Asks by a progress of 0 %, which changes nothing there, and is a credential's own business."""

    def __init__(self, master: MasterNode, patience: float = _PATIENCE) -> None:
        """Ask `master`, and wait `patience` seconds for its answer."""
        self._master = master
        self._patience = patience
        # Anybody may upload, and each upload is a question: a crowd must not become one over there.
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def check(self, name: str, version: str) -> None:
        """Return for a model that is known; raise `UnknownModel` for another.

        Raises `MasterAway` where that could not be found out.
        """
        try:
            async with asyncio.timeout(self._patience), self._turns:
                status = await self._ask(name, version)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("admission_unknown", model=name, error=type(error).__name__)
            raise MasterAway from error
        if status in _REFUSALS:
            _log.warning("upload_refused", model=name, version=version, status=status)
            raise UnknownModel
        if not 200 <= status < 300:
            _log.warning("admission_unknown", model=name, status=status)
            raise MasterAway

    async def _ask(self, name: str, version: str) -> int:
        question = {"percent_complete": 0, "model_id": name, "version": version}
        url = URL(self._master.progress_url, encoded=True)
        # As with progress, nothing is followed and no proxy asked: the credential goes nowhere else.
        async with (
            aiohttp.ClientSession(headers=self._master.headers()) as session,
            session.post(url, json=question, allow_redirects=False) as answer,
        ):
            return answer.status
