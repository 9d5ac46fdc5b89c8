"""The `artificien` command: each module has a group of its commands.

Modules import what a command needs inside the command, so that `artificien --help` answers at once.
"""

from importlib.metadata import entry_points

import click

from orchestration.cli.audit import audit, audit_log
from orchestration.cli.deploy import cluster, data, service, synth
from orchestration.cli.migrate import migrate_models
from orchestration.cli.reconcile import reconcile

_PLUGINS = "artificien.commands"


class _Commands(click.Group):
    """The commands of this package, and those that other packages add by entry point."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=_PLUGINS).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for plugin in entry_points(group=_PLUGINS, name=cmd_name):
            command: click.Command = plugin.load()
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands)
@click.version_option(package_name="artificien-orchestration")
def main() -> None:
    """Artificien's orchestration node."""


for _command in (audit, audit_log, cluster, data, migrate_models, reconcile, service, synth):
    main.add_command(_command)
