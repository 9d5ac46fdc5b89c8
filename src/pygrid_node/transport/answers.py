"""How an answer is written."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web


def json_answer(
    data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON object, of the bare content type `application/json` that the original sends."""
    body = json.dumps(data).encode()
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
