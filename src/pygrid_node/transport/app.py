"""The aiohttp application: routes, and what holds for all of them."""

from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from pygrid_node.errors import NodeError
from pygrid_node.transport.answers import json_answer
from pygrid_node.transport.http import HttpApi, status_of

_log = structlog.get_logger()

_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


def create_app(api: HttpApi) -> web.Application:
    """An application that serves `api`."""
    app = web.Application(middlewares=[_answer_errors, _answer_preflights])
    app.add_routes(api.routes())
    app.on_response_prepare.append(_allow_any_origin)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Make every error a JSON object with the key `error`."""
    try:
        return await handler(request)
    except NodeError as error:
        return json_answer({"error": str(error)}, status=status_of(error))
    except web.HTTPException as error:
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        return json_answer({"error": error.reason}, status=error.status, headers=allowed)
    except ConnectionResetError:
        raise
    except Exception:  # noqa: BLE001 - the last one, and logged
        _log.exception("request_failed", method=request.method, path=request.path)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return json_answer({"error": "Internal error of the node."}, status=status)


@web.middleware
async def _answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a browser send what it asks for: nothing here depends on where a page comes from."""
    if request.method != "OPTIONS":
        return await handler(request)
    headers = {"Access-Control-Allow-Methods": _METHODS}
    if asked := request.headers.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = asked
    return web.Response(headers=headers)


async def _allow_any_origin(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Access-Control-Allow-Origin"] = "*"
