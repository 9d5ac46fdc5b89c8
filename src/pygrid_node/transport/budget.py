"""A bound for bytes in memory: what does not fit waits."""

import asyncio
from types import TracebackType
from typing import NamedTuple

from pygrid_node.errors import NodeBusy


class Budget:
    """Bytes that may be held at the same time.

    A request for more bytes than are free waits until others release theirs. It is granted as soon as it
    fits, even if a larger one waits longer. When everyone who holds bytes waits for more, the one who asked
    last is refused, so that the others can go on.
    """

    def __init__(self, size: int, patience: float) -> None:
        """Grant `size` bytes; a request waits for at most `patience` seconds."""
        self.size = size
        self.used = 0
        """Bytes that are held now."""
        self._patience = patience
        self._holding = 0
        self._waiting: dict[asyncio.Future[None], _Request] = {}

    def hold(self) -> "Hold":
        """Return a hold of no bytes; use it as a context manager, which releases it."""
        return Hold(self)

    async def acquire(self, amount: int, *, is_more: bool = False) -> None:
        """Take `amount` bytes, which `release` must give back. Raises `NodeBusy`.

        `is_more` says that the caller holds bytes already.
        """
        if not self._take(amount):
            await self._wait(_Request(amount, is_more))
        self._holding += not is_more

    async def _wait(self, request: "_Request") -> None:
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = request
        self._refuse_last_if_stuck()
        try:
            async with asyncio.timeout(self._patience):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled() and not granted.exception():
                self._give_back(request.amount)  # granted at the moment of the interruption
            if isinstance(error, TimeoutError):
                raise NodeBusy from error
            raise
        finally:
            self._waiting.pop(granted, None)

    def release(self, amount: int) -> None:
        """Give back all that one caller has acquired, and grant what fits now, the oldest request first."""
        self._holding -= 1
        self._give_back(amount)

    def _give_back(self, amount: int) -> None:
        self.used -= amount
        for granted, request in self._waiting.items():
            if not granted.done() and self._take(request.amount):
                granted.set_result(None)
        self._refuse_last_if_stuck()

    def _refuse_last_if_stuck(self) -> None:
        stuck = [
            granted for granted, request in self._waiting.items() if request.is_more and not granted.done()
        ]
        if stuck and len(stuck) == self._holding:
            stuck[-1].set_exception(NodeBusy())

    def _take(self, amount: int) -> bool:
        if self.used + amount > self.size:
            return False
        self.used += amount
        return True


class _Request(NamedTuple):
    amount: int
    is_more: bool


class Hold:
    """What one message or download holds of a budget."""

    def __init__(self, budget: Budget) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self._held = 0

    async def grow(self, total: int) -> None:
        """Hold `total` bytes; wait if there are not so many. Raises `NodeBusy`."""
        if total > self._held:
            await self._budget.acquire(total - self._held, is_more=self._held > 0)
            self._held = total

    def release(self) -> None:
        """Hold nothing."""
        if self._held:
            self._budget.release(self._held)
            self._held = 0

    def __enter__(self) -> "Hold":
        """Return the hold."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release it."""
        self.release()
