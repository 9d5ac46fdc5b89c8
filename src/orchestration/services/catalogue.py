"""What there is to train, and where: the story of /info."""

from dataclasses import dataclass

from orchestration.domain.entities import Model
from orchestration.domain.node import NodeStatus, Wish, node_id_of
from orchestration.domain.ports import Datasets, Models, Nodes
from orchestration.services.accounts import AccountService
from orchestration.services.lifecycle import Clock

SEEN_INTERVAL = 60.0
"""Seconds between two notes that a device of a dataset has called: a write costs more than the reads."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a device can do now. Without an address: nothing, for the reason given."""

    reason: str = ""
    is_first_contact: bool = False
    address: str | None = None
    models: tuple[Model, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogueService:
    """Use cases of devices."""

    datasets: Datasets
    models: Models
    nodes: Nodes
    accounts: AccountService
    clock: Clock

    def work(self, dataset_id: str, *, api_key: str) -> Work:
        """Say which models a device can train, and where. Raises NotFound, Unauthenticated."""
        dataset = self.datasets.get(dataset_id)
        self.accounts.check_key(api_key, owner=dataset.owner)
        now = self.clock()
        if now - dataset.device_seen_at > SEEN_INTERVAL:
            self.datasets.device_seen(dataset_id, now)
        if not dataset.is_set_up:
            self.datasets.mark_set_up(dataset_id)
            return Work(f"{dataset_id} is properly configured", is_first_contact=True)
        node = self.nodes.get(node_id_of(dataset_id))
        if node is None or node.status is not NodeStatus.READY or node.wish is Wish.DOWN or not node.address:
            return Work("no node available yet")
        training = (model for model in self.models.on_dataset(dataset_id) if model.is_training)
        return Work(address=node.address, models=tuple(training))
