"""HTTP: parse the request, call one use case, render the result."""

from flask import Flask

from orchestration.api import errors, routes
from orchestration.api.context import Services

__all__ = ["Services", "register"]


def register(app: Flask, services: Services) -> None:
    """Register the routes, the error handlers and the rate limits, and bind the services."""
    services.bind(app)
    app.url_map.converters["free_text"] = routes.FreeText
    errors.register(app, services.limits)
    app.register_blueprint(routes.bp)
    services.limits.bind(app)
