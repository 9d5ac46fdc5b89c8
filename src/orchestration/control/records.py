"""The record of a node and the audit log beside it, as the reconciler writes them."""

from dataclasses import dataclass

from orchestration.domain.node import Node
from orchestration.domain.ports import AuditEntry, AuditLog, Nodes


@dataclass(frozen=True, slots=True)
class Records:
    """Writes the changes of a step, and the audit log."""

    nodes: Nodes
    log: AuditLog

    def change(self, node: Node, **changes: object) -> Node:
        """Write the fields that differ from `node`, if any, and return the record. Raises Overtaken."""
        new = {name: value for name, value in changes.items() if getattr(node, name) != value}
        return self.nodes.change(node, new) if new else node

    def audit(self, node: Node, action: str, actor: str = "service") -> None:
        """Record an action on a node in the audit log."""
        self.log.record(AuditEntry(actor, action, f"dataset:{node.dataset_id}", "ok"))
