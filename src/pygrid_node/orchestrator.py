"""Tells the orchestration node of every cycle that ended, again and again until it is taken."""

import asyncio
import random
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
import structlog
from yarl import URL

from pygrid_node.entities import Progress
from pygrid_node.settings import MasterNode
from pygrid_node.storage.outbox import Outbox

_log = structlog.get_logger()

# Seconds; `connect` holds for the look-up of the name as well, `total` for an answer that only drips.
_TIMEOUT = aiohttp.ClientTimeout(total=20, connect=5, sock_read=10)
# Statuses that say "not now", or that change when somebody puts a credential or a route right.
_WORTH_ANOTHER_TRY = frozenset({401, 403, 404, 408, 429})


class Reception(Enum):
    """What became of one try."""

    TAKEN = auto()
    REFUSED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between tries: doubled each time up to the longest, each then shortened by up to a half."""

    first: float = 0.5
    longest: float = 30.0

    def after(self, failures: int) -> float:
        """The pause after so many failures in a row."""
        full: float = min(self.longest, self.first * 2 ** min(failures - 1, 16))
        return full * random.uniform(0.5, 1)  # noqa: S311 - spreads tries, guards nothing


PAUSES = Pauses()


class ProgressSender:
    """One task a model with messages waiting: in order for each, none waits for another's."""

    def __init__(self, outbox: Outbox, master: MasterNode, pauses: Pauses = PAUSES) -> None:
        """Send what is in `outbox` to `master`."""
        self._outbox = outbox
        self._master = master
        self._pauses = pauses
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._more = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin with what a former life of this node left in the outbox."""
        self._more.set()
        self._main = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give up the tries that run; their messages stay in the outbox."""
        tasks = [task for task in (self._main, *self._tasks.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self) -> None:
        """Look into the outbox; there is something new."""
        self._more.set()

    async def _run(self) -> None:
        # Nothing is followed and no proxy asked, so the credential goes nowhere but to the master node.
        # No limit of connections: a hundred models whose calls hang would hold up the next one.
        connector = aiohttp.TCPConnector(limit=0)
        headers = self._master.headers()
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT, headers=headers) as session:
            while True:
                await self._more.wait()
                self._more.clear()
                for process_id in await self._waiting():
                    self._look_after(session, process_id)

    async def _waiting(self) -> list[int]:
        try:
            return await asyncio.to_thread(self._outbox.waiting)
        except Exception:  # noqa: BLE001 - the top of a loop, and logged
            _log.exception("outbox_unreadable")
            await asyncio.sleep(self._pauses.longest)
            self._more.set()
            return []

    def _look_after(self, session: aiohttp.ClientSession, process_id: int) -> None:
        if process_id in self._tasks:
            return
        task = asyncio.create_task(self._send_all(session, process_id))
        self._tasks[process_id] = task
        task.add_done_callback(lambda _: self._done(process_id))

    def _done(self, process_id: int) -> None:
        del self._tasks[process_id]
        # A message may have been written after the last look.
        self._more.set()

    async def _send_all(self, session: aiohttp.ClientSession, process_id: int) -> None:
        try:
            while progress := await asyncio.to_thread(self._outbox.first, process_id):
                await self._send(session, progress)
                await asyncio.to_thread(self._outbox.remove, progress)
        except Exception:  # noqa: BLE001 - the top of a task, and logged
            _log.exception("progress_broken", process_id=process_id)
            await asyncio.sleep(self._pauses.longest)

    async def _send(self, session: aiohttp.ClientSession, progress: Progress) -> None:
        """Return when a message was taken, or when it never will be."""
        failures = 0
        while await self._post(session, progress) is Reception.FAILED:
            failures += 1
            await asyncio.sleep(self._pauses.after(failures))

    async def _post(self, session: aiohttp.ClientSession, progress: Progress) -> Reception:
        url = URL(self._master.progress_url, encoded=True)
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(
                url, data=progress.body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _log.warning("progress_failed", message=progress.body, error=type(error).__name__)
            return Reception.FAILED
        reception = _reception(status)
        _log.info("progress_sent", message=progress.body, status=status, reception=reception.name)
        return reception


def _reception(status: int) -> Reception:
    if 200 <= status < 300:
        return Reception.TAKEN
    if 400 <= status < 500 and status not in _WORTH_ANOTHER_TRY:
        return Reception.REFUSED
    return Reception.FAILED
