"""What a phone can do now."""

from typing import Any

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from orchestration.api.auth import device_required
from orchestration.api.context import services
from orchestration.api.payloads import DatasetPayload, parsed
from orchestration.domain.entities import Model

bp = Blueprint("devices", __name__)


@bp.post("/info")
@device_required
def info() -> ResponseReturnValue:
    """Say which models to train, and where. One key means "nothing to do"; the pod counts the keys."""
    body = parsed(request, DatasetPayload)
    work = services().catalogue.work(body.dataset_id, api_key=g.api_key)
    if work.is_first_contact:
        return jsonify(success=work.reason)
    if work.address is None:
        return jsonify(wait=work.reason)
    return jsonify(models=[_row(model) for model in work.models], nodeURL=work.address)


def _row(model: Model) -> list[Any]:
    """Return `[model_id, version, features, labels]`; the pod casts each by force."""
    return [model.name_on_node, model.version, list(model.features), list(model.labels)]
