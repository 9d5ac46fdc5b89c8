"""What truly stands in a fake account, for a test's assertions; no call is made and none is counted."""

from collections.abc import Mapping

from tests.fakes.cfn_account import NODE_TAG, Account
from tests.fakes.cfn_stack import Stack

Leak = tuple[str, str]
"""The name of a deleted stack, and a resource of it that is still there."""


class Census:
    """Counts what costs money, now."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def standing(self, tags: Mapping[str, str] | None = None, *, prefix: str = "") -> list[Stack]:
        """Return the stacks that aren't deleted, of these tags and with a name that begins so."""
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
        """Return the names of the stacks whose ECS service is there, whatever became of the stack."""
        now = self._account.clock()
        found = []
        for stack in self._account.all:
            stack.reconcile(now)
            if stack.service is not None and stack.service.exists:
                found.append(stack.name)
        return found

    def leaks(self) -> list[Leak]:
        """Return the resources that outlived their stack: retained, or left behind by force."""
        now = self._account.clock()
        found: list[Leak] = []
        for stack in self._account.all:
            stack.reconcile(now)
            if not stack.stands:
                found += [(stack.name, id_) for id_ in stack.made()]
        return found

    def most_at_once(self, node_id: str) -> int:
        """Return how many stacks of a node have ever stood beside each other."""
        return self._account.most_at_once.get(node_id, 0)

    def beside(self, node_id: str) -> list[str]:
        """Return in which statuses stacks of a node were when another one was put up beside them."""
        return list(self._account.beside.get(node_id, ()))
