"""The speed test: a worker times how long 64 MiB take to come and to go."""

import uuid

from aiohttp import web

from pygrid_node.transport.answers import json_answer

SAMPLE_SIZE = 64 * 1024**2
_CHUNK = b"x" * 64 * 1024


async def send_sample(request: web.Request) -> web.StreamResponse:
    """Answer a ping, or stream the sample as the one field of a form."""
    if refusal := _refusal(request):
        return refusal
    if "is_ping" in request.query:
        return json_answer({})
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="sample"\r\n\r\n'.encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    response = web.StreamResponse(headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    response.content_length = len(head) + SAMPLE_SIZE + len(tail)
    await response.prepare(request)
    await response.write(head)
    for _ in range(SAMPLE_SIZE // len(_CHUNK)):
        await response.write(_CHUNK)
    await response.write(tail)
    return response


async def take_sample(request: web.Request) -> web.Response:
    """Read what a worker sends, and forget it."""
    if refusal := _refusal(request):
        return refusal
    async for _ in request.content.iter_any():
        pass
    return json_answer({})


def _refusal(request: web.Request) -> web.Response | None:
    for key in ("worker_id", "random"):
        if key not in request.query:
            return json_answer({"error": f"{key!r} is required"}, status=400)
    return None
