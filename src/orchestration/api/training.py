"""What devices and nodes report while a model trains."""

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from orchestration.api.auth import anybody, node_required
from orchestration.api.context import services
from orchestration.api.payloads import LossPayload, ProgressPayload, parsed
from orchestration.domain.cycle import Progress, Report

bp = Blueprint("training", __name__)


@bp.post("/model_loss")
@anybody
def record_loss() -> ResponseReturnValue:
    """Count a device's loss. The pod sends no credential; a report moves nothing but a mean that is shown."""
    body = parsed(request, LossPayload)
    if services().training.record_loss(body.model_id, Report.of(body.loss, body.acc)):
        return jsonify(status=f"Loss of model {body.model_id} is recorded.")
    return jsonify(status=f"Model {body.model_id} no longer trains; the report is not counted.")


@bp.post("/model_progress")
@node_required
def record_progress() -> ResponseReturnValue:
    """Close a cycle of a model, on the word of the node that hosts it."""
    body = parsed(request, ProgressPayload)
    progress = Progress(body.percent_complete, body.cycle)
    if services().training.record_progress(body.model_id, progress, node=g.node):
        return jsonify(status=f"Model {body.model_id} is {body.percent_complete} % complete.")
    return jsonify(status=f"Nothing new about model {body.model_id}.")
