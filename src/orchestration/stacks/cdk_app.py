"""Entry point of the CDK app, for the `cdk` command and for `synthesizer.py`.

Context: `node=1` adds the node stack (`cdk deploy --all` must not put up a nameless node); `nat=1` puts tasks
in private subnets behind a NAT gateway.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_cdk import App


def main() -> None:
    """Write the templates to the directory that the environment names (CDK_OUTDIR), else `cdk.out`."""
    # Here and not above: importing it starts Node.js.
    from aws_cdk import App

    app = App(analytics_reporting=False)
    declare(app)
    app.synth()


def declare(app: "App") -> None:
    """Declare the stacks, in the order in which `cdk deploy --all` puts them up."""
    from orchestration.stacks.data_stack import DataStack
    from orchestration.stacks.ecs_cluster_stack import EcsClusterStack
    from orchestration.stacks.orchestration_stack import OrchestrationStack
    from orchestration.stacks.pygrid_node_stack import PygridNodeStack

    data = DataStack(app, "artificien-data")
    cluster = EcsClusterStack(app, "artificien-cluster", nat=app.node.try_get_context("nat") in _YES)
    orchestration = OrchestrationStack(app, "artificien-orchestration")
    # It imports their outputs by name, which the CDK can't see.
    orchestration.add_stack_dependency(data)
    orchestration.add_stack_dependency(cluster)
    if app.node.try_get_context("node") in _YES:
        PygridNodeStack(app, "artificien-node")


_YES = (True, 1, "1", "true")

if __name__ == "__main__":
    main()
