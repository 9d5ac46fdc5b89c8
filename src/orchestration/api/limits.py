"""Rate limits: per address on every route, then per caller and per model."""

import time

import structlog
from flask import Flask
from flask_limiter import Limiter, RequestLimit
from flask_limiter.util import get_remote_address

LONGEST = 60
"""Seconds to wait if the limit is unknown."""

log = structlog.get_logger(__name__)


class RateLimits:
    """Raises werkzeug's TooManyRequests when an address or a caller sends too many requests."""

    def __init__(self, *, per_address: str, per_caller: str, losses_per_model: str, storage: str) -> None:
        """Take rates in the syntax of the library `limits`, as `120 per minute`.

        `storage` is the URL of the counters: `memory://` counts in each web process, Redis in all together.
        """
        self._per_caller = per_caller
        self._losses_per_model = losses_per_model
        self._limiter = Limiter(
            get_remote_address,
            default_limits=[per_address],
            default_limits_per_method=False,
            on_breach=_log_breach,
            storage_uri=storage,
            strategy="fixed-window",
        )

    def bind(self, app: Flask) -> None:
        """Limit every route of this app by address, except the load balancer's health check."""
        self._limiter.init_app(app)
        self._limiter.exempt(app.view_functions["routes.running"])

    def caller(self, name: str) -> None:
        """Count a request of this caller."""
        self._count(self._per_caller, f"caller:{name}")

    def losses(self, model_id: str) -> None:
        """Count a loss report for this model."""
        self._count(self._losses_per_model, f"losses:{model_id}")

    def retry_after(self) -> int:
        """Return the seconds until the exceeded limit is reset."""
        broken = self._limiter.current_limit
        return max(1, int(broken.reset_at - time.time())) if broken else LONGEST

    def _count(self, rate: str, key: str) -> None:
        with self._limiter.limit(rate, key_func=lambda: key):
            return


def _log_breach(limit: RequestLimit) -> None:
    log.warning("rate.exceeded", limit=str(limit.limit), key=limit.key)
