"""The `artificien` command."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from types import FrameType
from typing import TypeVar

import click
from pydantic import ValidationError

from orchestration.domain.errors import OrchestrationError
from orchestration.provisioning.node_shape import SIZES, default_node_image
from orchestration.settings import Settings, StackSettings

PLUGINS = "artificien.commands"

AnySettings = TypeVar("AnySettings", bound=StackSettings)


class _WithPlugins(click.Group):
    """Commands of this module, and those that other packages bring; each is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        brought = entry_points(group=PLUGINS).names
        return sorted({*super().list_commands(ctx), *brought})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for brought in entry_points(group=PLUGINS, name=cmd_name):
            command: click.Command = brought.load()
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_WithPlugins)
@click.version_option(package_name="artificien-orchestration")
def main() -> None:
    """Artificien's orchestration node."""


@main.command()
def reconcile() -> None:
    """Look after all nodes, until TERM: retrieve what is due, retire what nobody needs."""
    from orchestration.pygrid_orchestration import create_reconciler

    settings = _checked(Settings.from_environment)
    over = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    create_reconciler(settings).run(over.wait)


@main.command()
def synth() -> None:
    """Synthesize the stacks' templates that are checked in. Needs the CDK."""
    from orchestration.provisioning.synthesizer import write_snapshots

    with _told():
        for path in write_snapshots():
            click.echo(path)


@main.group()
def cluster() -> None:
    """The stack that all nodes share."""


@cluster.command("deploy")
@click.option("--nat", is_flag=True, help="Private subnets behind a NAT gateway, at some 33 $ a month.")
def deploy_cluster(*, nat: bool) -> None:
    """Put up the shared cluster and its database, and wait for it."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy

    settings = _checked(StackSettings)
    with _told():
        client = cloudformation_client(settings.aws_default_region)
        _table(deploy.deploy_cluster(client, settings.cluster_stack, nat=nat))


@main.group()
def data() -> None:
    """The stack of the tables and the bucket."""


@data.command("deploy")
def deploy_data() -> None:
    """Put up the tables and the bucket of trained models, and wait for them."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy

    settings = _checked(StackSettings)
    with _told():
        _table(deploy.deploy_data(cloudformation_client(settings.aws_default_region)))


@main.group()
def service() -> None:
    """The stack of this service: web, reconciler, load balancer."""


@service.command("deploy")
@click.option("--image", "ServiceImage", required=True, help="Container image of this service.")
@click.option(
    "--node-image",
    "NodeImage",
    help="Container image of the nodes; usually the tag `node` beside the service's.",
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
@click.option("--node-spot", is_flag=True, help="Nodes on Spot capacity: a third of the price, less certain.")
@click.option("--node-writable", is_flag=True, help="Nodes may write files; the original image has to.")
@click.option("--user-pool-id", "UserPoolId", required=True, help="Cognito pool whose tokens are taken.")
@click.option("--app-client-ids", "AppClientIds", required=True, help="Its app clients, with commas between.")
@click.option("--certificate-arn", "CertificateArn", default="", help="For https on 443.")
@click.option("--public-url", "PublicUrl", default="", help="With which download links begin.")
def deploy_service(*, node_spot: bool, node_writable: bool, **parameters: str | None) -> None:
    """Put up the service beside data and cluster, and wait for it."""
    from orchestration.aws import cloudformation_client
    from orchestration.provisioning import deploy

    settings = _checked(StackSettings)
    given = {name: value for name, value in parameters.items() if value is not None}
    with _told():
        client = cloudformation_client(settings.aws_default_region)
        own = {
            "ClusterStack": settings.cluster_stack,
            "NodeSpot": str(node_spot).lower(),
            "NodeReadOnly": str(not node_writable).lower(),
        }
        defaults = {"NodeImage": default_node_image(given["ServiceImage"])}
        _table(deploy.deploy_service(client, defaults | given | own))


@main.command("audit-log")
@click.argument("subject")
def audit_log(subject: str) -> None:
    """Show who did what to SUBJECT: `dataset:`, `model:` or `user:` and the id; oldest first."""
    from orchestration.pygrid_orchestration import Parts

    with _told():
        for at, entry in Parts(_checked(Settings.from_environment)).audit.of(subject):
            click.echo(f"{at}  {entry.actor:<16} {entry.action:<24} {entry.result}")


@main.command()
@click.option("--mend", is_flag=True, help="Put right what can be put right without a human.")
@click.pass_context
def audit(context: click.Context, *, mend: bool) -> None:
    """Look for stacks, records, secrets and databases that are astray; exit status 1 if any is left so."""
    from orchestration.pygrid_orchestration import Parts

    left = 0
    with _told():
        for found in Parts(_checked(Settings.from_environment)).inspection.findings():
            mended = ""
            if mend and found.mend is not None:
                found.mend()
                mended = "  (mended)"
            left += not mended
            click.echo(f"{found.kind:<9} {found.name}  {found.trouble}{mended}")
    click.echo(f"{left} astray." if left else "Nothing is astray.")
    context.exit(1 if left else 0)


def _table(outputs: Mapping[str, str]) -> None:
    for name, value in sorted(outputs.items()):
        click.echo(f"{name}\t{value}")


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line what went wrong, with exit status 1."""
    try:
        yield
    except OrchestrationError as error:
        raise click.ClickException(str(error)) from error


def _checked(settings: Callable[[], AnySettings]) -> AnySettings:
    try:
        return settings()
    except ValidationError as error:
        faults = (f"  {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise click.ClickException("The environment is not complete:\n" + "\n".join(faults)) from None
