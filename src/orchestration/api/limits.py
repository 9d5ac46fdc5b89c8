"""Rate limits: per address on every route, then per caller, per node and route, and per model."""

import threading
import time
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response
from flask_limiter import Limiter, RequestLimit
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from werkzeug.exceptions import TooManyRequests

LONGEST = 60
"""Seconds to wait if the limit is unknown."""

log = structlog.get_logger(__name__)


class Memory(MemoryStorage):
    """Counters of one process, for the scheme `memory`.

    Without the lock, two threads may start one timer of the library at once, and a request fails.
    """

    STORAGE_SCHEME = ["memory"]  # noqa: RUF012 - registers the class in place of the library's

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take what the library passes."""
        self._lock = threading.Lock()
        super().__init__(*arguments, **options)

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter, and return it."""
        with self._lock:
            return super().incr(key, expiry, amount)


class RateLimits:
    """Raises werkzeug's TooManyRequests when an address, a caller or a node sends too many requests."""

    def __init__(
        self, *, per_address: str, per_caller: str, per_node: str, losses_per_model: str, storage: str
    ) -> None:
        """Take rates in the syntax of the library `limits`, as `120 per minute`.

        `storage` is the URL of the counters: `memory://` counts in each web process, Redis in all together.
        """
        self._per_address = per_address
        self._per_caller = parse_many(per_caller)
        self._per_node = parse_many(per_node)
        self._losses_per_model = parse_many(losses_per_model)
        self._limiter = Limiter(
            get_remote_address,
            default_limits=[per_address],
            default_limits_per_method=False,
            on_breach=_log_breach,
            storage_uri=storage,
            strategy="fixed-window",
        )

    def bind(self, app: Flask, routes_of_nodes: Collection[str]) -> None:
        """Limit every route of this app by address, except the load balancer's health check.

        On `routes_of_nodes`, given as Flask's endpoints, only failed authentications count for an address,
        because several nodes may share one.
        """
        self._limiter.init_app(app)
        self._limiter.exempt(app.view_functions["routes.running"])
        failures: Any = self._limiter.limit(self._per_address, deduct_when=_is_unauthenticated)
        for endpoint in routes_of_nodes:
            app.view_functions[endpoint] = failures(app.view_functions[endpoint])

    def caller(self, name: str) -> None:
        """Count a request of this caller."""
        self._count(self._per_caller, "caller", name)

    def node(self, node_id: str, route: str) -> None:
        """Count a request of an authenticated node to this route.

        Anybody may make a node call `/model_upload`, which must not keep it from reporting progress.
        """
        self._count(self._per_node, "node", node_id, route)

    def losses(self, model_id: str) -> None:
        """Count a loss report for this model, in whatever letter case its id is sent."""
        self._count(self._losses_per_model, "losses", model_id.lower())

    def retry_after(self) -> int:
        """Return the seconds until the exceeded limit of an address is reset."""
        broken = self._limiter.current_limit
        return _seconds_until(broken.reset_at) if broken else LONGEST

    def _count(self, rates: Sequence[RateLimitItem], *key: str) -> None:
        # Not `Limiter.limit` as a context manager, which mixes up the keys of concurrent requests.
        counters = self._limiter.limiter
        for rate in rates:
            if not counters.hit(rate, *key):
                log.warning("rate.exceeded", limit=str(rate), key=":".join(key))
                reset_at = counters.get_window_stats(rate, *key).reset_time
                raise TooManyRequests(str(rate), retry_after=_seconds_until(reset_at))


def _seconds_until(time_of_reset: float) -> int:
    return max(1, int(time_of_reset - time.time()))


def _is_unauthenticated(response: Response) -> bool:
    return response.status_code == HTTPStatus.UNAUTHORIZED


def _log_breach(limit: RequestLimit) -> None:
    log.warning("rate.exceeded", limit=str(limit.limit), key=limit.key)
