"""The use cases, as a view finds them."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from orchestration.api.limits import RateLimits
from orchestration.api.links import DownloadLinks
from orchestration.control.collect import DownloadService
from orchestration.domain.ports import AuditLog, TokenVerifier
from orchestration.domain.progress import TrainingService
from orchestration.requests.accounts import AccountService
from orchestration.requests.devices import CatalogueService
from orchestration.requests.nodes import NodeService
from orchestration.requests.reports import ReportService

KEY = "orchestration"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a request may call."""

    tokens: TokenVerifier
    nodes: NodeService
    training: TrainingService
    reports: ReportService
    catalogue: CatalogueService
    accounts: AccountService
    downloads: DownloadService
    links: DownloadLinks
    limits: RateLimits
    audit: AuditLog

    def bind(self, app: Flask) -> None:
        """Make these the services of an app."""
        app.extensions[KEY] = self


def services() -> Services:
    """Return the services of the app that handles this request."""
    return cast(Services, current_app.extensions[KEY])
