"""Has cycles averaged that are due without a report: their time is over, or a former life left them."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from pygrid_node.cycle_rules import pause
from pygrid_node.storage.cycles import CycleStore

_log = structlog.get_logger()

_PAUSE_AFTER_FAULT = 30.0  # seconds


class Timekeeper:
    """One timer a process, set to when the next open cycle's time is over; lives on the event loop.

    It looks into the database at its start, when the timer ends, and when it is told that a cycle was opened,
    and never just so: a database that is asked now and then can't pause. Several processes may wake for the
    same cycle; it is closed once.
    """

    def __init__(
        self, cycles: CycleStore, wake: Callable[[int], None], clock: Callable[[], float] = time.time
    ) -> None:
        """Name the due ones of `cycles` to `wake`."""
        self._cycles = cycles
        self._wake = wake
        self._clock = clock
        self._again = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Name what is due now, and set the timer."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Name nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        """Set the timer anew; a cycle was opened."""
        self._again.set()

    def look_from_thread(self) -> None:
        """As `look`, from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.look)

    async def _run(self) -> None:
        while True:
            self._again.clear()
            seconds = await self._name_due()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), seconds)

    async def _name_due(self) -> float | None:
        """Seconds until the next look."""
        now = self._clock()
        try:
            due = await asyncio.to_thread(self._cycles.due, now)
            next_end = await asyncio.to_thread(self._cycles.next_end, now)
        except Exception:  # noqa: BLE001 - the top of a loop, and logged
            _log.exception("cycles_unreadable", next_try_in=_PAUSE_AFTER_FAULT)
            return _PAUSE_AFTER_FAULT
        for cycle_id in due:
            self._wake(cycle_id)
        return pause(next_end, self._clock())
