"""Who is calling. Every view carries exactly one of these; a test sees to it."""

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus

from flask import Response, current_app, g, request
from flask.typing import ResponseReturnValue

from orchestration.api.context import services
from orchestration.domain.errors import Unauthenticated

View = Callable[..., ResponseReturnValue]

CALLER = "declared_caller"
API_KEY_HEADER = "api_key"

CHALLENGES = {"user": "Bearer", "device": "ApiKey", "node": "Basic", "public": "ApiKey"}
"""The authentication scheme of each caller. Browsers open a dialog for Basic, so only nodes' routes name it.

Devices send `api_key`; a public route needs a key only if the operator requires it of loss reports.
"""


def user_required(view: View) -> View:
    """A person with a Cognito access token: a data scientist or an app developer. Sets `g.caller`."""

    @wraps(view)
    def checked(**arguments: object) -> ResponseReturnValue:
        g.caller = services().tokens.verify(_bearer_token())
        services().limits.caller(g.caller.username)
        return view(**arguments)

    return _declared(checked, "user")


def device_required(view: View) -> View:
    """A phone, by the app developer's key; the use case knows whose it must be. Sets `g.api_key`."""

    @wraps(view)
    def checked(**arguments: object) -> ResponseReturnValue:
        g.api_key = request.headers.get(API_KEY_HEADER, "")
        if not g.api_key:
            raise Unauthenticated("Send your API key in the header api_key.")
        return view(**arguments)

    return _declared(checked, "device")


def node_required(view: View) -> View:
    """A node that this service launched, by the credential in its callback address. Sets `g.node`."""

    @wraps(view)
    def checked(**arguments: object) -> ResponseReturnValue:
        credential = request.authorization
        if credential is None or credential.type != "basic" or not credential.username:
            raise Unauthenticated("Only a node that this service has launched may report progress.")
        g.node = services().progress.node(credential.username, credential.password or "")
        services().limits.node(g.node.node_id, request.endpoint or "")
        return view(**arguments)

    return _declared(checked, "node")


def public(view: View) -> View:
    """No credential: say in the view's docstring what makes that safe."""
    return _declared(view, "public")


def is_for_nodes(view: object) -> bool:
    """Whether a view is declared with `node_required`."""
    return getattr(view, CALLER, None) == "node"


def challenge(response: Response) -> Response:
    """Name the authentication scheme of the route in a 401, as RFC 9110 demands."""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        view = current_app.view_functions[request.endpoint or ""]
        response.headers["WWW-Authenticate"] = f'{CHALLENGES[getattr(view, CALLER)]} realm="artificien"'
    return response


def _bearer_token() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("Send a Cognito access token: Authorization: Bearer <token>.")
    return token.strip()


def _declared(view: View, caller: str) -> View:
    setattr(view, CALLER, caller)
    return view
