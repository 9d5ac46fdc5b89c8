"""Notes what people have done, and what they were refused, when the answer is known."""

from http import HTTPStatus

from flask import Flask, Response, g

from orchestration.api.context import services
from orchestration.domain.ports import AuditEntry

OK = "ok"


def audited(action: str, subject: str) -> None:
    """Have this request noted: `subject` is `model:`, `dataset:` or `user:` and an id."""
    g.audited = (action, subject)


def register(app: Flask) -> None:
    """Note every request that a view has declared, with its result."""
    app.after_request(_note)


def _note(response: Response) -> Response:
    if "audited" not in g or "caller" not in g:
        return response
    action, subject = g.audited
    failed = response.status_code >= HTTPStatus.BAD_REQUEST
    if failed or action != "node.request":  # the library asks for a node every 30 seconds until it is ready
        result = f"{response.status_code} {response.get_json()['error']}" if failed else OK
        services().audit.record(AuditEntry(g.caller.username, action, subject, result))
    return response
