"""Answers that need nothing of the node: JSON objects and the start page."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}
"""The header of every answer: syft.js runs on pages of any origin."""

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
