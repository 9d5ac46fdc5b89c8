"""Every route of the service: parse the request, call one use case, render the result."""

from functools import wraps
from http import HTTPStatus
from typing import Any

import structlog
from flask import Blueprint, g, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.routing import PathConverter

from orchestration.api.auth import (
    API_KEY_HEADER,
    View,
    device_required,
    node_required,
    public,
    user_required,
)
from orchestration.api.context import audited, services
from orchestration.api.payloads import (
    CreatePayload,
    DatasetPayload,
    DeletePayload,
    KeyPayload,
    LossPayload,
    ModelPayload,
    ProgressPayload,
    UploadPayload,
    UserPayload,
    parsed,
)
from orchestration.domain.cycle import Progress
from orchestration.domain.entities import Model
from orchestration.domain.errors import Overtaken, Unavailable
from orchestration.domain.ports import AuditEntry
from orchestration.domain.uploads import Upload

bp = Blueprint("routes", __name__)
log = structlog.get_logger(__name__)

NOTHING_PURCHASED = "no purchased datasets available"


class FreeText(PathConverter):
    """A model id in a URL. Model ids are free text: one may start with a slash or contain a line break."""

    regex = "(?s:.+)"
    part_isolating = False  # a model id may contain slashes


@bp.get("/")
@public
def running() -> ResponseReturnValue:
    """Answer the load balancer's health check. Reads no data."""
    return "Running", {"Content-Type": "text/plain; charset=utf-8"}


def waiting_for_aws(view: View) -> View:
    """Answer 202 while a failure of AWS that may pass, or a lost race, keeps a request from being served.

    artificienlib ends at an answer with `error`. At 202 it sends the same request again, 30 seconds later.
    """

    @wraps(view)
    def patient(**arguments: object) -> ResponseReturnValue:
        try:
            return view(**arguments)
        except (Unavailable, Overtaken) as error:
            log.warning("request.postponed", error=str(error), cause=str(error.__cause__))
            return _deploying(f"The request can't be served yet, and may be repeated: {error}")

    return patient


@bp.post("/create")
@waiting_for_aws
@user_required
def create_node() -> ResponseReturnValue:
    """Request the node of a dataset, to train a model of the caller on it."""
    body = parsed(request, CreatePayload)
    # artificienlib polls this route every 30 seconds, so only refusals are audited.
    with audited("node.request", f"dataset:{body.dataset_id}", failures_only=True):
        answer = services().nodes.request(
            body.dataset_id,
            body.model_id,
            body.features,
            body.labels,
            caller=g.caller,
            address=request.remote_addr,
        )
    if answer.address is not None:
        reason = {"reason": answer.reason} if answer.reason else {}
        ready = {"status": "ready", "nodeURL": answer.address, "upload_token": answer.upload_token}
        return jsonify(ready | reason)
    return _deploying(answer.reason)


def _deploying(reason: str) -> ResponseReturnValue:
    return jsonify(status="deploying", reason=reason), HTTPStatus.ACCEPTED


@bp.post("/delete")
@user_required
def delete() -> ResponseReturnValue:
    """Withdraw a model of the caller, or retire the node of a dataset of the caller."""
    body = parsed(request, DeletePayload)
    if body.model_id is not None:
        with audited("model.withdraw", f"model:{body.model_id}"):
            model_id = services().models.withdraw(body.model_id, caller=g.caller)
        return jsonify(status=f"Model {model_id} is withdrawn.")
    dataset_id = body.dataset_id or ""
    with audited("node.retire", f"dataset:{dataset_id}"):
        is_retiring = services().nodes.retire(dataset_id, caller=g.caller, force=body.force)
    if not is_retiring:
        return jsonify(status=f"Dataset {dataset_id} has no node.")
    return jsonify(status=f"The node of dataset {dataset_id} is going down."), HTTPStatus.ACCEPTED


