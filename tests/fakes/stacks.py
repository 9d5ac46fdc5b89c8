"""Fakes of the port to CloudFormation, and of the nodes of its stacks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from orchestration.domain.entities import Model
from orchestration.domain.errors import NodeUnreachable, StackFailed, Upstream
from orchestration.domain.node import ABSENT_STACK, ListedStack, Node, NodeStack, StackPhase, node_id_of
from orchestration.domain.ports import Deletion, NodeCredential, State

Name = tuple[str, int]
"""Name of a stack: a node's id and the generation."""


@dataclass
class FakeStack:
    """One stack, as CloudFormation describes it."""

    node_id: str
    generation: int
    secret_reference: str
    phase: StackPhase = StackPhase.CREATING
    reason: str = ""
    created_at: float = 0.0

    @property
    def name(self) -> Name:
        return (self.node_id, self.generation)

    @property
    def stack_id(self) -> str:
        return f"arn:stack:{self.node_id}-{self.generation}"

    @property
    def address(self) -> str:
        """Host name; each generation has another one."""
        return f"node-{self.generation}.{self.node_id}.test"


class FakeStacks:
    """CloudFormation. Each description of a changing stack moves it one phase further.

    `refusal`: launches and repairs are refused; `failure`: launches fail; `hangs`: no phase changes;
    `undeletable`: deletions fail; `protected`: deletions are refused; `away`: calls raise Upstream;
    `strangers`: names that stacks of another program have.
    """

    def __init__(self) -> None:
        self.stacks: dict[Name, FakeStack] = {}
        self.strangers: set[Name] = set()
        self.launched: list[Name] = []
        self.most_at_once = 0
        self.refusal = self.failure = ""
        self.hangs = self.undeletable = self.protected = self.away = False
        self.deleted: list[tuple[str, int, Deletion]] = []
        self.repaired: list[str] = []

    def describe(self, node: Node) -> NodeStack:
        self._reached()
        if node.stack_id is None and (node.node_id, node.generation) in self.strangers:
            return NodeStack(StackPhase.FOREIGN, remark="A stranger's stack.")
        stack = self._find(node)
        return ABSENT_STACK if stack is None else self._shown(stack)

    def _shown(self, stack: FakeStack) -> NodeStack:
        address = stack.address if stack.phase is StackPhase.USABLE else None
        shown = NodeStack(stack.phase, stack.stack_id, address, remark=stack.reason)
        if not self.hangs:
            stack.phase = self._after(stack)
        return shown

    def launch(self, node: Node, secret_reference: str) -> str | None:
        self._reached()
        if self.refusal:
            raise StackFailed(self.refusal)
        name = (node.node_id, node.generation)
        if name in self.stacks or name in self.strangers:
            return None
        self.stacks[name] = FakeStack(*name, secret_reference)
        self.launched.append(name)
        self.most_at_once = max(self.most_at_once, len(self.standing(node.node_id)))
        return self.stacks[name].stack_id

    def delete(self, _node: Node, stack: NodeStack, how: Deletion) -> Sequence[str]:
        self._reached()
        found = self._with_id(stack)
        if found is not None and found.phase is not StackPhase.ABSENT:
            if self.protected:
                raise StackFailed("Termination protection.")
            self.deleted.append((*found.name, how))
            found.phase = StackPhase.DELETING
            if how is Deletion.RETAINING:
                return ["Service"]
        return ()

    def cancel_update(self, _node: Node, stack: NodeStack) -> None:
        self._repaired("cancel update", stack, StackPhase.FINISHING)

    def roll_back(self, _node: Node, stack: NodeStack) -> None:
        self._repaired("roll back", stack, StackPhase.FINISHING)

    def continue_rollback(self, _node: Node, stack: NodeStack) -> None:
        self._repaired("continue rollback", stack, StackPhase.FINISHING)

    @contextmanager
    def refusing(self, why: str) -> Iterator[None]:
        """Refuse launches and repairs within the context."""
        self.refusal = why
        yield
        self.refusal = ""

    def _repaired(self, what: str, stack: NodeStack, phase: StackPhase) -> None:
        self._reached()
        if self.refusal:
            raise StackFailed(self.refusal)
        found = self._with_id(stack)
        assert found is not None
        self.repaired.append(what)
        found.phase = phase

    def explain(self, _node: Node, stack: NodeStack) -> str:
        self._reached()
        found = self._with_id(stack)
        return found.reason if found is not None else stack.remark

    def all(self) -> Iterator[ListedStack]:
        self._reached()
        for stack in list(self.stacks.values()):
            if stack.phase is not StackPhase.ABSENT:
                yield ListedStack(stack.node_id, stack.generation, stack.created_at, self._shown(stack))

    def standing(self, node_id: str) -> list[FakeStack]:
        """Return the stacks of a node that cost money."""
        return [
            stack
            for stack in self.stacks.values()
            if stack.node_id == node_id and stack.phase is not StackPhase.ABSENT
        ]

    def _after(self, stack: FakeStack) -> StackPhase:
        match stack.phase:
            case StackPhase.CREATING:
                stack.reason = self.failure
                return StackPhase.FAILING if self.failure else StackPhase.USABLE
            case StackPhase.FAILING:
                return StackPhase.BROKEN
            case StackPhase.DELETING:
                return StackPhase.UNDELETABLE if self.undeletable else StackPhase.ABSENT
            case _:
                return stack.phase

    def _find(self, node: Node) -> FakeStack | None:
        if node.stack_id is None:  # a deleted stack can't be found by its name
            stack = self.stacks.get((node.node_id, node.generation))
            return None if stack is None or stack.phase is StackPhase.ABSENT else stack
        return next(stack for stack in self.stacks.values() if stack.stack_id == node.stack_id)

    def _with_id(self, stack: NodeStack) -> FakeStack | None:
        return next((found for found in self.stacks.values() if found.stack_id == stack.stack_id), None)

    def _reached(self) -> None:
        if self.away:
            raise Upstream("CloudFormation did not answer.")


