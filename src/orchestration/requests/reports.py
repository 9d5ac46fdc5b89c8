"""Which loss reports are believed. The pod sends no credential with them, so others have to vouch."""

from dataclasses import dataclass, field

import structlog

from orchestration.domain.cycle import Report
from orchestration.domain.entities import Model
from orchestration.domain.errors import AccessDenied, Conflict, OrchestrationError
from orchestration.domain.node import node_id_of
from orchestration.domain.ports import Clock, Datasets, Models, Nodes
from orchestration.requests.accounts import AccountService

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReportRules:
    """What a report has to keep to; times in seconds."""

    bound: float
    """Largest loss."""
    late: float
    """How long after the last cycle a straggler is no offence."""
    device_seen_within: float
    """How long a device's valid key vouches for the reports of its dataset."""
    key_required: bool


@dataclass(frozen=True, slots=True)
class ReportService:
    """Takes the reports of devices."""

    models: Models
    datasets: Datasets
    nodes: Nodes
    accounts: AccountService
    rules: ReportRules
    clock: Clock
    vouched_until: dict[str, float] = field(default_factory=dict)
    """Until when each dataset is vouched for. What was read stays true: a device's call only adds to it."""

    def record(self, model_id: str, loss: float, acc: float, *, api_key: str) -> bool:
        """Count one device's report; False for a straggler, whose model is complete.

        Raises NotFound, InvalidRequest, AccessDenied, Unauthenticated, Conflict.
        """
        model = self.models.get(model_id)
        try:
            report = Report.of(loss, acc, self.rules.bound)
            self._vouched_for(model.dataset_id, api_key)
            if model.is_active and self.models.count(model, report) is not None:
                return True
            self._in_time(self.models.get(model.model_id))
        except OrchestrationError as error:
            log.info("report.rejected", model_id=model.model_id, cause=str(error))
            self.models.reject(model)
            raise
        return False

    def _vouched_for(self, dataset_id: str, api_key: str) -> None:
        now = self.clock()
        if not self.rules.key_required and now <= self.vouched_until.get(dataset_id, 0.0):
            return
        if self.rules.key_required:
            self.accounts.check_key(api_key, owner=self.datasets.get(dataset_id).owner)
            return
        node = self.nodes.get(node_id_of(dataset_id))
        until = (node.device_at if node else 0.0) + self.rules.device_seen_within
        if now > until:
            raise AccessDenied("No device of this dataset has shown a valid API key lately.")
        self.vouched_until[dataset_id] = until

    def _in_time(self, model: Model) -> None:
        if self.clock() - model.ended_at > self.rules.late:
            raise Conflict(f"Model {model.model_id!r} no longer trains.")
