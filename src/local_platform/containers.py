"""What ECS says should run, as plain values; and the environment of a container, secrets included."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from local_platform.clients import LocalAws


class UnrunnableError(Exception):
    """A container that can't be started as it is described."""


@dataclass(frozen=True, slots=True)
class Service:
    """One ECS service that wants a task, by its ARN, and what the task is."""

    arn: str
    definition: str
    target_groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a task definition."""

    name: str
    image: str
    environment: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    """Environment variable to the reference of its value, `<secret's ARN>:<JSON key>::`."""


class Ecs:
    """ECS and what its tasks need: their definitions, secrets and load balancers."""

    def __init__(self, ecs: Any, balancers: Any, secrets: Any) -> None:
        """Take the three clients."""
        self._ecs = ecs
        self._balancers = balancers
        self._secrets = secrets

    @classmethod
    def of(cls, aws: LocalAws) -> Self:
        """Make the clients."""
        return cls(aws.client("ecs"), aws.client("elbv2"), aws.client("secretsmanager"))

    def wanted(self) -> list[Service]:
        """Return all active services with a desired count above 0, on all clusters."""
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
        """Return the one container of a task definition. Raises UnrunnableError."""
        task = self._ecs.describe_task_definition(taskDefinition=definition)["taskDefinition"]
        match task["containerDefinitions"]:
            case [only]:
                environment = {pair["name"]: pair["value"] for pair in only.get("environment", [])}
                secrets = {pair["name"]: pair["valueFrom"] for pair in only.get("secrets", [])}
                return Container(only["name"], only["image"], environment, secrets)
            case several:
                raise UnrunnableError(f"{definition} has {len(several)} containers; one is run here.")

    def address(self, service: Service) -> str:
        """Return the address of the service's load balancer. Raises UnrunnableError."""
        if not service.target_groups:
            raise UnrunnableError(f"{service.arn} has no target group.")
        groups = self._balancers.describe_target_groups(TargetGroupArns=list(service.target_groups))
        arns = [arn for group in groups["TargetGroups"] for arn in group["LoadBalancerArns"]]
        if not arns:
            raise UnrunnableError(f"No listener leads to {service.arn}.")
        found = self._balancers.describe_load_balancers(LoadBalancerArns=arns[:1])
        return str(found["LoadBalancers"][0]["DNSName"])

    def secret(self, reference: str) -> str:
        """Return the value behind `<ARN>:<JSON key>::`, or the whole secret of a bare ARN.

        Raises UnrunnableError.
        """
        parts = reference.split(":")
        arn, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
        value = self._secrets.get_secret_value(SecretId=arn)["SecretString"]
        if not key:
            return str(value)
        try:
            return str(json.loads(value)[key])
        except (ValueError, KeyError) as error:
            raise UnrunnableError(f"{arn} holds no {key}.") from error

    def _services(self, cluster: str) -> list[dict[str, Any]]:
        arns = self._pages("list_services", "serviceArns", cluster=cluster)
        described: list[dict[str, Any]] = []
        for first in range(0, len(arns), 10):  # DescribeServices takes ten at once
            some = self._ecs.describe_services(cluster=cluster, services=arns[first : first + 10])
            described += some["services"]
        return described

    def _pages(self, operation: str, key: str, **arguments: str) -> list[str]:
        pages = self._ecs.get_paginator(operation).paginate(**arguments)
        return [str(arn) for page in pages for arn in page[key]]
