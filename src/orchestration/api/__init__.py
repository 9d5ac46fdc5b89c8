"""HTTP: parse, call one service, render."""

from flask import Flask

from orchestration.api import accounts, audit, devices, downloads, errors, nodes, status, training
from orchestration.api.context import Services

__all__ = ["Services", "register"]


def register(app: Flask, services: Services) -> None:
    """Hang every route and every error into the app."""
    services.bind(app)
    app.url_map.converters["free_text"] = downloads.FreeText
    errors.register(app)
    audit.register(app)
    for module in (status, nodes, training, devices, accounts, downloads):
        app.register_blueprint(module.bp)
    services.limits.bind(app)
