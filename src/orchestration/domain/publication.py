"""Publishes a node's address to the marketplace: `nodeURL` of its dataset, `node_URL` of its models."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from orchestration.domain.entities import Model
from orchestration.domain.errors import NotFound
from orchestration.domain.node import Node, NodeStatus
from orchestration.domain.ports import Datasets, Models, Nodes


@dataclass(frozen=True, slots=True)
class Publication:
    """Copies a node's address from its record, which is authoritative, to the marketplace's tables."""

    nodes: Nodes
    datasets: Datasets
    models: Models

    def publish(self, node: Node, models: Sequence[Model]) -> None:
        """Write the address of a ready node to its dataset and to those of `models` that train.

        Skips addresses that are already published. A process that deletes the node's stack first records
        the deletion, then clears the addresses. If the record has changed by the time the addresses are
        written, they may have been written after they were cleared, so they are cleared again.
        """
        outdated = [model for model in models if model.is_training and model.node_address != node.address]
        if node.address is None or not (self._publish_on_dataset(node, node.address) or outdated):
            return
        for model in outdated:
            with suppress(NotFound):
                self.models.publish_node(model, node.address)
        now = self.nodes.get(node.node_id)
        if now is None or now.status is not NodeStatus.READY or now.generation != node.generation:
            self.clear(node.dataset_id)

    def _publish_on_dataset(self, node: Node, address: str) -> bool:
        """Return whether the address had to be written. A dataset may be deleted while its node runs."""
        try:
            if self.datasets.get(node.dataset_id).node_address == address:
                return False
        except NotFound:
            return False
        self.datasets.publish_node(node.dataset_id, address)
        return True

    def is_published(self, dataset_id: str) -> bool:
        """Return whether the dataset shows an address."""
        try:
            return self.datasets.get(dataset_id).node_address is not None
        except NotFound:
            return False

    def clear(self, dataset_id: str) -> None:
        """Remove the address from the dataset and from all models on it."""
        self.datasets.unpublish_node(dataset_id)
        self.models.unpublish_node(dataset_id)
