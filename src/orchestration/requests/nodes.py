"""Use cases of nodes: a data scientist requests one (`/create`), a dataset's owner retires it (`/delete`).

Both only write to tables. The reconciler makes the node run or stop.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestration.domain.decision import Budget, is_at_rest, is_given_up
from orchestration.domain.demand import WAKING_INTERVAL
from orchestration.domain.entities import Caller, Model
from orchestration.domain.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    NodeFailed,
    Overtaken,
    QuotaExceeded,
)
from orchestration.domain.node import WITH_STACK, Node, NodeStatus, Quota, node_id_of
from orchestration.domain.ports import Clock, Datasets, Models, Nodes, UploadTokens, Users
from orchestration.domain.publication import Publication
from orchestration.domain.uploads import network_of


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """The address of a node that is ready, or why it is not ready yet."""

    address: str | None
    reason: str = ""
    """Why the node is not ready, and why an upload of the model was refused or is missing."""
    upload_token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeService:
    """Use cases of nodes."""

    models: Models
    datasets: Datasets
    users: Users
    nodes: Nodes
    publication: Publication
    upload_tokens: UploadTokens
    budget: Budget
    quota: Quota
    clock: Clock

    def request(
        self,
        dataset_id: str,
        model_id: str,
        features: Sequence[str],
        labels: Sequence[str],
        *,
        caller: Caller,
        address: str | None = None,
    ) -> NodeAnswer:
        """Record what a model trains on and that its node should run; return where the node is.

        `address` is the caller's; the model may be uploaded from its network. Raises NotFound, AccessDenied,
        InvalidRequest, Conflict, QuotaExceeded, NodeFailed.
        """
        model = self._trainable(dataset_id, model_id, caller)
        hosted_as = None if model_id == model.model_id else model_id
        now = self.clock()
        self._check_quota(dataset_id, caller, now)
        model = self.models.accept(model, features, labels, hosted_as, now, _network(address))
        node = self.nodes.request(dataset_id, now, caller.username)
        if is_given_up(node, self.budget):
            raise NodeFailed(
                f"The node could not be launched: {node.failure or 'the reason is not known.'} "
                f"Ask again in {self.budget.cool_down / 60:.0f} minutes."
            )
        if node.status is not NodeStatus.READY or node.address is None:
            return NodeAnswer(None, f"{_why_not_ready(node)} {model.upload_failure}".strip())
        if model.node_address != node.address:
            self.publication.publish(node, [model])
        token = self.upload_tokens.token(node.node_id, model.name_on_node, model.version)
        return NodeAnswer(node.address, model.upload_failure, token)

    def _trainable(self, dataset_id: str, model_id: str, caller: Caller) -> Model:
        """Return the model if the caller owns it, has bought the dataset, and may train on it."""
        model = self.models.get(model_id)
        model.must_belong_to(caller)
        if not model.is_active or model.dataset_id != dataset_id:
            self.models.show(model)  # the library has sent its item again
        model.must_train()
        if model.dataset_id != dataset_id:
            raise InvalidRequest(f"Model {model.model_id!r} was submitted for another dataset.")
        self.datasets.get(dataset_id)
        rows = self.users.named(caller.username)
        if not rows:
            raise AccessDenied("There is no account for this login on the marketplace.")
        if not any(dataset_id in row.purchased for row in rows):
            raise AccessDenied(f"You have not purchased dataset {dataset_id!r}.")
        return model

    def _check_quota(self, dataset_id: str, caller: Caller, now: float) -> None:
        """Refuse a request for a node that the caller's quota would not let the reconciler launch.

        The launch checks the quota again, in the transaction that counts the node. If it was refused there,
        the caller's earlier request is taken back: it must not start a node when another one is gone.
        """
        node_id = node_id_of(dataset_id)
        node = self.nodes.get(node_id) or Node(node_id, dataset_id)
        if node.status in WITH_STACK or is_given_up(replace(node, requested_at=now), self.budget):
            return
        try:
            self.nodes.check_quota(caller.username, self.quota)
        except QuotaExceeded:
            with suppress(Overtaken):  # the reconciler has just launched it
                if node.should_run and node.requested_by == caller.username:
                    self.nodes.let_go(node)
                raise

    def retire(self, dataset_id: str, *, caller: Caller, force: bool) -> bool:
        """Record that a dataset's node should stop; return False if there is none.

        Raises NotFound, AccessDenied, Conflict.
        """
        if self.datasets.get(dataset_id).owner != caller.username:
            raise AccessDenied("Only the owner of a dataset can retire its node.")
        node = self.nodes.get(node_id_of(dataset_id))
        if node is None or (is_at_rest(node, self.budget) and not node.should_run):
            return False
        if not force:
            self._check_unneeded(dataset_id)
        try:
            self.nodes.let_go(node, wake_at=self.clock() + WAKING_INTERVAL)
        except Overtaken:
            raise Conflict("A data scientist has just requested this node. Try again.") from None
        return True

    def _check_unneeded(self, dataset_id: str) -> None:
        training = [model for model in self.models.on_dataset(dataset_id) if model.needs_node]
        awaited = [model for model in self.models.to_retrieve(dataset_id) if model.awaits_retrieval]
        if unfinished := [*training, *awaited]:
            names = ", ".join(sorted(repr(model.model_id) for model in unfinished))
            raise Conflict(
                f"Unfinished models are on this node: {names}. Send force: true to retire it all the same."
            )


def _network(address: str | None) -> str | None:
    """Return the network of a caller; None if a proxy has not passed a valid address."""
    with suppress(InvalidRequest):
        return network_of(address or "")
    return None


def _why_not_ready(node: Node) -> str:
    is_waiting = node.reason and node.status is not NodeStatus.FAILED
    sentences = [node.reason if is_waiting else "The node is being launched."]
    if node.failure and node.failure not in node.reason:
        sentences.append(f"The node failed before: {node.failure}")
    if node.took:
        sentences.append(f"The last launch that succeeded took {node.took:.0f} s.")
    return " ".join(sentences)
