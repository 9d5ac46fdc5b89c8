"""What a message may take of the node's memory, from its first byte to its answer.

All messages, and all downloads, share one budget. Three shares keep them apart, so that small messages never
wait for large ones:

- Messages of more than `SMALL` bytes hold `PER_BYTE` times their length before they are read, until they are
  answered: the message itself, and what is decoded from it, checked and stored.
- Before a message is parsed, it holds `PER_JSON_BYTE` times the length of its JSON without long strings: as
  Python objects JSON takes up to 33 times its length (`{"":1},`). This share is never held while bytes of a
  message are awaited, so that no slow sender can use it up.
- Downloads hold `PER_DOWNLOAD` bytes: the part of a blob that is being sent, and its first one, as stored.

What waits too long is refused. The first `SMALL` bytes of each message are not counted: the number of
connections bounds them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pygrid_node.errors import MessageTooLarge, TooSlow
from pygrid_node.long_strings import LONG_FRAME, Document
from pygrid_node.storage.blobs import PART
from pygrid_node.transport.budget import Budget, Hold
from pygrid_wire import Bytes

SMALL = 64 * 1024
"""Bytes of the largest message, or download, that needs nothing of the budget of large ones."""
PER_BYTE = 2
"""Measured: 1.75 for a diff in base64, 1.5 for a model in hexadecimal."""
PER_JSON_BYTE = 40
PER_DOWNLOAD = 2 * PART + 4 * SMALL

_PER_MESSAGE = 4096  # bytes of a message's task, whatever its length


@dataclass(frozen=True, slots=True)
class Pace:
    """The least speed of a client that holds memory: `step` bytes in each `seconds`."""

    seconds: float = 10
    step: int = 160 * 1024

    def start(self) -> "Progress":
        """Start to measure a client."""
        return Progress(self)


class Progress:
    """The progress of one client."""

    def __init__(self, pace: Pace) -> None:
        """Start the first step."""
        self._pace = pace
        self._start_step()

    def waited(self, seconds: float) -> None:
        """Leave out a time in which the client could not send."""
        self._deadline += seconds

    def _start_step(self) -> None:
        self._left = self._pace.step
        self._deadline = asyncio.get_running_loop().time() + self._pace.seconds

    def moved(self, count: int) -> None:
        """Count bytes that were read or written."""
        self._left -= count
        if self._left <= 0:
            self._start_step()

    @contextlib.asynccontextmanager
    async def required(self) -> AsyncIterator[None]:
        """Limit the time of a read or write. Raises `TooSlow`."""
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError as error:
            raise TooSlow from error


class Intake:
    """Lets messages in, and downloads out, within the budget."""

    def __init__(
        self, budget: int, *, max_message: int, patience: float = 30, pace: Pace | None = None
    ) -> None:
        """Hold at most `budget` bytes; refuse messages of more than `max_message` bytes.

        What waits for its share is refused after `patience` seconds, and a client that is slower than `pace`
        is disconnected.
        """
        self.pace = pace or Pace()
        self.downloads = Budget(budget // 3, patience)
        self.json = Budget(budget // 16, patience)
        self.large = Budget(budget - self.downloads.size - self.json.size, patience)
        most = self.large.size // PER_BYTE
        self.largest = min(max_message, most)
        """Bytes of the largest message."""
        self._setting = "MAX_MESSAGE_BYTES" if max_message <= most else "MAX_BYTES_IN_FLIGHT"

    def message(self, *, is_small: bool = False) -> "Incoming":
        """Return a message that holds nothing yet; use it as a context manager."""
        if is_small:
            return Incoming(self, MessageTooLarge(SMALL))
        return Incoming(self, MessageTooLarge(self.largest, "A message to this node", self._setting))

    @contextlib.asynccontextmanager
    async def download(self) -> AsyncIterator[Hold]:
        """Hold what the download of a blob needs. Raises `NodeBusy`."""
        with self.downloads.hold() as hold:
            await hold.grow(PER_DOWNLOAD)
            yield hold


class Incoming:
    """A message that is being received, or answered."""

    def __init__(self, intake: Intake, refusal: MessageTooLarge) -> None:
        """Hold nothing yet."""
        self._refusal = refusal
        self._intake = intake
        self._large = intake.large.hold()
        self._json = intake.json.hold()
        self._expected = 0
        self._progress: Progress | None = None
        self.body = bytearray()
        """The bytes that have been received."""

    async def expect(self, count: int) -> None:
        """Wait until there is room for `count` more bytes. Raises `MessageTooLarge`, `NodeBusy`."""
        self._expected = len(self.body) + count
        if self._expected > self._refusal.limit:
            raise self._refusal
        time = asyncio.get_running_loop().time
        before = time()
        if self._expected > SMALL:
            await self._large.grow(PER_BYTE * self._expected)
        if self._progress is None:
            self._progress = self._intake.pace.start()
        else:  # a further part does not start a new step: it may be a single byte
            self._progress.waited(time() - before)

    async def add(self, data: Bytes) -> None:
        """Add bytes that have been received, expected or not. Raises `MessageTooLarge`, `NodeBusy`."""
        if len(self.body) + len(data) > self._expected:
            await self.expect(len(data))
        self.body += data
        if self._progress:
            self._progress.moved(len(data))

    @property
    def has_begun(self) -> bool:
        """Whether bytes have been expected."""
        return self._progress is not None

    def in_time(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Limit the time of a read, once the message has begun. Raises `TooSlow`."""
        return self._progress.required() if self._progress else contextlib.nullcontext()

    async def parse(self) -> dict[str, Any]:
        """Return the JSON object, with long strings left in the message.

        Raises `InvalidRequest`, `MessageTooLarge` if the JSON is long without them, and `NodeBusy`. What
        takes longer than a few milliseconds is done in a thread.
        """
        is_long = len(self.body) >= LONG_FRAME
        document = await asyncio.to_thread(Document, self.body) if is_long else Document(self.body)
        charge = _PER_MESSAGE + PER_JSON_BYTE * document.size
        if charge > self._intake.json.size:
            limit = self._intake.json.size // PER_JSON_BYTE
            raise MessageTooLarge(limit, "A message without long strings", "MAX_BYTES_IN_FLIGHT")
        await self._json.grow(charge)
        return await asyncio.to_thread(document.parse) if document.size >= LONG_FRAME else document.parse()

    def require_small(self) -> None:
        """Raise `MessageTooLarge` if the message is not small, now that its kind is known."""
        if self._expected > SMALL:
            raise MessageTooLarge(SMALL)

    def __enter__(self) -> "Incoming":
        """Return the message."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget the message and release what it holds."""
        self.body = bytearray()
        self._large.release()
        self._json.release()
