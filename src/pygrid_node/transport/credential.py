"""The orchestration node's own requests: known by the credential that it gave this node."""

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from pygrid_node.transport.answers import json_answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REFUSAL = "Only the orchestration node may have this, with its credential."


def with_credential(authorization: str | None, handler: Handler) -> Handler:
    """Let only requests with this header `Authorization` (`Basic ...`) through; None lets everybody."""
    if authorization is None:
        return handler

    async def checked(request: web.Request) -> web.StreamResponse:
        if _matches(request.headers.get("Authorization", ""), authorization):
            return await handler(request)
        challenge = {"WWW-Authenticate": 'Basic realm="node"'}
        return json_answer({"error": _REFUSAL}, status=HTTPStatus.UNAUTHORIZED, headers=challenge)

    return checked


def _matches(given: str, wanted: str) -> bool:
    """Compare in a time that says nothing about what is wanted; the scheme's letter case is free."""
    scheme, _, credential = given.partition(" ")
    written_alike = f"{scheme.capitalize()} {credential.strip()}"
    return hmac.compare_digest(written_alike.encode(errors="surrogateescape"), wanted.encode())
