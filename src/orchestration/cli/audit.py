"""Inspects a deployment: what differs from its records, and who did what."""

import click

from orchestration.cli.common import WrongArgument, checked, reported_errors
from orchestration.domain.ports import SUBJECTS


@click.command("audit-log")
@click.argument("subject")
def audit_log(subject: str) -> None:
    """Show who did what to SUBJECT, oldest first.

    SUBJECT is `dataset:`, `model:` or `user:` and the id.
    """
    from orchestration.pygrid_orchestration import Parts
    from orchestration.settings import TableSettings

    kind, _, subject_id = subject.partition(":")
    if kind not in SUBJECTS or not subject_id:
        *others, last = (f"{kind}:<id>" for kind in SUBJECTS)
        raise WrongArgument(f"There is no subject {subject!r}. Subjects are {', '.join(others)} and {last}.")
    with reported_errors():
        for at, entry in Parts(checked(TableSettings)).audit.of(subject):
            click.echo(f"{at}  {entry.actor:<16} {entry.action:<24} {entry.result}")


@click.command()
@click.option(
    "--repair", "--mend", "repair", is_flag=True, help="Repair what can be repaired without a human."
)
@click.pass_context
def audit(context: click.Context, *, repair: bool) -> None:
    """Find stacks, records, resources, secrets and databases that disagree; exit status 1 if any remain."""
    from orchestration.domain.errors import OrchestrationError
    from orchestration.pygrid_orchestration import Parts
    from orchestration.settings import AuditSettings

    left = 0
    with reported_errors():
        for found in Parts(checked(AuditSettings)).inspection.findings():
            outcome, is_repaired = "", False
            if repair and found.repair is not None:
                try:
                    found.repair()
                    outcome, is_repaired = "  (repaired)", True
                except OrchestrationError as error:
                    outcome = f"  (not repaired: {error})"
            left += not is_repaired
            click.echo(f"{found.kind:<9} {found.name}  {found.problem}{outcome}")
    click.echo(f"{left} inconsistent." if left else "Nothing is inconsistent.")
    context.exit(1 if left else 0)
