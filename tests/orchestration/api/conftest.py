"""Fixtures for the API's tests: the app on fakes, called over HTTP."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestration.domain.credentials import hash_of
from orchestration.domain.node import DesiredState, NodeStatus
from tests.builders import NOON, a_node
from tests.web import NODE_SECRET, services_on

RUNNING, STOPPED = DesiredState


@pytest.fixture
def client(shared_app, world) -> FlaskClient:
    """Test client of the app."""
    services_on(world).bind(shared_app)
    return shared_app.test_client()


@pytest.fixture
def node(world):
    """A running node whose secret is NODE_SECRET."""
    node = a_node(
        desired_state=RUNNING,
        status=NodeStatus.READY,
        generation=1,
        address="node.test",
        secret_hash=hash_of(NODE_SECRET),
        device_at=NOON,
    )
    world.put(node)
    return node


@pytest.fixture
def post(client) -> Callable[..., TestResponse]:
    """Post JSON: `post(path, body, headers)`."""

    def send(path: str, body: object, headers: dict[str, str] | None = None) -> TestResponse:
        return client.post(path, json=body, headers=headers or {})

    return send
