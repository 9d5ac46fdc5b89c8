"""Synthesizes and deploys the stacks."""

import click

from orchestration.cli.common import checked, print_outputs, reported_errors
from orchestration.provisioning.node_shape import SIZES, default_node_image


@click.command()
def synth() -> None:
    """Write the snapshots of the stacks' templates. Needs the CDK."""
    from orchestration.provisioning.synthesizer import write_snapshots

    with reported_errors():
        for path in write_snapshots():
            click.echo(path)


@click.group()
def cluster() -> None:
    """The stack that all nodes share: network, ECS cluster, database."""


@cluster.command("deploy")
@click.option(
    "--nat",
    is_flag=True,
    help="Run tasks in private subnets behind a NAT gateway, for about 26 $ a month more, and 0.045 $ a GB.",
)
def deploy_cluster(*, nat: bool) -> None:
    """Create the cluster stack and wait for it."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy
    from orchestration.settings import StackSettings

    settings = checked(StackSettings)
    with reported_errors():
        client = cloudformation_client(settings.aws_default_region)
        print_outputs(deploy.deploy_cluster(client, settings.cluster_stack, nat=nat))


@click.group()
def data() -> None:
    """The stack of the tables and of the bucket of trained models."""


@data.command("deploy")
def deploy_data() -> None:
    """Create the data stack and wait for it."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy
    from orchestration.settings import StackSettings

    settings = checked(StackSettings)
    with reported_errors():
        print_outputs(deploy.deploy_data(cloudformation_client(settings.aws_default_region)))


@click.group()
def service() -> None:
    """The stack of this service: web process, reconciler, load balancer."""


@service.command("deploy")
@click.option("--image", "ServiceImage", required=True, help="Container image of this service.")
@click.option(
    "--node-image",
    "NodeImage",
    help="Container image of nodes; by default the tag `node` in the repository of the service's.",
)
@click.option(
    "--node-cpu",
    "NodeCpu",
    type=click.Choice([str(cpu) for cpu in SIZES]),
    default="512",
    show_default=True,
    help="CPU of a node, in 1/1024 of one.",
)
@click.option("--node-memory", "NodeMemory", default="2048", show_default=True, help="Memory of a node, MiB.")
@click.option(
    "--node-spot", is_flag=True, help="Run nodes on Spot capacity: a third of the price, may be interrupted."
)
@click.option(
    "--node-min-reports",
    "NodeMinReports",
    default="10",
    show_default=True,
    help="How many reports a cycle has at least.",
)
@click.option("--node-writable", is_flag=True, help="Let nodes write files; the original image needs it.")
@click.option(
    "--user-pool-id", "UserPoolId", required=True, help="Cognito pool whose access tokens are accepted."
)
@click.option(
    "--app-client-ids",
    "AppClientIds",
    required=True,
    help="App clients of the pool whose tokens are accepted, separated by commas.",
)
@click.option(
    "--upload-binding",
    "UploadBinding",
    type=click.Choice(["address", "token", "off"]),
    default="address",
    show_default=True,
    help="How the upload of a model is bound to the caller of /create.",
)
@click.option("--certificate-arn", "CertificateArn", default="", help="Certificate for https on 443.")
@click.option("--public-url", "PublicUrl", default="", help="URL that download links start with.")
def deploy_service(*, node_spot: bool, node_writable: bool, **parameters: str | None) -> None:
    """Create the orchestration stack and wait for it. It needs the data and the cluster stack."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy
    from orchestration.settings import StackSettings

    settings = checked(StackSettings)
    given = {name: value for name, value in parameters.items() if value is not None}
    with reported_errors():
        client = cloudformation_client(settings.aws_default_region)
        own = {
            "ClusterStack": settings.cluster_stack,
            "NodeSpot": str(node_spot).lower(),
            "NodeReadOnly": str(not node_writable).lower(),
        }
        defaults = {"NodeImage": default_node_image(given["ServiceImage"])}
        print_outputs(deploy.deploy_service(client, defaults | given | own))