class FakeServer:
    """The nodes: each answers while its stack is usable. If `silent`, none does.

    They host the models in `uploaded`, by their names. Each retrieval of a trained model raises the next of
    `troubles`; afterwards it returns `state`.
    """

    def __init__(self, stacks: FakeStacks) -> None:
        self._stacks = stacks
        self.silent = False
        self.state = b"trained"
        self.troubles: dict[str, list[Exception]] = {}
        self.asked_for: list[str] = []
        self.checkpoints: dict[str, int] = {}
        self.uploaded: set[str] = set()
        self.looked_for: list[str] = []
        self.credentials: list[NodeCredential] = []

    def answers(self, address: str, node_id: str) -> bool:
        standing = self._stacks.standing(node_id)
        return not self.silent and any(
            stack.address == address and stack.phase is StackPhase.USABLE for stack in standing
        )

    def hosts(self, address: str, model: Model, credential: NodeCredential) -> bool:
        self.credentials.append(credential)
        if not self.answers(address, node_id_of(model.dataset_id)):
            raise NodeUnreachable("The node did not say how far the model is.")
        self.looked_for.append(model.name_on_node)
        return model.name_on_node in self.uploaded

    def newest_checkpoint(self, address: str, model: Model, credential: NodeCredential, beyond: int) -> int:
        self.credentials.append(credential)
        if not self.answers(address, node_id_of(model.dataset_id)):
            raise NodeUnreachable("The node did not say how far the model is.")
        self.asked_for.append(f"{model.name_on_node} beyond {beyond}")
        return max(beyond, self.checkpoints.get(model.model_id, beyond))

    def trained_model(self, address: str, model: Model, credential: NodeCredential) -> State:
        self.credentials.append(credential)
        if not self.answers(address, node_id_of(model.dataset_id)):
            raise NodeUnreachable("The node did not hand over the trained model.")
        self.asked_for.append(model.name_on_node)
        if self.troubles.get(model.model_id):
            raise self.troubles[model.model_id].pop(0)
        return self.state
