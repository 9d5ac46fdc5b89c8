"""Launches, describes and deletes the stacks of nodes: the port `NodeStacks`, on CloudFormation."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from orchestration.domain.errors import StackFailed, Upstream
from orchestration.domain.node import ABSENT_STACK, ListedStack, Node, NodeStack, StackPhase
from orchestration.domain.ports import Deletion
from orchestration.provisioning.cfn_helper import CfnHelper, NewStack, Removal, Stack, Template
from orchestration.provisioning.ecs_tasks import EcsTasks
from orchestration.provisioning.names import CLUSTER_NAME_OUTPUT, NODE_ADDRESS_OUTPUT
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.synthesizer import TemplateName, load_template

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

log = structlog.get_logger(__name__)

NODE_TAG = "artificien:node-id"
DATASET_TAG = "artificien:dataset-id"
GENERATION_TAG = "artificien:generation"

_SERVING = frozenset({StackPhase.USABLE, StackPhase.UPDATING, StackPhase.FINISHING, StackPhase.IMPORTED})
_OUTPUTS_LIFETIME = 300.0  # seconds; the outputs only change when an operator updates the cluster stack
_LONGEST_TAG = 256  # characters


def _node_template() -> Template:
    return load_template(TemplateName.NODE)


class CloudFormationNodeStacks:
    """Implements `NodeStacks`. It never changes a stack without the node's tag."""

    def __init__(
        self,
        client: "CloudFormationClient",
        tasks: EcsTasks,
        *,
        prefix: str,
        cluster_stack: str,
        shape: NodeShape,
        role_arn: str = "",
        template: Callable[[], Template] = _node_template,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Name stacks `<prefix>-<node id>-<generation>`; they run in the cluster of `cluster_stack`.

        CloudFormation acts with the role `role_arn`; without one, with the caller's permissions.
        """
        self._stacks = CfnHelper(client, sleep=sleep)
        self._tasks = tasks
        self._prefix = prefix
        self._cluster_stack = cluster_stack
        self._shape = shape
        self._role_arn = role_arn
        self._template = template
        self._clock = clock
        self._cluster: tuple[float, Mapping[str, str]] | None = None

    def describe(self, node: Node) -> NodeStack:
        """Return the stack of this generation: by its ARN if that is known, else by its name."""
        stack = self._stacks.describe(node.stack_id or self._name(node))
        if stack is None:
            return NodeStack(StackPhase.UNSEEN, node.stack_id) if node.stack_id else ABSENT_STACK
        if stack.tags.get(NODE_TAG) == node.node_id:
            return _seen(stack)
        if node.stack_id:
            return NodeStack(StackPhase.UNKNOWN, remark=f"The stack {stack.name} has lost the node's tag.")
        return NodeStack(StackPhase.FOREIGN, remark=f"Another program has created the stack {stack.name}.")

    def all(self) -> Iterator[ListedStack]:
        """Return every stack whose tags and name are those of a node; ignores the account's other stacks."""
        for stack in self._stacks.all():
            node_id, generation = stack.tags.get(NODE_TAG), stack.tags.get(GENERATION_TAG, "")
            if node_id and generation.isdecimal() and stack.name == f"{self._prefix}-{node_id}-{generation}":
                yield ListedStack(node_id, int(generation), stack.created_at, _seen(stack))

    def explain(self, node: Node, stack: NodeStack) -> str:
        """Return the first failure among the stack's resources, and why the node's task stopped."""
        failure = self._stacks.first_failure(stack.stack_id) if stack.stack_id else ""
        return " ".join(filter(None, [failure, self._stop_reason(node)])) or stack.remark

    def _stop_reason(self, node: Node) -> str:
        """Return "" if ECS can't be reached: the failed stack must be deleted anyway."""
        try:
            cluster = self._cluster_outputs().get(CLUSTER_NAME_OUTPUT, "")
            family = f"{self._prefix}-{node.node_id}"
            return self._tasks.stop_reason(cluster, family, since=node.launched_at)
        except Upstream as error:
            log.warning("task.lookup_failed", node_id=node.node_id, cause=str(error))
            return ""

    def launch(self, node: Node, secret_reference: str) -> str | None:
        """Create the stack of this generation and return its ARN; None if it exists.

        `secret_reference` is the ARN of the node's secret. Raises StackFailed if CloudFormation refuses, or
        if there is no usable cluster.
        """
        name = self._name(node)
        template = self._template()
        parameters = {"NodeId": node.node_id, "NodeSecretArn": secret_reference}
        parameters |= self._shape.parameters(node.attempts)
        return self._stacks.create(
            NewStack(
                name=name,
                template=template,
                token=_token("launch", node, name),
                parameters=parameters | self._from_cluster(template["Parameters"].keys() - parameters.keys()),
                tags={
                    NODE_TAG: node.node_id,
                    DATASET_TAG: tag_value(node.dataset_id),
                    GENERATION_TAG: str(node.generation),
                },
                role_arn=self._role_arn,
            )
        )

    def delete(self, node: Node, stack: NodeStack, how: Deletion) -> Sequence[str]:
        """Delete the stack and return the resources that are left behind; no error if it is gone."""
        if stack.stack_id is None:
            return ()
        failed = () if how is Deletion.PLAIN else self._stacks.failed_resources(stack.stack_id)
        removal = Removal(
            _token("delete", node, stack.stack_id),
            retain=failed if how is Deletion.RETAINING else (),
            by_force=how is Deletion.BY_FORCE,
        )
        self._stacks.delete(stack.stack_id, removal, self._role_arn)
        return failed

    def cancel_update(self, node: Node, stack: NodeStack) -> None:
        """Cancel an update in progress."""
        if stack.stack_id:
            self._stacks.cancel_update(stack.stack_id, _token("cancel", node, stack.stack_id))

    def roll_back(self, node: Node, stack: NodeStack) -> None:
        """Roll back an update that failed."""
        if stack.stack_id:
            token = _token("rollback", node, stack.stack_id)
            self._stacks.roll_back(stack.stack_id, token, self._role_arn)

    def continue_rollback(self, node: Node, stack: NodeStack) -> None:
        """Continue a rollback that failed."""
        if stack.stack_id:
            token = _token("continue", node, stack.stack_id)
            self._stacks.continue_rollback(stack.stack_id, token, self._role_arn)

    def _name(self, node: Node) -> str:
        return f"{self._prefix}-{node.node_id}-{node.generation}"

    def _from_cluster(self, names: set[str]) -> dict[str, str]:
        """Return the cluster's outputs of these names. Raises StackFailed if one is missing."""
        outputs = self._cluster_outputs()
        missing = sorted(names - outputs.keys())
        if missing:
            raise StackFailed(f"The cluster stack {self._cluster_stack} lacks outputs: {', '.join(missing)}.")
        return {name: outputs[name] for name in names}

    def _cluster_outputs(self) -> Mapping[str, str]:
        now = self._clock()
        if self._cluster is not None and now - self._cluster[0] < _OUTPUTS_LIFETIME:
            return self._cluster[1]
        stack = self._stacks.describe(self._cluster_stack)
        if stack is None or stack.phase not in _SERVING:
            status = stack.status if stack is not None else "absent"
            raise StackFailed(f"The cluster stack {self._cluster_stack} is {status}: deploy it first.")
        self._cluster = (now, stack.outputs)
        return stack.outputs


def tag_value(text: str) -> str:
    """Encode text as a tag value: letters, digits and `_.-` stay, every other byte becomes `=XX`.

    CloudFormation allows at most 256 letters, digits, spaces and `_.:/=+-@`; longer text is hashed.
    """
    encoded = quote(text, safe="").replace("~", "%7E").replace("%", "=")
    if len(encoded) <= _LONGEST_TAG:
        return encoded
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _seen(stack: Stack) -> NodeStack:
    # A deleted stack keeps its outputs, whose address may belong to another node by then.
    address = stack.outputs.get(NODE_ADDRESS_OUTPUT) if stack.phase in _SERVING else None
    unknown = f"The stack is {stack.status}." if stack.phase is StackPhase.UNKNOWN else ""
    remark = stack.status_reason or unknown
    return NodeStack(stack.phase, stack.stack_id, address, stack.deleted_at, remark)


def _token(operation: str, node: Node, target: str) -> str:
    """Derive a ClientRequestToken (at most 128 letters, digits and hyphens): same request, same token.

    CloudFormation ignores a token that it has seen, also of a failed operation. The counts of attempts in the
    record make the token of the next attempt another one.
    """
    counts = (node.generation, node.deletions, int(node.deletion_at), node.repairs)
    parts = (operation, target, *map(str, counts))
    return f"{operation}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:40]}"
