"""What there is to train, and where: the story of /info."""

from dataclasses import dataclass

from orchestration.domain.demand import Waker
from orchestration.domain.entities import Model
from orchestration.domain.node import Node, NodeStatus, Wish, node_id_of
from orchestration.domain.ports import Clock, Datasets, Models, Nodes
from orchestration.requests.accounts import AccountService

SEEN_INTERVAL = 60.0
"""Seconds between two notes that a device of a dataset has called: a write costs more than the reads."""

NO_NODE = "no node available yet"


@dataclass(frozen=True, slots=True)
class Work:
    """What a device can do now. Without an address: nothing, for the reason given."""

    reason: str = ""
    is_first_contact: bool = False
    address: str | None = None
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogueService:
    """Use cases of devices. A device never calls CloudFormation: at most it wishes its node up."""

    datasets: Datasets
    models: Models
    nodes: Nodes
    accounts: AccountService
    waker: Waker
    clock: Clock

    def work(self, dataset_id: str, *, api_key: str) -> Work:
        """Say which models a device can train, and where. Raises NotFound, Unauthenticated."""
        dataset = self.datasets.get(dataset_id)
        self.accounts.check_key(api_key, owner=dataset.owner)
        now = self.clock()
        node = self.nodes.get(node_id_of(dataset_id))
        if node is None or now - node.device_at > SEEN_INTERVAL:
            self.nodes.device_seen(dataset_id, now)
        if not dataset.is_set_up:
            self.datasets.mark_set_up(dataset_id)
            return Work(f"{dataset_id} is properly configured", is_first_contact=True)
        if node is None:
            return Work(NO_NODE)
        if node.wish is Wish.DOWN or node.status is NodeStatus.FAILED:
            self._wake(node)
            return Work(NO_NODE)
        if node.status is not NodeStatus.READY or not node.address:
            return Work(NO_NODE)
        training = (model for model in self.models.on_dataset(dataset_id) if model.is_training)
        return Work(address=node.address, models=tuple(training))

    def _wake(self, node: Node) -> None:
        """A model that was left for days still waits for devices: once a day one may wake its node."""
        if self.waker.may_wake(node):
            models = self.models.on_dataset(node.dataset_id)
            self.waker.wake(node, [model for model in models if model.is_training])
