"""Writes what a step has found out; where another process was faster, its record is the answer."""

from dataclasses import dataclass

from orchestration.domain.node import Node
from orchestration.domain.ports import AuditEntry, AuditLog, Nodes


@dataclass(frozen=True, slots=True)
class Records:
    """The record of a node, and the audit log beside it."""

    nodes: Nodes
    audit: AuditLog

    def note(self, node: Node, **changes: object) -> Node:
        """Write what is new, provided the record is where `node` was read; return it as it is then."""
        news = {name: value for name, value in changes.items() if getattr(node, name) != value}
        if not news:
            return node
        return self.nodes.change(node, news) or self.now(node)

    def now(self, node: Node) -> Node:
        """Return the record as it is now."""
        return self.nodes.get(node.node_id) or node

    def tell(self, node: Node, action: str, actor: str = "service") -> None:
        """Note in the audit log what was done."""
        self.audit.record(AuditEntry(actor, action, f"dataset:{node.dataset_id}", "ok"))
