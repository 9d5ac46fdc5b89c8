"""The app on fakes, and valid credentials of its callers."""

import base64
from collections.abc import Collection

from flask import Flask
from pydantic import SecretStr

from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.jws import KeySet
from orchestration.api import Services
from orchestration.api.limits import RateLimits
from orchestration.settings import Settings
from tests import processes
from tests.builders import LEGACY_KEY
from tests.fakes import World
from tests.processes import PUBLIC_URL
from tests.tokens import CLIENT, ISSUER, claims, jwk_of, signed

NODE_SECRET = "password-of-the-node"
DATABASE_PASSWORD = "opens-every-database"


def settings(**changes: object) -> Settings:
    """Return complete settings."""
    usual = {
        "aws_default_region": "us-east-1",
        "user_pool_id": "us-east-1_Pool",
        "app_client_ids": f"{CLIENT}, another-client",
        "model_bucket": "models",
        "node_image": "pygrid:1",
        "node_database_url": SecretStr(f"postgres://u:{DATABASE_PASSWORD}@db/"),
        "callback_address": "orchestration.test:5001",
        "public_url": PUBLIC_URL,
        "download_secret": SecretStr("s" * 32),
        "log_level": "error",
    }
    return Settings(**usual | changes)


class Unlimited(RateLimits):
    """Rate limits that count nothing, so that a thousand tests can call as one user."""

    def __init__(self) -> None:
        """Take no rates."""

    def bind(self, app: Flask, routes_of_nodes: Collection[str]) -> None:
        pass

    def caller(self, name: str) -> None:
        pass

    def node(self, node_id: str, route: str) -> None:
        pass

    def losses(self, model_id: str) -> None:
        pass


def services_on(world: World, limits: RateLimits | None = None) -> Services:
    """Return the use cases on fakes, with the real token verifier."""
    keys = KeySet(lambda: {"keys": [jwk_of()]})
    return Services(
        tokens=CognitoTokens(keys, ISSUER, frozenset({CLIENT}), world.clock),
        nodes=processes.a_node_service(world),
        devices=processes.a_device_service(world),
        models=processes.a_model_service(world),
        accounts=processes.an_account_service(world),
        progress=processes.a_progress_service(world),
        uploads=processes.an_upload_service(world),
        limits=limits or Unlimited(),
        audit=world.audit,
    )


def bearer(username: str = "ada") -> dict[str, str]:
    """Return the header of a user."""
    return {"Authorization": f"Bearer {signed(claims(username=username))}"}


def basic(user: str, password: str = NODE_SECRET) -> dict[str, str]:
    """Return the header of a node, as an HTTP library makes it from `user:password@host`."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


API_KEY = {"api_key": LEGACY_KEY}
