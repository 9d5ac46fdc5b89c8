"""What a view works with: the use cases, and the audit log around a call of one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app, g

from orchestration.api.errors import described
from orchestration.api.limits import RateLimits
from orchestration.domain.ports import AuditEntry, AuditLog, TokenVerifier
from orchestration.domain.progress import ProgressService
from orchestration.requests.accounts import AccountService
from orchestration.requests.devices import DeviceService
from orchestration.requests.models import ModelService
from orchestration.requests.nodes import NodeService
from orchestration.requests.uploads import UploadService

EXTENSION = "orchestration"


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that views call, stored in `app.extensions["orchestration"]`."""

    tokens: TokenVerifier
    nodes: NodeService
    devices: DeviceService
    models: ModelService
    accounts: AccountService
    progress: ProgressService
    uploads: UploadService
    limits: RateLimits
    audit: AuditLog

    def bind(self, app: Flask) -> None:
        """Make these the services of an app."""
        app.extensions[EXTENSION] = self


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions[EXTENSION])


@contextmanager
def audited(action: str, subject: str, *, failures_only: bool = False) -> Iterator[None]:
    """Record in the audit log what the caller does inside the block, and whether it succeeded.

    `subject` is `model:`, `dataset:` or `user:`, followed by an id.
    """
    try:
        yield
    except Exception as error:
        status, message = described(error)
        _record(action, subject, f"{status:d} {message}")
        raise
    if not failures_only:
        _record(action, subject, "ok")


def _record(action: str, subject: str, result: str) -> None:
    services().audit.record(AuditEntry(g.caller.username, action, subject, result))
