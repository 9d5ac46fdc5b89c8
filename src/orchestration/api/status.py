"""Whether the service runs."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from orchestration.api.auth import anybody

bp = Blueprint("status", __name__)


@bp.get("/")
@anybody
def running() -> ResponseReturnValue:
    """For load balancers: says nothing and touches nothing."""
    return "Running", {"Content-Type": "text/plain; charset=utf-8"}
