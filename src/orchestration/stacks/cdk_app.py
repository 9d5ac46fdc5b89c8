"""Entry point of the CDK app, for the `cdk` command and for `provisioning/synthesizer.py`.

Context: `node=1` adds the node stack, which `cdk deploy --all` must not deploy; `nat=1` runs tasks in private
subnets behind a NAT gateway.
"""

from typing import TYPE_CHECKING

from orchestration.provisioning.names import CLUSTER_STACK, DATA_STACK, NODE_STACK, ORCHESTRATION_STACK

if TYPE_CHECKING:
    from aws_cdk import App


def main() -> None:
    """Write the templates to the directory named by CDK_OUTDIR, by default `cdk.out`."""
    # Imported here because it starts Node.js.
    from aws_cdk import App

    app = App(analytics_reporting=False)
    declare(app)
    app.synth()


def declare(app: "App") -> None:
    """Declare the stacks, in the order in which `cdk deploy --all` deploys them."""
    from orchestration.stacks.data_stack import DataStack
    from orchestration.stacks.ecs_cluster_stack import EcsClusterStack
    from orchestration.stacks.orchestration_stack import OrchestrationStack
    from orchestration.stacks.pygrid_node_stack import PygridNodeStack

    data = DataStack(app, DATA_STACK)
    cluster = EcsClusterStack(app, CLUSTER_STACK, nat=app.node.try_get_context("nat") in _YES)
    orchestration = OrchestrationStack(app, ORCHESTRATION_STACK)
    # It imports their outputs by name, a dependency that the CDK doesn't detect.
    orchestration.add_stack_dependency(data)
    orchestration.add_stack_dependency(cluster)
    if app.node.try_get_context("node") in _YES:
        PygridNodeStack(app, NODE_STACK)


_YES = (True, 1, "1", "true")

if __name__ == "__main__":
    main()
