"""An ECS agent: runs each service's container as a process of this machine, on its balancer's address."""

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import structlog
from botocore.exceptions import ClientError

from local_platform.clients import LocalAws, kept
from local_platform.containers import Container, Ecs, Service, UnrunnableError
from local_platform.supervisor import Program, Supervisor

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "artificien/pygrid-node": (sys.executable, "-m", "pygrid_node"),
}
"""Image, by the beginning of its name, to the command that stands in for it."""
POLL_INTERVAL = 0.3
RETRY_INTERVAL = 3.0
"""Seconds until a service that could not be started is tried again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now; stops come first."""

    stops: tuple[str, ...] = ()
    starts: tuple[Service, ...] = ()


def plan(wanted: Sequence[Service], running: Mapping[str, str], refused: Mapping[str, str]) -> Plan:
    """Compare what ECS wants with what runs: service ARN to the task definition it was started with.

    `refused` are those that couldn't be started lately, in the same form. A service with a new definition is
    stopped and started: never two tasks of one node.
    """
    definitions = {service.arn: service.definition for service in wanted}
    return Plan(
        stops=tuple(arn for arn, definition in running.items() if definitions.get(arn) != definition),
        starts=tuple(
            service
            for service in wanted
            if service.definition not in (running.get(service.arn), refused.get(service.arn))
        ),
    )


class Agent:
    """Carries out plans. Restarting what dies is the supervisor's part."""

    def __init__(
        self, ecs: Ecs, supervisor: Supervisor, logs: Path, commands: Mapping[str, tuple[str, ...]] = COMMANDS
    ) -> None:
        """Write the output of every container to a file in `logs`."""
        self._ecs = ecs
        self._supervisor = supervisor
        self._logs = logs
        self._commands = commands
        self._running: dict[str, str] = {}
        self._refused: dict[str, tuple[str, float]] = {}

    def poll(self) -> None:
        """Look at ECS once and do what it wants."""
        wanted = self._ecs.wanted()
        now = time.monotonic()
        self._refused = {arn: (what, due) for arn, (what, due) in self._refused.items() if due > now}
        refused = {arn: definition for arn, (definition, _) in self._refused.items()}
        todo = plan(wanted, self._running, refused)
        for arn in todo.stops:
            self._stop(arn)
        for service in todo.starts:
            self._start(service)

    def _stop(self, arn: str) -> None:
        self._supervisor.stop(arn)
        del self._running[arn]
        log.info("stopped", service=arn)

    def _start(self, service: Service) -> None:
        try:
            program = self._program(service)
        except (UnrunnableError, ClientError) as error:  # a missing secret is no reason to stop polling
            log.warning("service stays down", service=service.arn, reason=str(error))
            self._refused[service.arn] = (service.definition, time.monotonic() + RETRY_INTERVAL)
            return
        self._supervisor.start(program)
        self._running[service.arn] = service.definition
        log.info(
            "started", service=service.arn, address=program.environment["BIND_HOST"], log=program.log.name
        )

    def _program(self, service: Service) -> Program:
        container = self._ecs.container(service.definition)
        command = self._command(container)
        secrets = {name: self._ecs.secret(reference) for name, reference in container.secrets.items()}
        own = {**container.environment, **secrets, "BIND_HOST": self._ecs.address(service)}
        name = container.environment.get("NODE_ID", container.name)
        return Program(
            name=service.arn,
            command=command,
            environment=kept(os.environ) | own,
            log=self._logs / f"{name}.log",
        )

    def _command(self, container: Container) -> tuple[str, ...]:
        for prefix, command in self._commands.items():
            if container.image.startswith(prefix):
                return command
        known = ", ".join(self._commands)
        raise UnrunnableError(f"No command is known for the image {container.image}; known are {known}.")


def serve(agent: Agent, stopped: threading.Event) -> None:
    """Poll until `stopped`. A poll that fails changes nothing: AWS may be away for a while."""
    while not stopped.wait(POLL_INTERVAL):
        try:
            agent.poll()
        except Exception:  # whatever it is, the nodes go on
            log.exception("poll failed")


@click.command()
@click.option("--aws", required=True, help="URL of AWS.")
@click.option("--region", required=True)
@click.option("--logs", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
def main(aws: str, region: str, logs: Path) -> None:
    """Run until SIGTERM or SIGINT, then stop all containers."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Supervisor() as supervisor:
        serve(Agent(Ecs.of(LocalAws(aws, region)), supervisor, logs), stopped)


if __name__ == "__main__":
    main()
