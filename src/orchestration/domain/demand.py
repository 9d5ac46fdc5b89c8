"""Wishes a sleeping node up where nobody has asked: for a device, or for a model that isn't home yet."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from orchestration.domain.entities import Model
from orchestration.domain.node import Node, NodeStatus, Wish
from orchestration.domain.ports import Clock, Nodes

log = structlog.get_logger(__name__)

WAKING_INTERVAL = 86_400.0
"""Seconds between two times that a node is woken so; an owner who retires it has as long to be left alone."""


@dataclass(frozen=True, slots=True)
class Waker:
    """It only sets the wish; the reconciler launches."""

    nodes: Nodes
    clock: Clock

    def may_wake(self, node: Node) -> bool:
        """Whether it sleeps, or was given up long ago, and hasn't been woken lately."""
        now = self.clock()
        given_up = node.status is NodeStatus.FAILED and now >= node.failed_at + WAKING_INTERVAL
        return (node.wish is Wish.DOWN or given_up) and now >= node.wake_at

    def wake(self, node: Node, models: Sequence[Model]) -> None:
        """Wake it for these models, on the account of the first one's owner."""
        now = self.clock()
        if (
            models
            and self.may_wake(node)
            and self.nodes.wake(node, now, models[0].owner, now + WAKING_INTERVAL)
        ):
            log.info("node.woken", node_id=node.node_id, dataset_id=node.dataset_id)