@bp.post("/info")
@device_required
def info() -> ResponseReturnValue:
    """Return the models a device can train, and the node that hosts them.

    The pod takes an object with exactly one key as "nothing to do".
    """
    body = parsed(request, DatasetPayload)
    work = services().devices.work(body.dataset_id, api_key=g.api_key)
    if work.is_first_contact:
        return jsonify(success=work.reason)
    if work.address is None:
        return jsonify(wait=work.reason)
    return jsonify(models=[_row(model) for model in work.models], nodeURL=work.address)


def _row(model: Model) -> list[Any]:
    """Return `[model_id, version, features, labels]`. The pod crashes on any other type."""
    return [model.name_on_node, model.version, list(model.features), list(model.labels)]


@bp.post("/model_loss")
@public
def record_loss() -> ResponseReturnValue:
    """Count a device's loss. The pod sends no credential: `requests/devices.py` decides what is counted."""
    body = parsed(request, LossPayload)
    services().limits.losses(body.model_id)
    api_key = request.headers.get(API_KEY_HEADER, "")
    if services().devices.record_loss(body.model_id, body.loss, body.acc, api_key=api_key):
        return jsonify(status=f"Loss of model {body.model_id} is recorded.")
    return jsonify(status=f"Model {body.model_id} is complete; the report is not counted.")


@bp.post("/model_progress")
@node_required
def record_progress() -> ResponseReturnValue:
    """Close a cycle of a model that the calling node hosts.

    0 per cent closes none: older node images send it instead of calling `/model_upload`.
    """
    body = parsed(request, ProgressPayload)
    progress = Progress(body.percent_complete, body.cycle, body.version, body.cycles)
    is_new = services().progress.record(body.model_id, progress, node=g.node)
    if body.skipped is not None:
        entry = AuditEntry(g.node.node_id, "model.cycle_skipped", f"model:{body.model_id}", body.skipped)
        services().audit.record(entry)
    if is_new:
        return jsonify(status=f"Model {body.model_id} is {body.percent_complete} % complete.")
    return jsonify(status=f"Nothing new about model {body.model_id}.")


@bp.post("/model_upload")
@node_required
def check_upload() -> ResponseReturnValue:
    """Answer whether the calling node may store an upload, or record how the upload ended."""
    body = parsed(request, UploadPayload)
    upload = Upload(body.model_id, body.version, body.address, body.token)
    match body.result:
        case "stored":
            services().uploads.stored(upload, node=g.node)
            return jsonify(status=f"Model {body.model_id} is on this node.")
        case "exists":
            services().uploads.exists(upload, node=g.node)
            return jsonify(status=f"The owner of model {body.model_id} is told.")
    services().uploads.check(upload, node=g.node)
    return jsonify(status=f"Model {body.model_id} may be uploaded to this node.")


@bp.post("/generate_key")
@user_required
def generate_key() -> ResponseReturnValue:
    """Return a new API key of the caller. The service stores only its hash, so it can't be shown again."""
    body = parsed(request, KeyPayload)
    with audited("key.revoke and generate" if body.revoke else "key.generate", f"user:{body.user_id}"):
        key = services().accounts.generate_key(body.user_id, caller=g.caller, revoke=body.revoke)
    return jsonify(api_key=key)


@bp.post("/get_datasets")
@user_required
def get_datasets() -> ResponseReturnValue:
    """List the datasets that the caller has bought."""
    body = parsed(request, UserPayload)
    purchases = services().accounts.purchases(body.user_id, caller=g.caller)
    return jsonify(datasets=purchases or NOTHING_PURCHASED)


@bp.post("/rotate_link")
@user_required
def rotate_link() -> ResponseReturnValue:
    """Replace the download link of a model of the caller. The old link stops working."""
    body = parsed(request, ModelPayload)
    with audited("link.rotate", f"model:{body.model_id}"):
        link = services().models.rotate_link(body.model_id, caller=g.caller)
    return jsonify(download_link=link)


@bp.get("/download/<free_text:model_id>")
@public
def download(model_id: str) -> ResponseReturnValue:
    """Redirect to the trained model. A browser opens the link without a token: its signature authorizes."""
    form = request.args.get("form", "safetensors")
    response = redirect(services().models.download_url(model_id, request.args.get("key", ""), form))
    response.headers["Cache-Control"] = "no-store"
    return response
