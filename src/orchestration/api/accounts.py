"""What belongs to a person: their API key, their purchases."""

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from orchestration.api.audit import audited
from orchestration.api.auth import user_required
from orchestration.api.context import services
from orchestration.api.payloads import KeyPayload, UserPayload, parsed

bp = Blueprint("accounts", __name__)

NOTHING_PURCHASED = "no purchased datasets available"


@bp.post("/generate_key")
@user_required
def generate_key() -> ResponseReturnValue:
    """Give the caller a new API key; it is shown this once."""
    body = parsed(request, KeyPayload)
    audited("key.revoke and generate" if body.revoke else "key.generate", f"user:{body.user_id}")
    key = services().accounts.generate_key(body.user_id, caller=g.caller, revoke=body.revoke)
    return jsonify(api_key=key)


@bp.post("/get_datasets")
@user_required
def get_datasets() -> ResponseReturnValue:
    """List the datasets that the caller has bought."""
    body = parsed(request, UserPayload)
    purchases = services().accounts.purchases(body.user_id, caller=g.caller)
    return jsonify(datasets=purchases or NOTHING_PURCHASED)
