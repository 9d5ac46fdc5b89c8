"""Requests to the orchestrator: may this model be uploaded, how did that end, and a cycle has ended."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Literal
from weakref import WeakValueDictionary

import aiohttp
import structlog
from yarl import URL

from pygrid_node.backoff import BACKOFF, Backoff
from pygrid_node.entities import Progress, UploadRequest
from pygrid_node.errors import OrchestratorUnreachable, UploadNotAllowed
from pygrid_node.refusals import Refusals, network_of, plain_address
from pygrid_node.settings import OrchestratorLocation
from pygrid_node.storage.cycles import Outbox

_log = structlog.get_logger()

_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)
# Answers that refuse a model permanently.
_REFUSALS = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    }
)
_UPLOAD_TIMEOUT = 5.0  # seconds; an uploader waits up to a minute for its answer
# Any client may upload, and each upload is a request to the orchestrator.
_UPLOADS_AT_ONCE = 8
_TELL_TIMEOUT = 2.0  # seconds; the uploader waits for its answer meanwhile
# Seconds; `connect` includes the name's resolution, `total` ends an answer that arrives byte by byte.
_PROGRESS_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5, sock_read=10)
# Client errors that pass when an operator repairs a credential or a route, or when the load falls.
_TEMPORARY = frozenset({401, 403, 404, 408, 429})


class UploadCheck:
    """Asks the orchestrator whether this node may host a model, and tells it how the upload ended."""

    def __init__(
        self,
        location: OrchestratorLocation,
        timeout: float = _UPLOAD_TIMEOUT,
        tell_timeout: float = _TELL_TIMEOUT,
        refusals: Refusals | None = None,
    ) -> None:
        """Ask the service at `location`. The time-outs in seconds are for a question and for a result."""
        self._location = location
        self._timeout = timeout
        self._tell_timeout = tell_timeout
        self._refusals = refusals or Refusals()
        self._turns = asyncio.Semaphore(_UPLOADS_AT_ONCE)
        # A network asks one question at a time: its junk does not take the turns of other networks, and its
        # last allowed refusal is known before its next question.
        self._turns_of_networks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def require_allowed(self, upload: UploadRequest) -> None:
        """Raise `UploadNotAllowed` if the orchestrator refuses the upload, or has just refused it.

        Raises `TooManyRefusedUploads` without a question if it has refused too many from the same network,
        and `OrchestratorUnreachable` if its answer is missing or is not about the model.
        """
        turn = self._turns_of_networks.setdefault(network_of(upload.address), asyncio.Lock())
        try:
            async with asyncio.timeout(self._timeout), turn:
                self._refusals.require_unknown(upload)
                async with self._turns:
                    status = await self._send(_question(upload))
                if status in _REFUSALS:
                    self._refusals.add(upload)
        except _FAILURES as error:
            _log.warning("upload.check_failed", model=upload.name, error=type(error).__name__)
            raise OrchestratorUnreachable from error
        if status in _REFUSALS:
            _log.warning("upload.refused", model=upload.name, address=upload.address, status=status)
            raise UploadNotAllowed
        if not 200 <= status < 300:
            _log.warning("upload.check_failed", model=upload.name, status=status)
            raise OrchestratorUnreachable

    async def tell(self, upload: UploadRequest, result: Literal["stored", "exists"]) -> None:
        """Tell the orchestrator how an allowed upload ended, once.

        A failure is logged only: the orchestrator also asks the node which models it hosts.
        """
        try:
            async with asyncio.timeout(self._tell_timeout):
                status = await self._send(_question(upload) | {"result": result})
        except _FAILURES as error:
            _log.warning("upload.tell_failed", model=upload.name, result=result, error=type(error).__name__)
        else:
            _log.info("upload.told", model=upload.name, result=result, status=status)

    async def _send(self, message: dict[str, str]) -> int:
        async with _session(self._location) as session:
            return await _post(session, self._location, "model_upload", json=message)


def _question(upload: UploadRequest) -> dict[str, str]:
    question = {
        "model_id": upload.name,
        "version": upload.version,
        "address": plain_address(upload.address),
    }
    return question if upload.token is None else question | {"token": upload.token}


class ProgressSender:
    """Sends the progress messages in the outbox until the orchestrator accepts them.

    The messages of one model are sent in order, by one task at a time. No model waits for another one's.
    """

    def __init__(
        self,
        outbox: Outbox,
        location: OrchestratorLocation,
        backoff: Backoff = BACKOFF,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Send the messages in `outbox` to the service at `location`."""
        self._outbox = outbox
        self._location = location
        self._backoff = backoff
        self._clock = clock
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start with the messages that were in the outbox when the node last ended."""
        self._changed.set()
        self._main = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel the attempts that run; their messages stay in the outbox."""
        tasks = [task for task in (self._main, *self._tasks.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Read the outbox again, because a message was added."""
        self._changed.set()

    async def _run(self) -> None:
        failures = 0
        async with _session(self._location, timeout=_PROGRESS_TIMEOUT) as session:
            while True:
                await self._changed.wait()
                self._changed.clear()
                # When the task of a model that is busy now ends, this loop runs again.
                busy = set(self._tasks)
                try:
                    messages = await asyncio.to_thread(self._outbox.oldest_of_each_model)
                except Exception:  # noqa: BLE001 - the top of a loop, and logged
                    failures += 1
                    _log.exception("outbox.read_failed")
                    await asyncio.sleep(self._backoff.after(failures))
                    self._changed.set()
                    continue
                failures = 0
                for progress in messages:
                    if progress.model_id not in busy:
                        task = asyncio.create_task(self._deliver(session, progress))
                        self._tasks[progress.model_id] = task

    async def _deliver(self, session: aiohttp.ClientSession, progress: Progress) -> None:
        """Send a message until it is accepted or refused permanently, then delete it.

        That opens the model's next cycle.
        """
        failures = 0
        while True:
            try:
                if await self._is_done(session, progress):
                    await asyncio.to_thread(self._outbox.delete, progress, self._clock())
                    break
            except Exception:  # noqa: BLE001 - the top of a task, and logged
                _log.exception("progress.failed", message=progress.body)
            failures += 1
            await asyncio.sleep(self._backoff.after(failures))
        del self._tasks[progress.model_id]
        self._changed.set()

    async def _is_done(self, session: aiohttp.ClientSession, progress: Progress) -> bool:
        try:
            headers = {"Content-Type": "application/json"}
            status = await _post(
                session, self._location, "model_progress", data=progress.body, headers=headers
            )
        except _FAILURES as error:
            _log.warning("progress.send_failed", message=progress.body, error=type(error).__name__)
            return False
        _log.info("progress.sent", message=progress.body, status=status)
        return 200 <= status < 300 or (400 <= status < 500 and status not in _TEMPORARY)


def _session(location: OrchestratorLocation, **options: Any) -> aiohttp.ClientSession:
    """Open a session that sends the credential.

    Its connections are not limited: a hundred models whose requests hang would delay the next one.
    """
    headers = {"Authorization": location.authorization} if location.authorization else {}
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers, **options)


async def _post(
    session: aiohttp.ClientSession, location: OrchestratorLocation, route: str, **request: Any
) -> int:
    """Send a request, return its status. No redirect, no proxy: the credential goes nowhere else."""
    url = URL(f"{location.url}/{route}", encoded=True)
    async with session.post(url, allow_redirects=False, **request) as answer:
        return answer.status
