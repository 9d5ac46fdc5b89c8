"""The app on fakes, asked over HTTP by callers who really prove who they are."""

import base64
from collections.abc import Callable

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.jwks import KeySet
from orchestration.api import Services
from orchestration.api.links import DownloadLinks
from orchestration.domain.credentials import hash_of
from orchestration.domain.node import NodeStatus, Wish
from orchestration.pygrid_orchestration import create_app
from orchestration.services.retrieval import DownloadService
from orchestration.settings import Settings
from tests import processes
from tests.builders import LEGACY_KEY, a_node
from tests.fakes import World
from tests.tokens import CLIENT, ISSUER, claims, jwk_of, signed

NODE_SECRET = "what only the node knows"
PUBLIC_URL = "http://orchestration.test:5001"
LINKS = DownloadLinks(PUBLIC_URL, "s" * 32)


def settings(**changes: object) -> Settings:
    """A complete environment."""
    usual = {
        "aws_default_region": "us-east-1",
        "user_pool_id": "us-east-1_Pool",
        "app_client_ids": f"{CLIENT}, another-client",
        "model_bucket": "models",
        "node_image": "pygrid:1",
        "node_database_url": SecretStr("postgres://u:p@db/"),
        "callback_address": "orchestration.test:5001",
        "public_url": PUBLIC_URL,
        "download_secret": SecretStr("s" * 32),
        "log_level": "error",
    }
    return Settings(**usual | changes)


def services_on(world: World) -> Services:
    """The use cases on fakes, behind the real verifier of tokens."""
    keys = KeySet(lambda: {"keys": [jwk_of()]}, local_mode=False)
    return Services(
        tokens=CognitoTokens(keys, ISSUER, frozenset({CLIENT}), world.clock),
        nodes=processes.a_node_service(world),
        training=processes.a_training_service(world),
        catalogue=processes.a_catalogue(world),
        accounts=processes.an_account_service(world),
        downloads=DownloadService(world.models, world.bucket.fresh_url),
        links=LINKS,
    )


@pytest.fixture(scope="session")
def shared_app() -> Flask:
    """As the composition root builds it; only its logs go where the tests can hear them."""
    logs = structlog.get_config()
    app = create_app(settings())
    structlog.configure(**logs)
    return app


@pytest.fixture
def client(shared_app, world) -> FlaskClient:
    """Someone who sends requests."""
    services_on(world).bind(shared_app)
    return shared_app.test_client()


@pytest.fixture
def node(world):
    """A node that is up, and whose secret the tests know."""
    node = a_node(
        wish=Wish.UP,
        status=NodeStatus.READY,
        generation=1,
        address="node.test",
        secret_hash=hash_of(NODE_SECRET),
    )
    world.nodes.add(node)
    return node


def bearer(username: str = "ada") -> dict[str, str]:
    """A person's header."""
    return {"Authorization": f"Bearer {signed(claims(username=username))}"}


def basic(user: str, password: str = NODE_SECRET) -> dict[str, str]:
    """A node's header, as its HTTP library makes it of `user:password@host`."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


API_KEY = {"api_key": LEGACY_KEY}


@pytest.fixture
def post(client) -> Callable[..., TestResponse]:
    """Post JSON: `post(path, body, headers)`."""

    def send(path: str, body: object, headers: dict[str, str] | None = None) -> TestResponse:
        return client.post(path, json=body, headers=headers or {})

    return send
