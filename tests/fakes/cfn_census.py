"""Counts what exists in a fake account, for assertions; it makes no call."""

from collections.abc import Mapping

from tests.fakes.cfn_account import NODE_TAG, Account
from tests.fakes.cfn_stack import Stack

Leak = tuple[str, str]
"""The name of a deleted stack, and one of its resources that still exists."""


class Census:
    """Counts the stacks and resources that cost money now."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def standing(self, tags: Mapping[str, str] | None = None, *, prefix: str = "") -> list[Stack]:
        """Return the stacks that aren't deleted, with these tags and a name with this prefix."""
        wanted = (tags or {}).items()
        return [
            stack
            for stack in self._account.standing()
            if stack.name.startswith(prefix) and wanted <= stack.tags.items()
        ]

    def of_node(self, node_id: str) -> list[Stack]:
        """Return the stacks of a node that aren't deleted."""
        return self.standing({NODE_TAG: node_id})

    def live_services(self) -> list[str]:
        """Return the names of the stacks whose ECS service exists, in any status of the stack."""
        now = self._account.clock()
        found = []
        for stack in self._account.all:
            stack.reconcile(now)
            if stack.service is not None and stack.service.exists:
                found.append(stack.name)
        return found

    def leaks(self) -> list[Leak]:
        """Return the resources of deleted stacks that still exist: retained, or skipped by force."""
        now = self._account.clock()
        found: list[Leak] = []
        for stack in self._account.all:
            stack.reconcile(now)
            if not stack.exists:
                found += [(stack.name, id_) for id_ in stack.made()]
        return found

    def most_at_once(self, node_id: str) -> int:
        """Return the largest number of stacks that a node has had at the same time."""
        return self._account.most_at_once.get(node_id, 0)

    def beside(self, node_id: str) -> list[str]:
        """Return the statuses that a node's stacks had when another one was created."""
        return list(self._account.beside.get(node_id, ()))
