"""Answers that need nothing of the node: JSON objects, the start page, and the speed test."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

_SAMPLE_SIZE = 64 * 1024**2
_CHUNK = b"x" * 64 * 1024
_HOME = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>PyGrid node</title></head>
<body>
<h1>PyGrid node</h1>
<p>This node trains models together with the devices that hold the data.</p>
</body>
</html>
"""


def json_answer(
    data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a JSON object, with the content type `application/json` and no charset, like PyGrid."""
    body = json.dumps(data).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def home() -> web.Response:
    """Return the page for browsers and health checks."""
    return web.Response(text=_HOME, content_type="text/html")


async def send_sample(request: web.Request) -> web.StreamResponse:
    """Answer a ping, or send 64 MiB as the only field of a form: a worker measures the time."""
    if refusal := _refusal(request):
        return refusal
    if "is_ping" in request.query:
        return json_answer({})
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="sample"\r\n\r\n'.encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    response = web.StreamResponse(headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})
    response.content_length = len(head) + _SAMPLE_SIZE + len(tail)
    await response.prepare(request)
    await response.write(head)
    for _ in range(_SAMPLE_SIZE // len(_CHUNK)):
        await response.write(_CHUNK)
    await response.write(tail)
    return response


async def receive_sample(request: web.Request) -> web.Response:
    """Read and discard the body of a worker's upload."""
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
