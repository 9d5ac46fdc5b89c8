"""Use cases of devices: models to train and their node (`/info`), loss reports (`/model_loss`)."""

from dataclasses import dataclass, field

import structlog

from orchestration.domain.cycle import Report
from orchestration.domain.demand import Waker
from orchestration.domain.entities import Dataset, Model
from orchestration.domain.errors import Conflict, NotFound, OrchestrationError, Overtaken
from orchestration.domain.node import NodeStatus, node_id_of
from orchestration.domain.ports import Clock, Datasets, Models, Nodes
from orchestration.domain.schedule import Schedule
from orchestration.requests.accounts import AccountService

log = structlog.get_logger(__name__)

SEEN_INTERVAL = 60.0
"""Seconds between two writes of `device_at`. A write costs more than all reads of an `/info`."""

NO_NODE = "no node available yet"
NOBODY = " "
"""No username: Cognito's contain no space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRules:
    """Which loss reports are accepted; times in seconds."""

    bound: float
    """Largest absolute loss or accuracy."""
    late: float
    """How long after a model's last cycle a report is ignored; later it is an error."""
    device_seen_within: float
    """How long a device's valid API key at `/info` authorizes the loss reports of its dataset."""
    key_required: bool
    """Whether a report must carry the API key itself."""


@dataclass(frozen=True, slots=True)
class Work:
    """The models that a device can train now, and their node's address; without an address, `reason`."""

    reason: str = ""
    is_first_contact: bool = False
    address: str | None = None
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceService:
    """Use cases of devices."""

    datasets: Datasets
    models: Models
    nodes: Nodes
    accounts: AccountService
    waker: Waker
    rules: ReportRules
    clock: Clock
    authorization_ends: Schedule = field(default_factory=Schedule)
    """When the authorization of each dataset's loss reports is looked up again."""

    def work(self, dataset_id: str, *, api_key: str) -> Work:
        """Return the models that a device can train, and their node. Raises Unauthenticated.

        A node that is stopped is woken at most once a day, for models that still wait for devices.
        """
        dataset = self._opened(dataset_id, api_key)
        now = self.clock()
        node = self.nodes.get(node_id_of(dataset_id))
        if node is None or now - node.device_at > SEEN_INTERVAL:
            self.nodes.device_seen(dataset_id, now)
        if not dataset.is_set_up:
            self.datasets.mark_set_up(dataset_id)
            return Work(f"{dataset_id} is properly configured", is_first_contact=True)
        if node is None:
            return Work(NO_NODE)
        if self.waker.may_wake(node):
            self.waker.wake(node, self._training(dataset_id))
            return Work(NO_NODE)
        if not node.should_run or node.status is not NodeStatus.READY or not node.address:
            return Work(NO_NODE)
        return Work(address=node.address, models=self._training(dataset_id))

    def _training(self, dataset_id: str) -> tuple[Model, ...]:
        """Return the models that the node hosts. Before its owner's upload, a name is a secret."""
        models = self.models.on_dataset(dataset_id)
        return tuple(model for model in models if model.is_training and model.is_hosted)

    def record_loss(self, model_id: str, loss: float, acc: float, *, api_key: str) -> bool:
        """Count one device's report; return False if the model completed a moment ago.

        A device posts its loss while its node closes the cycle, so reports arrive up to `rules.late` seconds
        after a model's last cycle. Raises NotFound, InvalidRequest, Unauthenticated, Conflict.
        """
        model = self._reported(model_id, api_key)
        try:
            return self._count(model, Report.of(loss, acc, self.rules.bound))
        except OrchestrationError as error:
            log.info("report.rejected", model_id=model.model_id, error=str(error))
            self.models.reject(model)
            raise

    def _reported(self, model_id: str, api_key: str) -> Model:
        """Return the model of a report that is authorized. Raises NotFound, Unauthenticated.

        Whoever may not report can't tell a missing model from others: the reads and the answer are the same.
        """
        try:
            model = self.models.hosted(model_id)
        except NotFound:
            model = None
        dataset_id = model.dataset_id if model else model_id
        if self.rules.key_required:
            self._opened(dataset_id, api_key)
        elif not self._has_seen_key(dataset_id):
            log.info("report.not_authorized", model_id=model_id)
            model = None
        if model is None:
            raise NotFound(f"There is no model {model_id!r} to report for.")
        return model

    def _count(self, model: Model, report: Report) -> bool:
        if model.is_active:
            try:
                self.models.count(model, report)
            except Overtaken:  # it has completed since it was read
                model = self.models.hosted(model.name_on_node)
            else:
                return True
        if self.clock() - model.ended_at > self.rules.late:
            raise Conflict(f"Model {model.model_id!r} no longer trains.")
        return False

    def _has_seen_key(self, dataset_id: str) -> bool:
        """Return whether a device of the dataset has shown a valid API key.

        The pod sends no credential with a loss report. So a valid key at `/info` authorizes the reports of
        its dataset for a day, unless `rules.key_required`.
        """
        now = self.clock()
        if not self.authorization_ends.is_due(dataset_id, now):
            return True
        node = self.nodes.get(node_id_of(dataset_id))
        ends = (node.device_at if node else 0.0) + self.rules.device_seen_within
        if now <= ends:
            self.authorization_ends.set(dataset_id, ends)
        return now <= ends

    def _opened(self, dataset_id: str, api_key: str) -> Dataset:
        """Return the dataset that a key is valid for. Raises Unauthenticated.

        A missing dataset is refused like one of another developer, after the same reads.
        """
        try:
            dataset = self.datasets.get(dataset_id)
        except (NotFound, Conflict):
            dataset = Dataset(dataset_id, owner=NOBODY)
        self.accounts.check_key(api_key, owner=dataset.owner)
        return dataset
