"""Entry point of the CDK app, for the `cdk` command and for `synthesizer.py`.

Context: `node=1` adds the node stack (`cdk deploy --all` must not put up a nameless node); `nat=1` puts tasks
in private subnets behind a NAT gateway.
"""


def main() -> None:
    """Write the templates to the directory that the environment names (CDK_OUTDIR), else `cdk.out`."""
    # Here and not above: importing any of these starts Node.js.
    from aws_cdk import App

    from orchestration.provisioning.data_stack import DataStack
    from orchestration.provisioning.ecs_cluster_stack import EcsClusterStack
    from orchestration.provisioning.pygrid_node_stack import PygridNodeStack

    app = App(analytics_reporting=False)
    EcsClusterStack(app, "artificien-cluster", nat=app.node.try_get_context("nat") in _YES)
    DataStack(app, "artificien-data")
    if app.node.try_get_context("node") in _YES:
        PygridNodeStack(app, "artificien-node")
    app.synth()


_YES = (True, 1, "1", "true")

if __name__ == "__main__":
    main()
