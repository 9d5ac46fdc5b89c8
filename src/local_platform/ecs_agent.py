"""An ECS agent: runs the container of each ECS service as a process, on the address of its load balancer."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import click
import structlog
from botocore.exceptions import ClientError

from local_platform.clients import LocalAws
from local_platform.supervisor import Program, Supervisor, inherited

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "artificien/pygrid-node": (sys.executable, "-m", "pygrid_node"),
}
"""The start of an image's name, and the command that runs in place of that image."""
POLL_INTERVAL = 0.3
RETRY_INTERVAL = 3.0
"""Seconds until the start of a service that could not be started is tried again."""

log = structlog.get_logger()


class UnrunnableError(Exception):
    """A service or container that can't be run on this machine as it is described."""


@dataclass(frozen=True, slots=True)
class Service:
    """An ECS service whose desired count is above 0."""

    arn: str
    definition: str
    """ARN of its task definition."""
    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a task definition."""

    name: str
    image: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    """Environment variables and the references of their values, `<secret's ARN>:<JSON key>::`."""


class Ecs:
    """Reads services, task definitions, secrets and load balancers from AWS."""

    def __init__(self, ecs: Any, load_balancers: Any, secrets: Any) -> None:
        """Take boto3 clients of `ecs`, `elbv2` and `secretsmanager`."""
        self._ecs = ecs
        self._load_balancers = load_balancers
        self._secrets = secrets

    @classmethod
    def of(cls, aws: LocalAws) -> Self:
        """Create the clients."""
        return cls(aws.client("ecs"), aws.client("elbv2"), aws.client("secretsmanager"))

    def desired_services(self) -> list[Service]:
        """Return all active services of all clusters with a desired count above 0."""
        return [
            Service(
                service["serviceArn"],
                service["taskDefinition"],
                tuple(balancer["targetGroupArn"] for balancer in service.get("loadBalancers", [])),
            )
            for cluster in self._pages("list_clusters", "clusterArns")
            for service in self._services(cluster)
            if service["status"] == "ACTIVE" and service["desiredCount"] > 0
        ]

    def container(self, definition: str) -> Container:
        """Return the only container of a task definition. Raises UnrunnableError if there are several."""
        task = self._ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
        match task["containerDefinitions"]:
            case [only]:
                environment = {pair["name"]: pair["value"] for pair in only.get("environment", [])}
                secrets = {pair["name"]: pair["valueFrom"] for pair in only.get("secrets", [])}
                return Container(only["name"], only["image"], environment, secrets)
            case several:
                raise UnrunnableError(f"{definition} has {len(several)} containers; one is supported.")

    def address(self, service: Service) -> str:
        """Return the address of the service's load balancer. Raises UnrunnableError if it has none."""
        if not service.target_groups:
            raise UnrunnableError(f"{service.arn} has no target group.")
        groups = self._load_balancers.describe_target_groups(TargetGroupArns=list(service.target_groups))
        arns = [arn for group in groups["TargetGroups"] for arn in group["LoadBalancerArns"]]
        if not arns:
            raise UnrunnableError(f"No listener forwards to {service.arn}.")
        found = self._load_balancers.describe_load_balancers(LoadBalancerArns=arns[:1])
        return str(found["LoadBalancers"][0]["DNSName"])

    def secret(self, reference: str) -> str:
        """Return the value of `<ARN>:<JSON key>::`, or the whole secret for an ARN without a key.

        Raises UnrunnableError if the secret has no such key.
        """
        parts = reference.split(":")
        arn, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
        value = self._secrets.get_secret_value(SecretId=arn)["SecretString"]
        if not key:
            return str(value)
        try:
            return str(json.loads(value)[key])
        except (ValueError, KeyError) as error:
            raise UnrunnableError(f"{arn} has no key {key}.") from error

    def _services(self, cluster: str) -> list[dict[str, Any]]:
        arns = self._pages("list_services", "serviceArns", cluster=cluster)
        described: list[dict[str, Any]] = []
        for first in range(0, len(arns), 10):  # DescribeServices accepts ten ARNs
            some = self._ecs.describe_services(cluster=cluster, services=arns[first : first + 10])
            described += some["services"]
        return described

    def _pages(self, operation: str, key: str, **arguments: str) -> list[str]:
        pages = self._ecs.get_paginator(operation).paginate(**arguments)
        return [str(arn) for page in pages for arn in page[key]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to stop (ARNs) and what to start, in this order."""

    stops: tuple[str, ...] = ()
    starts: tuple[Service, ...] = ()


def plan(desired: Sequence[Service], running: Mapping[str, str], refused: Mapping[str, str]) -> Plan:
    """Compare the desired services with the running ones.

    `running` maps a service's ARN to the task definition it was started with; `refused` holds those that
    could not be started lately, in the same form. A service with a new definition is stopped first, so that
    two tasks of one node never run at once.
    """
    definitions = {service.arn: service.definition for service in desired}
    return Plan(
        stops=tuple(arn for arn, definition in running.items() if definitions.get(arn) != definition),
        starts=tuple(
            service
            for service in desired
            if service.definition not in (running.get(service.arn), refused.get(service.arn))
        ),
    )


class Agent:
    """Starts and stops processes to match the desired services. The supervisor restarts those that end."""

    def __init__(
        self,
        ecs: Ecs,
        supervisor: Supervisor,
        logs: Path,
        commands: Mapping[str, tuple[str, ...]] = COMMANDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write the output of every container to a file in `logs`."""
        self._ecs = ecs
        self._supervisor = supervisor
        self._logs = logs
        self._commands = commands
        self._clock = clock
        self._running: dict[str, str] = {}
        self._refused: dict[str, tuple[str, float]] = {}

    def poll(self) -> None:
        """Read the desired services once, and stop and start what differs."""
        desired = self._ecs.desired_services()
        now = self._clock()
        self._refused = {arn: (what, until) for arn, (what, until) in self._refused.items() if until > now}
        refused = {arn: definition for arn, (definition, _) in self._refused.items()}
        todo = plan(desired, self._running, refused)
        for arn in todo.stops:
            self._stop(arn)
        for service in todo.starts:
            self._start(service)

    def _stop(self, arn: str) -> None:
        self._supervisor.stop(arn)
        del self._running[arn]
        log.info("container.stopped", service=arn)

    def _start(self, service: Service) -> None:
        try:
            program = self._program(service)
        except (
            UnrunnableError,
            ClientError,
        ) as error:  # a missing secret must not stop the others
            log.warning("container.refused", service=service.arn, reason=str(error))
            self._refused[service.arn] = (service.definition, self._clock() + RETRY_INTERVAL)
            return
        self._supervisor.start(program)
        self._running[service.arn] = service.definition
        address = program.environment["BIND_HOST"]
        log.info("container.started", service=service.arn, address=address, log=program.log.name)

    def _program(self, service: Service) -> Program:
        container = self._ecs.container(service.definition)
        command = self._command(container)
        secrets = {name: self._ecs.secret(reference) for name, reference in container.secrets.items()}
        own = {**container.environment, **secrets, "BIND_HOST": self._ecs.address(service)}
        name = container.environment.get("NODE_ID", container.name)
        return Program(
            name=service.arn,
            command=command,
            environment=inherited(os.environ) | own,
            log=self._logs / f"{name}.log",
        )

    def _command(self, container: Container) -> tuple[str, ...]:
        for prefix, command in self._commands.items():
            if container.image.startswith(prefix):
                return command
        known = ", ".join(self._commands)
        raise UnrunnableError(f"No command is known for the image {container.image}, only for {known}.")


def serve(agent: Agent, stopped: threading.Event, interval: float = POLL_INTERVAL) -> None:
    """Poll until `stopped` is set. A poll that fails changes nothing: AWS may be unreachable for a while."""
    while not stopped.wait(interval):
        try:
            agent.poll()
        except Exception:  # no error of a poll may end the running nodes
            log.exception("poll.failed")


@click.command()
@click.option("--aws", required=True, help="URL of AWS.")
@click.option("--region", required=True, help="Region of AWS.")
@click.option(
    "--logs",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Directory of the containers' log files.",
)
def main(aws: str, region: str, logs: Path) -> None:
    """Run containers until SIGTERM or SIGINT, then stop them all."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with Supervisor() as supervisor:
        serve(Agent(Ecs.of(LocalAws(aws, region)), supervisor, logs), stopped)


if __name__ == "__main__":
    main()
