"""Trained models, for whoever holds the link."""

from flask import Blueprint, redirect, request
from flask.typing import ResponseReturnValue
from werkzeug.routing import PathConverter

from orchestration.api.auth import anybody
from orchestration.api.context import services

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
