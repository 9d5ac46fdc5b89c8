"""What an operator says when the service is deployed: the parameters of `OrchestrationStack`.

Imported only where the CDK runs (`cdk_app.py`): importing `aws_cdk` starts Node.js.
"""

from collections.abc import Mapping

from aws_cdk import CfnParameter, CfnRule, CfnRuleAssertion, Fn, Stack

from orchestration.provisioning.node_shape import MEMORIES, SIZES, NodeShape

_USUAL = NodeShape(image="")

REQUIRED = {
    "ServiceImage": "Container image of this service",
    "NodeImage": "Container image of the nodes",
    "UserPoolId": "Cognito user pool whose tokens are taken",
    "AppClientIds": "App clients of the pool whose tokens are taken, separated by commas",
}
OPTIONAL = {
    "NodeCpu": (str(_USUAL.cpu), "CPU of a node, in 1/1024 of one"),
    "NodeMemory": (str(_USUAL.memory), "Memory of a node in MiB, one that Fargate gives with its CPU"),
    "NodeSpot": ("false", "Whether nodes run on Spot capacity, which is cheaper and may be taken away"),
    "NodeReadOnly": ("true", "Whether nodes can't write to their files; the original image needs false"),
    "CertificateArn": ("", "Certificate for https on 443; without one there is no https"),
    "PublicUrl": ("", "Base URL of download links; by default http and the load balancer's own name"),
    "ClusterStack": ("artificien-cluster", "Stack of the cluster, whose outputs are imported"),
    "DataStack": ("artificien-data", "Stack of the tables and the bucket, whose outputs are imported"),
}
"""Defaults and descriptions."""
_ALLOWED = {
    "NodeCpu": [str(cpu) for cpu in SIZES],
    "NodeMemory": [str(memory) for memory in MEMORIES],
    "NodeSpot": ["true", "false"],
    "NodeReadOnly": ["true", "false"],
}


def declared(stack: Stack) -> Mapping[str, str]:
    """Declare the parameters, and the rule that a node's CPU and memory go together; return the values."""
    required = {
        name: CfnParameter(stack, name, description=text, allowed_pattern=".+")
        for name, text in REQUIRED.items()
    }
    optional = {
        name: CfnParameter(stack, name, description=text, default=default, allowed_values=_ALLOWED.get(name))
        for name, (default, text) in OPTIONAL.items()
    }
    values = {name: parameter.value_as_string for name, parameter in (required | optional).items()}
    _sizes_that_fargate_has(stack, values["NodeCpu"], values["NodeMemory"])
    return values


def _sizes_that_fargate_has(stack: Stack, cpu: str, memory: str) -> None:
    """Refuse any other at once: the service would not start with it, and be rolled back after minutes."""
    for size, memories in SIZES.items():
        goes_with_it = CfnRuleAssertion(
            assert_=Fn.condition_contains([str(m) for m in memories], memory),
            assert_description=f"With {size} CPU units go {memories[0]} to {memories[-1]} MiB of memory.",
        )
        CfnRule(
            stack,
            f"MemoryWithCpu{size}",
            rule_condition=Fn.condition_equals(cpu, str(size)),
            assertions=[goes_with_it],
        )
