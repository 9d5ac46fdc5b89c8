"""Runs tasks one at a time on a simulated clock, which advances only while all tasks sleep."""

import heapq
import itertools
import threading
from collections.abc import Callable

from tests.fakes import FakeClock

STACK_SIZE = 256 * 1024
"""Bytes of a task's stack. There may be thousands of tasks."""


class Cancelled(BaseException):
    """Raised in every task that still sleeps when the scheduler is closed."""


class _Task:
    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()


class Scheduler:
    """Resumes the task that is due first, one task at a time, so that a seed determines the simulation.

    Each task is a thread that blocks while it sleeps. So the simulated code may call `sleep` at any depth.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._due: list[tuple[float, int, _Task]] = []
        self._numbers = itertools.count()
        self._main = _Task()
        self._current = self._main
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._is_closed = False

    def spawn(self, work: Callable[[], None], after: float = 0.0) -> None:
        """Start a task after so many seconds."""
        task = _Task()
        before = threading.stack_size(STACK_SIZE)
        thread = threading.Thread(target=self._work, args=(task, work), daemon=True)
        thread.start()
        threading.stack_size(before)
        self._threads.append(thread)
        self._push(self.clock() + after, task)

    def sleep(self, seconds: float) -> None:
        """Let other tasks run for so many seconds. Outside of a task, only advance the clock."""
        task = self._current
        if task is self._main:
            self.clock.tick(seconds)
            return
        self._push(self.clock() + seconds, task)
        if self._resume_next() is not task:
            self._wait(task)

    def run(self, seconds: float) -> None:
        """Run all tasks for so many seconds. Raises the exception that a task raised."""
        self._push(self.clock() + seconds, self._main)
        if self._resume_next() is not self._main:
            self._main.turn.acquire()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Cancel all tasks."""
        self._is_closed = True
        for _, _, task in self._due:
            task.turn.release()
        for thread in self._threads:
            thread.join()

    def _work(self, task: _Task, work: Callable[[], None]) -> None:
        try:
            self._wait(task)
            work()
        except Cancelled:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failure = error
            heapq.heappush(self._due, (self.clock(), -1, self._main))
        self._resume_next()

    def _wait(self, task: _Task) -> None:
        task.turn.acquire()
        if self._is_closed:
            raise Cancelled

    def _push(self, at: float, task: _Task) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), task))

    def _resume_next(self) -> _Task:
        """Resume the task that is due first. There always is one, at least the main one."""
        before = self._current
        at, _, task = heapq.heappop(self._due)
        self.clock.now = max(at, self.clock.now)
        self._current = task
        if task is not before:
            task.turn.release()
        return task
