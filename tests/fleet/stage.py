"""Actors that take turns on one clock: time goes by only while all of them sleep."""

import heapq
import itertools
import threading
from collections.abc import Callable

from tests.fakes import FakeClock

STACK = 256 * 1024
"""Bytes of an actor's stack; there may be thousands of them."""


class Over(BaseException):
    """The play is over: raised in whoever still sleeps."""


class _Actor:
    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()


class Stage:
    """Gives the turn to whoever wakes next, to one at a time; so the same seed gives the same play.

    Each actor is a thread that blocks while it sleeps: the code that is played may sleep anywhere.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._due: list[tuple[float, int, _Actor]] = []
        self._numbers = itertools.count()
        self._director = _Actor()
        self._on_stage = self._director
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._is_over = False

    def enter(self, play: Callable[[], None], after: float = 0.0) -> None:
        """Let an actor begin, `after` so many seconds."""
        actor = _Actor()
        before = threading.stack_size(STACK)
        thread = threading.Thread(target=self._play, args=(actor, play), daemon=True)
        thread.start()
        threading.stack_size(before)
        self._threads.append(thread)
        self._push(self.clock() + after, actor)

    def sleep(self, seconds: float) -> None:
        """Let others play for so many seconds. Whoever isn't an actor only moves the clock."""
        me = self._on_stage
        if me is self._director:
            self.clock.tick(seconds)
            return
        self._push(self.clock() + seconds, me)
        if self._next() is not me:
            self._await(me)

    def run(self, seconds: float) -> None:
        """Play for so many seconds. Raises what an actor raised."""
        self._push(self.clock() + seconds, self._director)
        if self._next() is not self._director:
            self._director.turn.acquire()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End all plays where they are."""
        self._is_over = True
        for _, _, actor in self._due:
            actor.turn.release()
        for thread in self._threads:
            thread.join()

    def _play(self, me: _Actor, play: Callable[[], None]) -> None:
        try:
            self._await(me)
            play()
        except Over:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failure = error
            heapq.heappush(self._due, (self.clock(), -1, self._director))
        self._next()

    def _await(self, me: _Actor) -> None:
        me.turn.acquire()
        if self._is_over:
            raise Over

    def _push(self, at: float, actor: _Actor) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), actor))

    def _next(self) -> _Actor:
        """Give the turn to who is due first; there always is somebody, at least the director."""
        before = self._on_stage
        at, _, actor = heapq.heappop(self._due)
        self.clock.now = max(at, self.clock.now)
        self._on_stage = actor
        if actor is not before:
            actor.turn.release()
        return actor
