"""What several commands need: reading settings, reporting errors, printing outputs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import click

from orchestration.domain.errors import OrchestrationError

T = TypeVar("T")


class WrongArgument(click.ClickException):
    """An argument or option that can never be right: one line, and the exit status of usage errors."""

    exit_code = 2


def checked(read: Callable[[], T]) -> T:
    """Return the settings that `read` reads. Ends the command with one line for each error."""
    from pydantic import ValidationError

    try:
        return read()
    except ValidationError as error:
        faults = (f"  {'.'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors())
        raise click.ClickException("The environment is not complete:\n" + "\n".join(faults)) from None


@contextmanager
def reported_errors() -> Iterator[None]:
    """End the command with the error's message and exit status 1."""
    try:
        yield
    except OrchestrationError as error:
        raise click.ClickException(str(error)) from error


def print_outputs(outputs: Mapping[str, str]) -> None:
    """Print a stack's outputs, sorted by name, with tabs between name and value."""
    for name, value in sorted(outputs.items()):
        click.echo(f"{name}\t{value}")
