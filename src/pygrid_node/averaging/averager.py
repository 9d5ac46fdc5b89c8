"""Closes due cycles in the background, each model by itself."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from pygrid_node.averaging.closing import CycleCloser

_log = structlog.get_logger()

# Models that are averaged at the same moment. Each gives its thread away after every diff, so that a small
# model is not held up by large ones, however many there are.
_THREADS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0  # seconds


class Averager:
    """One task a due cycle, tried until it is closed; lives on the event loop, works in threads."""

    def __init__(self, closer: CycleCloser, on_closed: Callable[[], None]) -> None:
        """Close with `closer` what `wake` names, and tell `on_closed`."""
        self._closer = closer
        self._on_closed = on_closed
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="averaging")
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Be ready to be woken."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """End between two diffs, or with the transaction that runs."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def wake(self, cycle_id: int) -> None:
        """Have a due cycle closed; nothing new if that is under way."""
        if cycle_id not in self._tasks:
            task = asyncio.create_task(self._close(cycle_id))
            self._tasks[cycle_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(cycle_id))

    def wake_from_thread(self, cycle_id: int) -> None:
        """As `wake`, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.wake, cycle_id)

    async def settled(self, cycle_id: int, *, within: float) -> None:
        """Wait until a cycle is closed, at most `within` seconds."""
        if task := self._tasks.get(cycle_id):
            await asyncio.wait({task}, timeout=within)

    async def _close(self, cycle_id: int) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._step_by_step(self._closer.close(cycle_id))
            except Exception:  # noqa: BLE001 - the top of a loop, and logged
                _log.exception("averaging_failed", cycle_id=cycle_id, next_try_in=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._on_closed()
                return

    async def _step_by_step(self, steps: Iterator[None]) -> None:
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(self._threads, _has_more, steps):
            pass


def _has_more(steps: Iterator[None]) -> bool:
    """Take a step; whether it was not the last one."""
    return next(steps, _END) is not _END


_END = object()
