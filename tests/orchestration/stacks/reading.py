"""Reads templates for tests: resources by type, intrinsic functions as text, policies."""

import re
from dataclasses import dataclass
from typing import Any

from orchestration.provisioning.synthesizer import TemplateName, load_template

TEMPLATES = {name: load_template(name) for name in TemplateName}
CLUSTER, DATA, NODE, ORCHESTRATION = TEMPLATES.values()


def of_type(template, kind):
    """Return the properties of every resource of this type."""
    found = [r.get("Properties", {}) for r in template["Resources"].values() if r["Type"] == f"AWS::{kind}"]
    assert found, f"no {kind}"
    return found


def only(template, kind):
    """Return the properties of the one resource of this type."""
    (properties,) = of_type(template, kind)
    return properties


def listed(pairs):
    """Convert a list of Key and Value to a mapping."""
    return {pair["Key"]: pair["Value"] for pair in pairs}


def text(value: Any) -> Any:
    """Write intrinsic functions as `<name>` or `<resource.attribute>`, Fn::If as its value by default."""
    if isinstance(value, list):
        return [text(part) for part in value]
    if not isinstance(value, dict) or not value:
        return value
    ((function, argument), *others) = value.items()
    if others or not (function == "Ref" or function.startswith("Fn::")):
        return {name: text(part) for name, part in value.items()}
    if function == "Fn::Join":
        return argument[0].join(text(argument[1]))
    if function == "Fn::If":
        return text(argument[2])
    return (
        f"<{'.'.join(map(str, text(argument))) if isinstance(argument, list) else text(argument)}>".replace(
            "AWS::", ""
        )
    )


def short(logical_id):
    """Remove the digits that the CDK appends to logical ids."""
    return re.sub(r"[0-9A-F]{8}(?=$|[.>])", "", logical_id)


def as_list(value):
    """Return a list where IAM allows a string or a list."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Statement:
    """A statement of a policy, and the logical ids of the roles that have it."""

    holders: frozenset[str]
    effect: str
    actions: frozenset[str]
    resources: frozenset[str]
    conditions: dict[str, Any]


def statements(template) -> list[Statement]:
    """Return all statements of the policies of all roles in a template."""
    resources = template["Resources"]
    found = []
    for logical_id, resource in resources.items():
        if resource["Type"] == "AWS::IAM::Policy":
            holders = {short(role["Ref"]) for role in resource["Properties"]["Roles"]}
        elif resource["Type"] == "AWS::IAM::ManagedPolicy":
            attached = [
                (name, r.get("Properties", {}).get("ManagedPolicyArns", [])) for name, r in resources.items()
            ]
            holders = {short(name) for name, policies in attached if {"Ref": logical_id} in policies}
        else:
            assert "Policies" not in resource.get("Properties", {}), "read inline policies too"
            continue
        found += [
            Statement(
                frozenset(holders),
                s["Effect"],
                frozenset(as_list(s["Action"])),
                frozenset(as_list(text(s["Resource"]))),
                text(s.get("Condition", {})),
            )
            for s in resource["Properties"]["PolicyDocument"]["Statement"]
        ]
    return found


def held_by(template, role) -> list[Statement]:
    """Return the statements of a role, named by its logical id without digits."""
    found = [s for s in statements(template) if role in s.holders]
    assert found, f"no {role}"
    return found
