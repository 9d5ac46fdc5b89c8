"""Trained models, for whoever holds the link."""

from flask import Blueprint, g, jsonify, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.routing import PathConverter

from orchestration.api.audit import audited
from orchestration.api.auth import anybody, user_required
from orchestration.api.context import services
from orchestration.api.payloads import ModelPayload, parsed

bp = Blueprint("downloads", __name__)


class FreeText(PathConverter):
    """A model's name as its owner typed it: it may begin with a slash or hold a line break."""

    regex = "(?s:.+)"
    part_isolating = False  # it may hold slashes


@bp.get("/download/<free_text:model_id>")
@anybody
def download(model_id: str) -> ResponseReturnValue:
    """Lead to the file. The link opens in a browser that holds no token: its signature is the credential."""
    key = services().links.download_key(model_id, request.args.get("key", ""))
    response = redirect(services().downloads.url(model_id, key))
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.post("/rotate_link")
@user_required
def rotate_link() -> ResponseReturnValue:
    """Replace the download link of a model of the caller's: it has got into wrong hands."""
    body = parsed(request, ModelPayload)
    audited("link.rotate", f"model:{body.model_id}")
    return jsonify(download_link=services().downloads.rotate(body.model_id, caller=g.caller))
