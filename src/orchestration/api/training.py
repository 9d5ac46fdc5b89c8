"""What devices and nodes report while a model trains."""

from flask import Blueprint, g, jsonify, request
from flask.typing import ResponseReturnValue

from orchestration.api.auth import API_KEY_HEADER, anybody, node_required
from orchestration.api.context import services
from orchestration.api.payloads import LossPayload, ProgressPayload, UploadPayload, parsed
from orchestration.domain.cycle import Progress

bp = Blueprint("training", __name__)


@bp.post("/model_loss")
@anybody
def record_loss() -> ResponseReturnValue:
    """Count a device's loss. The pod sends no credential: `services/reports.py` says what is believed."""
    body = parsed(request, LossPayload)
    services().limits.losses(body.model_id)
    api_key = request.headers.get(API_KEY_HEADER, "")
    if services().reports.record(body.model_id, body.loss, body.acc, api_key=api_key):
        return jsonify(status=f"Loss of model {body.model_id} is recorded.")
    return jsonify(status=f"Model {body.model_id} is complete; the report is not counted.")


@bp.post("/model_progress")
@node_required
def record_progress() -> ResponseReturnValue:
    """Close a cycle of a model, on the word of the node that hosts it.

    0 per cent closes none: nodes that don't know `/model_upload` ask with it.
    """
    body = parsed(request, ProgressPayload)
    progress = Progress(body.percent_complete, body.cycle, body.version)
    if services().training.record_progress(body.model_id, progress, node=g.node):
        return jsonify(status=f"Model {body.model_id} is {body.percent_complete} % complete.")
    return jsonify(status=f"Nothing new about model {body.model_id}.")


@bp.post("/model_upload")
@node_required
def check_upload() -> ResponseReturnValue:
    """Answer whether the node may host a model; a node asks before it keeps an upload."""
    body = parsed(request, UploadPayload)
    services().training.hosted_model(body.model_id, body.version, node=g.node)
    return jsonify(status=f"Model {body.model_id} may be uploaded to this node.")
