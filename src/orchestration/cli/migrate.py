"""Migrates data that an earlier version of the service has written."""

import click

from orchestration.cli.common import checked, reported_errors


@click.command("migrate-models")
@click.pass_context
def migrate_models(context: click.Context) -> None:
    """Create the records of models that an earlier version has accepted; exit status 1 if one is left.

    Run it while neither web process nor reconciler runs. It may be repeated.
    """
    from orchestration.pygrid_orchestration import Parts
    from orchestration.settings import TableSettings

    migrated = left = 0
    with reported_errors():
        for model_id, obstacle in Parts(checked(TableSettings)).migration.run():
            migrated, left = migrated + (not obstacle), left + bool(obstacle)
            if obstacle:
                click.echo(f"{model_id}  not migrated: {obstacle}")
    click.echo(f"{migrated} models have a record, {left} have none.")
    context.exit(1 if left else 0)
