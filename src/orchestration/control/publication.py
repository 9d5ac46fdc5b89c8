"""Shows the marketplace where a node is, and takes the word back before the node goes."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from orchestration.domain.entities import Model
from orchestration.domain.errors import NotFound
from orchestration.domain.node import Node, NodeStatus
from orchestration.domain.ports import Datasets, Models, Nodes


@dataclass(frozen=True, slots=True)
class Publication:
    """`nodeURL` of datasets and `node_URL` of models, which follow the node's own record."""

    nodes: Nodes
    datasets: Datasets
    models: Models

    def publish(self, node: Node, models: Sequence[Model]) -> None:
        """Show where a ready node is, on its dataset and on those of these models that train.

        Whoever takes the node down says so in its record first and clears this after; so a look at the record
        behind our back is enough not to leave the address of a node that is gone.
        """
        unaware = [model for model in models if model.is_training and model.node_address != node.address]
        if node.address is None or not (self._publish_on_dataset(node, node.address) or unaware):
            return
        for model in unaware:
            with suppress(NotFound):
                self.models.publish_node(model, node.address)
        now = self.nodes.get(node.node_id)
        if now is None or now.status is not NodeStatus.READY or now.generation != node.generation:
            self.take_back(node.dataset_id)

    def _publish_on_dataset(self, node: Node, address: str) -> bool:
        try:
            if self.datasets.get(node.dataset_id).node_address == address:
                return False
        except NotFound:
            return False  # the marketplace has deleted it; its node is looked after all the same
        self.datasets.publish_node(node.dataset_id, address)
        return True

    def is_shown(self, node: Node) -> bool:
        """Whether the marketplace still shows where it is."""
        try:
            return self.datasets.get(node.dataset_id).node_address is not None
        except NotFound:
            return False

    def take_back(self, dataset_id: str) -> None:
        """Show that there is no node."""
        self.datasets.unpublish_node(dataset_id)
        self.models.unpublish_node(dataset_id)
