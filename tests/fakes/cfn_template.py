"""The part of CloudFormation's template language that a node's template uses."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tests.fakes.aws_client import ACCOUNT, REGION

LARGEST = 51_200
"""Maximum size in bytes of an inline template."""

SERVICE = "AWS::ECS::Service"
TASK = "AWS::ECS::TaskDefinition"
_LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
_HASH = re.compile(r"[0-9A-F]{8}$")


class TemplateError(ValueError):
    """CloudFormation's message about an invalid template."""


@dataclass(frozen=True, slots=True)
class Template:
    """`stages` are the resources' logical ids; those of one stage don't depend on each other."""

    resources: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]
    stages: tuple[tuple[str, ...], ...]

    def named(self, name: str) -> str:
        """Return the logical id with this name, with or without the CDK's hash, or an empty string."""
        return next((id_ for id_ in self.resources if name in (id_, _HASH.sub("", id_))), "")

    def of_type(self, kind: str) -> str:
        """Return the first resource of a type, or an empty string."""
        return next((id_ for id_, resource in self.resources.items() if resource["Type"] == kind), "")

    def parameter_values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the parameters with their defaults. Raises TemplateError."""
        surplus = [name for name in given if name not in self.parameters]
        if surplus:
            raise TemplateError(f"Parameters: [{', '.join(surplus)}] do not exist in the template")
        values = {n: str(rule["Default"]) for n, rule in self.parameters.items() if "Default" in rule}
        values |= given
        missing = [name for name in self.parameters if name not in values]
        if missing:
            raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
        for name, rule in self.parameters.items():
            pattern = rule.get("AllowedPattern", ".*")
            if not re.fullmatch(pattern, values[name], re.DOTALL):
                raise TemplateError(
                    f"Parameter {name} failed to satisfy constraint: must match pattern {pattern}"
                )
            if values[name] not in rule.get("AllowedValues", (values[name],)):
                raise TemplateError(f"Parameter '{name}' must be one of AllowedValues")
        return values

    def names(self, stack_name: str, stack_id: str, parameters: Mapping[str, str]) -> dict[str, str]:
        """Return the values of references to each parameter, resource and `<resource>.<attribute>`."""
        unique = stack_id.rpartition("/")[2].partition("-")[0]
        names = dict(parameters) | {"AWS::StackId": stack_id, "AWS::StackName": stack_name}
        for id_, resource in self.resources.items():
            names[id_] = f"{stack_name}-{id_}-{unique}"
            if resource["Type"] == _LOAD_BALANCER:
                names[f"{id_}.DNSName"] = f"{stack_name}-{unique}.{REGION}.elb.amazonaws.com"
            if resource["Type"] == SERVICE:
                cluster = resolve(resource["Properties"].get("Cluster", "default"), parameters)
                names[id_] = f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/{cluster}/{names[id_]}"
        return names


@lru_cache(maxsize=32)
def parse(body: str) -> Template:
    """Parse a template in JSON. Raises TemplateError."""
    if len(body) > LARGEST:
        raise TemplateError(
            "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
            f"Member must have length less than or equal to {LARGEST}"
        )
    try:
        document = json.loads(body)
    except json.JSONDecodeError as error:
        position = f"(line {error.lineno}, column {error.colno})"
        raise TemplateError(f"Template format error: JSON not well-formed. {position}") from error
    resources = document.get("Resources", {})
    if not resources:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    return Template(
        resources, document.get("Parameters", {}), document.get("Outputs", {}), _stages(resources)
    )


def resolve(value: Any, names: Mapping[str, str]) -> str:
    """Resolve a string of a template. Raises TemplateError for functions that no output uses."""
    match value:
        case str(text):
            return text
        case {"Ref": name} if name in names:
            return names[name]
        case {"Fn::GetAtt": [id_, attribute]} if id_ in names:
            return names.get(f"{id_}.{attribute}", names[id_])
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(resolve(part, names) for part in parts)
        case _:
            raise TemplateError(f"Template error: the fake can't resolve {value}")


def _stages(resources: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    waiting = {id_: set(_needed_by(resource)) & resources.keys() for id_, resource in resources.items()}
    stages = []
    while waiting:
        stage = tuple(id_ for id_, needed in waiting.items() if not needed & waiting.keys())
        if not stage:
            raise TemplateError(f"Circular dependency between resources: [{', '.join(waiting)}]")
        stages.append(stage)
        waiting = {id_: needed for id_, needed in waiting.items() if id_ not in stage}
    return tuple(stages)


def _needed_by(resource: Mapping[str, Any]) -> Iterator[str]:
    depends = resource.get("DependsOn", ())
    yield from [depends] if isinstance(depends, str) else depends
    yield from _references(resource.get("Properties", {}))


def _references(value: Any) -> Iterator[str]:
    match value:
        case {"Ref": str(name)}:
            yield name
        case {"Fn::GetAtt": [name, _]}:
            yield name
        case dict():
            for part in value.values():
                yield from _references(part)
        case list():
            for part in value:
                yield from _references(part)
