"""A data scientist's way to a node, and an owner's way out."""

from http import HTTPStatus

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from orchestration.api.audit import audited
from orchestration.api.auth import user_required
from orchestration.api.context import services
from orchestration.api.payloads import CreatePayload, DeletePayload, parsed
from orchestration.requests.nodes import NodeRequest

bp = Blueprint("nodes", __name__)


@bp.post("/create")
@user_required
def create() -> ResponseReturnValue:
    """Ask for the node of a dataset, to train a model of the caller's."""
    body = parsed(request, CreatePayload)
    audited("node.request", f"dataset:{body.dataset_id}")
    wanted = NodeRequest(body.dataset_id, body.model_id, body.features, body.labels)
    answer = services().nodes.request(wanted, caller=g.caller)
    if answer.is_ready:
        return jsonify(status="ready", nodeURL=answer.address)
    return jsonify(status="deploying", reason=answer.reason), HTTPStatus.ACCEPTED


@bp.post("/delete")
@user_required
def delete() -> ResponseReturnValue:
    """Retire the node of a dataset of the caller's, or withdraw a model of theirs."""
    body = parsed(request, DeletePayload)
    if body.model_id is not None:
        audited("model.withdraw", f"model:{body.model_id}")
        model = services().nodes.withdraw(body.model_id, caller=g.caller)
        return jsonify(status=f"Model {model.model_id} is withdrawn.")
    dataset_id = body.dataset_id or ""
    audited("node.retire", f"dataset:{dataset_id}")
    node = services().nodes.retire(dataset_id, caller=g.caller, force=body.force)
    if node is None:
        return jsonify(status=f"Dataset {dataset_id} has no node.")
    return jsonify(status=f"The node of dataset {dataset_id} is going down."), HTTPStatus.ACCEPTED
