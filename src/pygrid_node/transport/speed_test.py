"""The speed test: a worker measures how long it takes to receive and to send a sample."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus

from aiohttp import web

from pygrid_node.downloads import Query
from pygrid_node.transport.pages import json_answer

_SAMPLE_SIZE = 64 * 1024**2
_CHUNK = b"x" * 64 * 1024
# The Python client sends a sample and a few bytes.
_MOST_RECEIVED = 2 * _SAMPLE_SIZE
_AT_ONCE = 32
_LONGEST = 300.0  # seconds
_BUSY = "A sample for this worker, or too many samples, are on their way. Try again in a minute."


class SpeedTest:
    """Sends and receives samples: one at a time for each worker that has to measure its speed."""

    def __init__(
        self, worker_of: Callable[[Query], str], at_once: int = _AT_ONCE, longest: float = _LONGEST
    ) -> None:
        """Serve the worker that `worker_of` returns for a query, in a thread; its errors refuse the request.

        `at_once` samples may be on their way, each for at most `longest` seconds.
        """
        self._worker_of = worker_of
        self._at_once = at_once
        self._longest = longest
        self._measuring: set[str] = set()

    async def send(self, request: web.Request) -> web.StreamResponse:
        """Answer a ping, or send 64 MiB as the only field of a form."""
        worker_id = await asyncio.to_thread(self._worker_of, request.query)
        if "is_ping" in request.query:
            return json_answer({})
        with self._place(worker_id) as has_place:
            return await self._send_sample(request) if has_place else _busy()

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Read and discard the body of a worker's upload."""
        worker_id = await asyncio.to_thread(self._worker_of, request.query)
        with self._place(worker_id) as has_place:
            if not has_place:
                return _busy()
            received = 0
            try:
                async with asyncio.timeout(self._longest):
                    async for part in request.content.iter_any():
                        received += len(part)
                        if received > _MOST_RECEIVED:
                            sentence = f"A sample has at most {_MOST_RECEIVED} bytes."
                            return json_answer(
                                {"error": sentence}, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                            )
            except TimeoutError:
                return json_answer({"error": "The sample took too long."}, status=HTTPStatus.REQUEST_TIMEOUT)
        return json_answer({})

    async def _send_sample(self, request: web.Request) -> web.StreamResponse:
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="sample"\r\n\r\n'.encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        response = web.StreamResponse(headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
        response.content_length = len(head) + _SAMPLE_SIZE + len(tail)
        try:
            async with asyncio.timeout(self._longest):
                await response.prepare(request)
                await response.write(head)
                for _ in range(_SAMPLE_SIZE // len(_CHUNK)):
                    await response.write(_CHUNK)
                await response.write(tail)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response

    @contextlib.contextmanager
    def _place(self, worker_id: str) -> Iterator[bool]:
        """Yield whether a sample may go on its way now."""
        if worker_id in self._measuring or len(self._measuring) >= self._at_once:
            yield False
            return
        self._measuring.add(worker_id)
        try:
            yield True
        finally:
            self._measuring.discard(worker_id)


def _busy() -> web.Response:
    return json_answer({"error": _BUSY}, status=HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "60"})
