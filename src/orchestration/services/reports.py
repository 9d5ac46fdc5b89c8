"""Which loss reports are believed. The pod sends no credential with them, so others have to vouch."""

from dataclasses import dataclass

import structlog

from orchestration.domain.cycle import Report
from orchestration.domain.entities import Dataset, Model
from orchestration.domain.errors import AccessDenied, Conflict, OrchestrationError
from orchestration.domain.ports import Datasets, Models
from orchestration.services.accounts import AccountService
from orchestration.services.lifecycle import Clock

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
    accounts: AccountService
    rules: ReportRules
    clock: Clock

    def record(self, model_id: str, loss: float, acc: float, *, api_key: str) -> bool:
        """Count one device's report; False for a straggler, whose model is complete.

        Raises NotFound, InvalidRequest, AccessDenied, Unauthenticated, Conflict.
        """
        model = self.models.get(model_id)
        try:
            report = Report.of(loss, acc, self.rules.bound)
            self._vouched_for(self.datasets.get(model.dataset_id), api_key)
            if model.is_active and self.models.count(model, report) is not None:
                return True
            self._in_time(self.models.get(model.model_id))
        except OrchestrationError as error:
            log.info("report.rejected", model_id=model.model_id, cause=str(error))
            self.models.reject(model)
            raise
        return False

    def _vouched_for(self, dataset: Dataset, api_key: str) -> None:
        if self.rules.key_required:
            self.accounts.check_key(api_key, owner=dataset.owner)
        elif self.clock() - dataset.device_seen_at > self.rules.device_seen_within:
            raise AccessDenied("No device of this dataset has shown a valid API key lately.")

    def _in_time(self, model: Model) -> None:
        if self.clock() - model.ended_at > self.rules.late:
            raise Conflict(f"Model {model.model_id!r} no longer trains.")
