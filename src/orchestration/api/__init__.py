"""HTTP: parse the request, call one use case, render the result."""

from flask import Flask

from orchestration.api import auth, errors, routes
from orchestration.api.context import Services

__all__ = ["Services", "register"]


def register(app: Flask, services: Services) -> None:
    """Register the routes, the error handlers, challenges and rate limits, and bind the services."""
    services.bind(app)
    app.url_map.converters["free_text"] = routes.FreeText
    errors.register(app, services.limits)
    app.register_blueprint(routes.bp)
    app.after_request(auth.challenge)
    services.limits.bind(app, [name for name, view in app.view_functions.items() if auth.is_for_nodes(view)])
