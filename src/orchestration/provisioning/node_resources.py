"""Finds resources that CloudFormation has left behind: the port `NodeResources`, on ECS and ELB."""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestration.aws import upstream_errors
from orchestration.domain.node import ListedStack
from orchestration.provisioning.names import NODE_STACK

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

_UNIQUE_NAME = re.compile(rf"{NODE_STACK}-[0-9a-f]{{8}}-[0-9a-f]{{4}}")
"""The name of a load balancer or target group; `stacks/pygrid_node_stack.py: _unique_name` makes it."""


@dataclass(frozen=True, slots=True)
class AwsNodeResources:
    """Implements `NodeResources`. A resource is a node's by its name; stacks are named `<prefix>-...`."""

    ecs: "ECSClient"
    load_balancing: "ElasticLoadBalancingv2Client"
    prefix: str

    def all(self) -> Collection[str]:
        """Return the ARNs of load balancers, target groups and services. A stopped service is not listed."""
        with upstream_errors("AWS", "list the nodes' load balancers and services"):
            return {arn for arn in self._arns() if self._key(arn)}

    def _arns(self) -> Iterator[str]:
        for balancers in self.load_balancing.get_paginator("describe_load_balancers").paginate():
            yield from (balancer["LoadBalancerArn"] for balancer in balancers["LoadBalancers"])
        for groups in self.load_balancing.get_paginator("describe_target_groups").paginate():
            yield from (group["TargetGroupArn"] for group in groups["TargetGroups"])
        for clusters in self.ecs.get_paginator("list_clusters").paginate():
            for cluster in clusters["clusterArns"]:
                for services in self.ecs.get_paginator("list_services").paginate(cluster=cluster):
                    yield from services["serviceArns"]

    def outside(self, arns: Iterable[str], stacks: Iterable[ListedStack]) -> Collection[str]:
        """Compare names: two kinds have digits of their stack's id in them, services their stack's name."""
        keys = {key for stack in stacks for key in self._keys(stack)}
        return {arn for arn in arns if self._key(arn) not in keys}

    def _keys(self, listed: ListedStack) -> Iterator[str]:
        yield f"{self.prefix}-{listed.node_id}-{listed.generation}"
        uuid = (listed.stack.stack_id or "").rpartition("/")[2].split("-")
        yield "-".join((NODE_STACK, *uuid[:2]))

    def _key(self, arn: str) -> str:
        """Return the part of a resource's name by which its stack is found; "" if it is no node's."""
        kind, *_, last = arn.rpartition(":")[2].split("/")
        if kind == "service":
            found = re.match(rf"{self.prefix}-n[0-9a-f]{{20}}-\d+(?=-)", last)
        else:  # the name is followed by an id
            found = _UNIQUE_NAME.fullmatch(arn.split("/")[-2])
        return found[0] if found else ""
