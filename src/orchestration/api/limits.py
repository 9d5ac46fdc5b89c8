"""How often anybody may call: by address before anything else, by caller and model once those are known."""

import time
from dataclasses import dataclass

import structlog
from flask import Flask
from flask_limiter import Limiter, RequestLimit
from flask_limiter.util import get_remote_address

LONGEST = 60
"""Seconds to wait where nothing better is known."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates as the library `limits` words them, `120 per minute`; `storage` is its URL of the counters.

    Counters in memory are each web process's own; with Redis all of them share.
    """

    per_address: str
    per_caller: str
    losses_per_model: str
    storage: str


class RateLimits:
    """Raises werkzeug's 429 with Retry-After when somebody calls too often."""

    def __init__(self, rates: Rates) -> None:
        """Limits nothing until it is bound to an app."""
        self._rates = rates
        self._limiter = Limiter(
            get_remote_address,
            default_limits=[rates.per_address],
            default_limits_per_method=False,
            on_breach=_log_breach,
            storage_uri=rates.storage,
            strategy="fixed-window",
        )

    def bind(self, app: Flask) -> None:
        """Limit every route of this app by address, but the one that the load balancer asks."""
        self._limiter.init_app(app)
        self._limiter.exempt(app.view_functions["status.running"])

    def caller(self, name: str) -> None:
        """Count a request of this caller."""
        self._count(self._rates.per_caller, f"caller:{name}")

    def losses(self, model_id: str) -> None:
        """Count a loss report for this model."""
        self._count(self._rates.losses_per_model, f"losses:{model_id}")

    def retry_after(self) -> int:
        """Return in how many seconds the limit that this request has broken begins anew."""
        broken = self._limiter.current_limit
        return max(1, int(broken.reset_at - time.time())) if broken else LONGEST

    def _count(self, rate: str, key: str) -> None:
        with self._limiter.limit(rate, key_func=lambda: key):
            return


def _log_breach(limit: RequestLimit) -> None:
    log.warning("rate.exceeded", limit=str(limit.limit), key=limit.key)
