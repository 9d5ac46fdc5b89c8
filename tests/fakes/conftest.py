"""Fixtures: an account with a cluster stack, and a node's template."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestration.provisioning.synthesizer import TemplateName, load_template
from tests.fakes import FakeClock, FakeCloudFormation, Fate, Operator

NAME = "artificien-node-n1-1"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def template() -> str:
    return json.dumps(load_template(TemplateName.NODE))


@pytest.fixture
def account(clock: FakeClock) -> Callable[..., FakeCloudFormation]:
    """Return a function that creates a CloudFormation with one fate for all stacks."""

    def make(fate: Fate | None = None, **settings: Any) -> FakeCloudFormation:
        client = FakeCloudFormation(clock, fate=lambda _: fate or Fate(), **settings)
        Operator(client).put_up_cluster()
        return client

    return make


@pytest.fixture
def launch(template: str) -> Callable[..., str]:
    """Return a function that creates a node's stack and returns its ARN."""
    rules = json.loads(template)["Parameters"]
    values = {name: rule.get("AllowedValues", [f"the-{name}"])[0] for name, rule in rules.items()}
    values["NodeId"] = "n1"

    def create(client: FakeCloudFormation, name: str = NAME, **more: Any) -> str:
        parameters = [{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()]
        tags = [{"Key": "artificien:node-id", "Value": "n1"}]
        request = {"StackName": name, "TemplateBody": template, "Parameters": parameters, "Tags": tags}
        return str(client.create_stack(**request | more)["StackId"])

    return create
