"""Render every failure as JSON with the key `error`. The callers can't read anything else."""

from http import HTTPStatus

import structlog
from flask import Flask, jsonify
from flask.typing import ResponseReturnValue
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException, TooManyRequests

from orchestration.api.limits import LONGEST, RateLimits
from orchestration.domain.errors import (
    AccessDenied,
    Conflict,
    DatabaseWaking,
    InvalidRequest,
    NodeFailed,
    NodeUnreachable,
    NotFound,
    OrchestrationError,
    Overtaken,
    QuotaExceeded,
    StackFailed,
    Unauthenticated,
    Unavailable,
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
    Overtaken: HTTPStatus.SERVICE_UNAVAILABLE,
    Upstream: HTTPStatus.BAD_GATEWAY,
    Unavailable: HTTPStatus.BAD_GATEWAY,
    DatabaseWaking: HTTPStatus.SERVICE_UNAVAILABLE,
    StackFailed: HTTPStatus.BAD_GATEWAY,
    NodeFailed: HTTPStatus.BAD_GATEWAY,
    NodeUnreachable: HTTPStatus.BAD_GATEWAY,
    UnusableModel: HTTPStatus.BAD_GATEWAY,
}

RETRY_LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def register(app: Flask, limits: RateLimits) -> None:
    """Register handlers for HTTP errors, for bodies that gunicorn can't parse, and for all other errors."""

    def http_error(error: HTTPException) -> ResponseReturnValue:
        response = error.get_response()
        if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
            return response  # a redirect
        headers = {name: value for name, value in response.headers if name in ("Allow", "Retry-After")}
        message = error.description or error.name
        if isinstance(error, TooManyRequests):
            message = f"Too many requests: {message} are allowed. Try again later."
            headers.setdefault("Retry-After", str(limits.retry_after()))
        return jsonify(error=message), error.code, headers

    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(ParseException, _malformed_body)
    app.register_error_handler(Exception, _error)


def described(error: Exception) -> tuple[HTTPStatus, str]:
    """Return the status and the message that an exception raised by a use case is answered with."""
    if isinstance(error, OrchestrationError):
        return STATUS[type(error)], str(error)
    return HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; it has been logged."


def _malformed_body(_error: ParseException) -> ResponseReturnValue:
    return jsonify(error="The body breaks the rules of HTTP's chunked coding."), HTTPStatus.BAD_REQUEST


def _error(error: Exception) -> ResponseReturnValue:
    status, message = described(error)
    if not isinstance(error, OrchestrationError):
        log.error("request.crashed", exc_info=error)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request.failed", error=message, cause=str(error.__cause__))
    headers = {"Retry-After": str(LONGEST)} if status in RETRY_LATER else {}
    return jsonify(error=message), status, headers
