"""Launch, describe and retire the stack of a node: the port `NodeStacks`, on CloudFormation."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from orchestration.domain.errors import StackFailed
from orchestration.domain.node import ABSENT_STACK, Node, NodeStack, NodeStatus, StackPhase
from orchestration.provisioning.cfn_helper import CfnHelper, NewStack, Stack, Template
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.synthesizer import TemplateName, load_template

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

NODE_TAG = "artificien:node-id"
DATASET_TAG = "artificien:dataset-id"
GENERATION_TAG = "artificien:generation"
ADDRESS_OUTPUT = "PyGridNodeLoadBalancerDNS"

_SERVING = frozenset({StackPhase.USABLE, StackPhase.UPDATING})
_EXPLAINED = frozenset({StackPhase.FAILING, StackPhase.BROKEN, StackPhase.UNDELETABLE})
_OUTPUTS_KEPT = 300.0  # seconds; a cluster's outputs change only when an operator deploys it again
_LONGEST_TAG = 256


def _node_template() -> Template:
    return load_template(TemplateName.NODE)


class CloudFormationNodeStacks:
    """Implements `NodeStacks`. A stack that doesn't carry the node's tag is never touched."""

    def __init__(
        self,
        client: "CloudFormationClient",
        *,
        prefix: str,
        cluster_stack: str,
        shape: NodeShape,
        role_arn: str = "",
        template: Callable[[], Template] = _node_template,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Name stacks `<prefix>-<node id>-<generation>`; `cluster_stack` made the cluster they run in.

        CloudFormation acts with the role `role_arn`, or, without one, with the caller's own rights.
        """
        self._stacks = CfnHelper(client)
        self._prefix = prefix
        self._cluster_stack = cluster_stack
        self._shape = shape
        self._role_arn = role_arn
        self._template = template
        self._clock = clock
        self._cluster: tuple[float, Mapping[str, str]] | None = None

    def describe(self, node: Node) -> NodeStack:
        """Return the stack of this generation: by its ARN once that is known, else by its name."""
        stack = self._find(node)
        if stack is None:
            return _unseen(node)
        if not _is_ours(stack, node):
            return NodeStack(
                StackPhase.UNKNOWN, reason=f"A stack named {stack.name} that isn't ours is in the way."
            )
        return NodeStack(
            phase=stack.phase,
            stack_id=stack.stack_id,
            # A stack keeps its outputs when it is deleted; the name in them may be another's by then.
            address=stack.outputs.get(ADDRESS_OUTPUT) if stack.phase in _SERVING else None,
            reason=self._reason(stack),
        )

    def launch(self, node: Node, secret_reference: str) -> str | None:
        """Create the stack of this generation and return its ARN; None if it is there already.

        `secret_reference` is the ARN of the node's secret. Raises StackFailed when CloudFormation refuses, or
        when there is no cluster to launch into.
        """
        name = self._name(node)
        template = self._template()
        own = {"NodeId": node.node_id, "NodeSecretArn": secret_reference} | self._shape.parameters()
        return self._stacks.create(
            NewStack(
                name=name,
                template=template,
                token=_token("launch", name),
                parameters=own | self._from_cluster(template["Parameters"].keys() - own.keys()),
                tags={
                    NODE_TAG: node.node_id,
                    DATASET_TAG: tag_value(node.dataset_id),
                    GENERATION_TAG: str(node.generation),
                },
                role_arn=self._role_arn,
            )
        )

    def retire(self, node: Node) -> None:
        """Have the stack of this generation deleted; no error if it is gone or going.

        Raises StackFailed when CloudFormation refuses, or when the stack isn't this node's.
        """
        stack = self._find(node)
        if stack is None or stack.phase in (StackPhase.ABSENT, StackPhase.DELETING):
            return
        if not _is_ours(stack, node):
            raise StackFailed(f"The stack {stack.name} doesn't carry this node's tag, so it stays.")
        # A deletion that failed must be asked for with another token, else it is taken for a repetition.
        token = _token("retire", stack.stack_id, stack.deleted_at)
        self._stacks.delete(stack.stack_id, token, self._role_arn)

    def _name(self, node: Node) -> str:
        return f"{self._prefix}-{node.node_id}-{node.generation}"

    def _find(self, node: Node) -> Stack | None:
        return self._stacks.describe(node.stack_id or self._name(node))

    def _reason(self, stack: Stack) -> str:
        if stack.phase not in _EXPLAINED:
            return ""  # events cost a call; nobody asks for them while all is well
        return self._stacks.first_failure(stack.stack_id) or stack.status_reason

    def _from_cluster(self, names: set[str]) -> dict[str, str]:
        """Pick parameters from the cluster's outputs, which are named like them. Raises StackFailed."""
        outputs = self._cluster_outputs()
        missing = sorted(names - outputs.keys())
        if missing:
            raise StackFailed(f"The cluster stack {self._cluster_stack} lacks outputs: {', '.join(missing)}.")
        return {name: outputs[name] for name in names}

    def _cluster_outputs(self) -> Mapping[str, str]:
        now = self._clock()
        if self._cluster is not None and now - self._cluster[0] < _OUTPUTS_KEPT:
            return self._cluster[1]
        stack = self._stacks.describe(self._cluster_stack)
        if stack is None or stack.phase not in _SERVING:
            status = stack.status if stack is not None else "absent"
            raise StackFailed(f"The cluster stack {self._cluster_stack} is {status}: deploy it first.")
        self._cluster = (now, stack.outputs)
        return stack.outputs


def tag_value(text: str) -> str:
    """Write free text as a tag value: letters, digits and `_.-` stay, any other byte becomes `=XX`.

    CloudFormation takes letters, digits, spaces and `_.:/=+-@`, at most 256; longer text is hashed.
    """
    encoded = quote(text, safe="").replace("~", "%7E").replace("%", "=")
    if len(encoded) <= _LONGEST_TAG:
        return encoded
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _unseen(node: Node) -> NodeStack:
    if node.stack_id is not None and node.status is NodeStatus.DEPLOYING:
        # DescribeStacks lags behind. Taken for gone, the new stack would be forgotten and live on.
        return NodeStack(
            StackPhase.UNKNOWN, node.stack_id, reason="CloudFormation doesn't show the stack yet."
        )
    return ABSENT_STACK


def _is_ours(stack: Stack, node: Node) -> bool:
    return stack.tags.get(NODE_TAG) == node.node_id


def _token(*parts: str) -> str:
    """Derive a ClientRequestToken (at most 128 letters, digits and hyphens): same wish, same token."""
    return f"{parts[0]}-{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:40]}"
