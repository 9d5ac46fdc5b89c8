"""Every failure as JSON with the key `error`: the callers can't read anything else."""

from http import HTTPStatus

import structlog
from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, TooManyRequests

from orchestration.api.context import services
from orchestration.api.limits import LONGEST
from orchestration.domain.errors import (
    AccessDenied,
    Conflict,
    Contended,
    DatabaseWaking,
    InvalidRequest,
    NodeFailed,
    NodeUnreachable,
    NotFound,
    OrchestrationError,
    QuotaExceeded,
    StackFailed,
    Unauthenticated,
    UnusableModel,
    Upstream,
)

log = structlog.get_logger(__name__)

STATUS: dict[type[OrchestrationError], HTTPStatus] = {
    InvalidRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    AccessDenied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    QuotaExceeded: HTTPStatus.TOO_MANY_REQUESTS,
    Contended: HTTPStatus.SERVICE_UNAVAILABLE,
    Upstream: HTTPStatus.BAD_GATEWAY,
    DatabaseWaking: HTTPStatus.SERVICE_UNAVAILABLE,
    StackFailed: HTTPStatus.BAD_GATEWAY,
    NodeFailed: HTTPStatus.BAD_GATEWAY,
    NodeUnreachable: HTTPStatus.BAD_GATEWAY,
    UnusableModel: HTTPStatus.BAD_GATEWAY,
}

COME_AGAIN = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def register(app: Flask) -> None:
    """Render the domain's errors, HTTP's, and what nobody thought of."""
    app.register_error_handler(OrchestrationError, _domain_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def _domain_error(error: OrchestrationError) -> ResponseReturnValue:
    status = STATUS[type(error)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request.failed", cause=str(error), because=str(error.__cause__))
    headers = {"Retry-After": str(LONGEST)} if status in COME_AGAIN else {}
    return _rendered(str(error), status, headers)


def _http_error(error: HTTPException) -> ResponseReturnValue:
    response = error.get_response()
    headers = {name: value for name, value in response.headers if name == "Allow"}
    if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
        return response  # a redirect is an answer
    sentence = error.description or error.name
    if isinstance(error, TooManyRequests):
        sentence = f"Too many requests: {sentence} are allowed. Try again later."
        headers["Retry-After"] = str(services().limits.retry_after())
    return _rendered(sentence, HTTPStatus(error.code), headers)


def _unexpected(error: Exception) -> ResponseReturnValue:
    log.error("request.crashed", exc_info=error)
    return _rendered("Something went wrong here; it has been logged.", HTTPStatus.INTERNAL_SERVER_ERROR)


def _rendered(
    sentence: str, status: HTTPStatus, headers: dict[str, str] | None = None
) -> ResponseReturnValue:
    return jsonify(error=sentence), status, headers or {}
