"""Closes cycles in the background when they are due."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from pygrid_node.averaging.closing import CycleCloser
from pygrid_node.backoff import BACKOFF, Backoff
from pygrid_node.storage.cycles import CycleStore

_log = structlog.get_logger()

# Averaging has threads of its own, so that requests never wait for a free thread while large models are
# averaged.
_THREADS = 4
# At most one large averaging is in progress, so that what the setting MAX_AVERAGING_BYTES allows is allowed
# once, and that of two whose memory the process has not survived, one is tried at a time. The small ones have
# at most 8 MiB of arrays each.
_LARGE_AT_ONCE, _SMALL_AT_ONCE = 1, 16
# Seconds after which a thread goes to the next model: small models do not wait for large ones, however many.
_TIME_SLICE = 0.05


class Averager:
    """One task per due cycle, repeated until the cycle is closed, and one timer for cycles that end by time.

    The timer is set to the next end of a cycle, or to the opening of a pending one, because the end of that
    moves forward when it opens earlier. The node reads its database at the start, when the
    timer ends and when a cycle was opened, and never periodically: a serverless database that is queried now
    and then cannot pause. Replicas may wake for the same cycle; it is closed once.
    """

    def __init__(
        self,
        closer: CycleCloser,
        cycles: CycleStore,
        on_closed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.time,
        backoff: Backoff = BACKOFF,
    ) -> None:
        """Close cycles with `closer`, and call `on_closed` on the event loop after each."""
        self._closer = closer
        self._cycles = cycles
        self._on_closed = on_closed
        self._clock = clock
        self._backoff = backoff
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._small = asyncio.Semaphore(_SMALL_AT_ONCE)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="averaging")
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Close the cycles that are due now, and set the timer."""
        self._loop = asyncio.get_running_loop()
        self._timer = asyncio.create_task(self._run_timer())

    async def stop(self) -> None:
        """Stop after the steps that run now; a cycle that is not closed stays due."""
        tasks = [task for task in (self._timer, *self._tasks.values()) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    def cycle_is_due(self, cycle_id: int) -> None:
        """Close a cycle soon. May be called from any thread, and again for the same cycle."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin, cycle_id)

    def cycle_was_opened(self) -> None:
        """Set the timer again. May be called from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait_until_closed(self, cycle_id: int, *, at_most: float) -> None:
        """Wait for a cycle that is being closed, for `at_most` seconds."""
        if task := self._tasks.get(cycle_id):
            await asyncio.wait({task}, timeout=at_most)

    def _begin(self, cycle_id: int) -> None:
        if cycle_id not in self._tasks:
            task = asyncio.create_task(self._close(cycle_id))
            self._tasks[cycle_id] = task
            task.add_done_callback(lambda _: self._tasks.pop(cycle_id))

    async def _close(self, cycle_id: int) -> None:
        loop, failures = asyncio.get_running_loop(), 0
        while True:
            try:
                is_large = await loop.run_in_executor(self._threads, self._closer.is_large, cycle_id)
                async with self._large if is_large else self._small:
                    steps = self._closer.close(cycle_id)
                    while await loop.run_in_executor(self._threads, _run_for_a_slice, steps):
                        pass
            except Exception:  # noqa: BLE001 - the top of a task, and logged
                failures += 1
                pause = self._backoff.after(failures)
                _log.exception("averaging.failed", cycle_id=cycle_id, next_try_in=pause)
                await asyncio.sleep(pause)
            else:
                self._changed.set()
                self._on_closed()
                return

    async def _run_timer(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            try:
                pause = await self._close_due_cycles()
                failures = 0
            except Exception:  # noqa: BLE001 - the top of a loop, and logged
                failures += 1
                pause = self._backoff.after(failures)
                _log.exception("timer.failed", next_try_in=pause)
            # asyncio.wait_for of Python 3.11 ignores a cancellation at the moment when the event is set.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def _close_due_cycles(self) -> float | None:
        """Return the seconds until the next cycle ends or opens; None if none will by time."""
        open_cycles = await asyncio.to_thread(self._cycles.all_open)
        now = self._clock()
        for cycle in open_cycles:
            if cycle.is_due(now):
                self._begin(cycle.id)
        times = (time for cycle in open_cycles for time in (cycle.opens_at, cycle.ends_at))
        return min((time - now for time in times if time is not None and time > now), default=None)


def _run_for_a_slice(steps: Iterator[None]) -> bool:
    """Take steps for one time slice; return whether there are more."""
    end = time.monotonic() + _TIME_SLICE
    return any(time.monotonic() >= end for _ in steps)
