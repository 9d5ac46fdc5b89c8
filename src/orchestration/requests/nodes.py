"""A data scientist asks for a node, an owner gives one up: the whole story of /create and /delete."""

from dataclasses import dataclass

from orchestration.control.lifecycle import Lifecycle
from orchestration.domain.decision import is_at_rest
from orchestration.domain.demand import WAKING_INTERVAL
from orchestration.domain.entities import Caller, Model, Wanted
from orchestration.domain.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    NodeFailed,
    NotFound,
    QuotaExceeded,
)
from orchestration.domain.node import Node, NodeStatus, Wish, node_id_of
from orchestration.domain.ports import Clock, Datasets, Models, Nodes, Users


@dataclass(frozen=True, slots=True)
class NodeRequest:
    """What `/create` asks: train this model, on these columns, on this dataset."""

    dataset_id: str
    model_id: str
    features: tuple[str, ...]
    labels: tuple[str, ...]

    def wanted_of(self, model: Model) -> Wanted:
        """Return what is to be recorded; the node knows the model by the name that was sent."""
        hosted_as = None if self.model_id == model.model_id else self.model_id
        return Wanted(self.features, self.labels, hosted_as)


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """Where the node is, or why there is none yet."""

    address: str | None
    reason: str

    @property
    def is_ready(self) -> bool:
        """Whether the model can be sent."""
        return self.address is not None


@dataclass(frozen=True, slots=True)
class NodeService:
    """Use cases of nodes."""

    models: Models
    datasets: Datasets
    users: Users
    nodes: Nodes
    lifecycle: Lifecycle
    clock: Clock

    def request(self, request: NodeRequest, *, caller: Caller) -> NodeAnswer:
        """Accept the model and see to it that its node comes up; never waits for it.

        Raises NotFound, AccessDenied, InvalidRequest, Conflict, QuotaExceeded, NodeFailed.
        """
        submitted = self._entitled(request, caller)
        model = self.models.accept(submitted, request.wanted_of(submitted), self.clock())
        node = self._advanced(self.nodes.ask(request.dataset_id, self.clock(), caller.username))
        if node.status is NodeStatus.FAILED:
            raise NodeFailed(
                f"The node could not be launched: {node.failure or 'no cause is known.'} "
                f"Ask again in {self.lifecycle.rules.budget.cool_down / 60:.0f} minutes."
            )
        if node.status is not NodeStatus.READY or node.wish is not Wish.UP or node.address is None:
            return NodeAnswer(None, _why_not_yet(node))
        if model.node_address != node.address:
            self.lifecycle.publication.publish(node, [model])
        return NodeAnswer(node.address, "")

    def _advanced(self, asked: Node) -> Node:
        try:
            return self.lifecycle.advance(asked)
        except QuotaExceeded:
            self.nodes.let_go(asked)  # refused is refused: it must not come up once somebody else's is gone
            raise

    def retire(self, dataset_id: str, *, caller: Caller, force: bool) -> Node | None:
        """The dataset's owner gives up its node; None if there was none.

        Raises NotFound, AccessDenied, Conflict.
        """
        if self.datasets.get(dataset_id).owner != caller.username:
            raise AccessDenied("Only the owner of a dataset can retire its node.")
        node = self.nodes.get(node_id_of(dataset_id))
        if node is None or (is_at_rest(node, self.lifecycle.rules.budget) and node.wish is Wish.DOWN):
            return None
        if not force:
            self._refuse_while_needed(dataset_id)
        if not self.nodes.let_go(node, wake_at=self.clock() + WAKING_INTERVAL):
            raise Conflict("Somebody has just asked for this node. Try again.")
        return self.nodes.get(node.node_id)

    def withdraw(self, model_id: str, *, caller: Caller) -> Model:
        """A model's owner ends its training. Raises NotFound, AccessDenied."""
        model = self.models.get(model_id)
        model.must_belong_to(caller)
        self.models.withdraw(model, self.clock())
        return model

    def _entitled(self, request: NodeRequest, caller: Caller) -> Model:
        model = self.models.get(request.model_id)
        model.must_belong_to(caller)
        if model.dataset_id != request.dataset_id:
            raise InvalidRequest(f"Model {model.model_id!r} was submitted for another dataset.")
        self.datasets.get(request.dataset_id)
        try:
            user = self.users.named(caller.username)
        except NotFound:
            raise AccessDenied("There is no account for this login on the marketplace.") from None
        if request.dataset_id not in user.purchased:
            raise AccessDenied(f"You have not purchased dataset {request.dataset_id!r}.")
        if not model.is_active:
            raise Conflict(
                f"Model {model.model_id!r} is complete or withdrawn. Send it under a new name or version."
            )
        return model

    def _refuse_while_needed(self, dataset_id: str) -> None:
        training = [model for model in self.models.on_dataset(dataset_id) if model.is_training]
        if holding := [*training, *self.models.to_retrieve(dataset_id)]:
            names = ", ".join(sorted(repr(model.model_id) for model in holding))
            raise Conflict(
                f"Unfinished models are on this node: {names}. Send force: true to retire it all the same."
            )


def _why_not_yet(node: Node) -> str:
    sentences = [node.reason or "The node is being launched."]
    if node.failure and node.failure not in node.reason:
        sentences.append(f"The last launch failed: {node.failure}")
    if node.took:
        sentences.append(f"The last launch that succeeded took {node.took:.0f} s.")
    return " ".join(sentences)
