"""Fixtures for all tests of the service."""

import logging
from collections.abc import Callable, Iterator
from functools import cache

import boto3
import hypothesis
import pytest
import structlog
from flask import Flask

from orchestration.adapters.dynamo import Table
from orchestration.pygrid_orchestration import create_app
from tests.builders import NOON, a_dataset, a_developer, a_node, a_user
from tests.fakes import World
from tests.fakes.table import table_definitions
from tests.secrecy import LeakCheck, checking
from tests.web import settings

REGION = "us-east-1"

# No test may fail because the machine is busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def _quiet_logs() -> None:
    """Log from the level WARNING; loggers aren't cached, so that tests can capture them."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )


@pytest.fixture(autouse=True)
def leak_check(_quiet_logs: None) -> Iterator[LeakCheck]:
    """Fail the test in which the service logs or returns a secret."""
    with checking() as leak_check:
        yield leak_check
    leak_check.check()


@pytest.fixture
def logs() -> Iterator[list[dict]]:
    """Log entries of the service in this test."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def no_logs() -> Iterator[None]:
    """Disable logs, for tests that would write a hundred thousand lines to be searched for secrets."""
    logs = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**logs)


@pytest.fixture
def world() -> World:
    """A marketplace with one dataset, its developer, and a data scientist who has bought it.

    A device has called for the dataset; no user has requested a node yet.
    """
    world = World()
    world.put(a_dataset())
    world.put(a_node(device_at=NOON))
    world.put(a_user())
    world.put(a_developer())
    return world


@pytest.fixture
def own_logs() -> Iterator[None]:
    """Restore the configuration of logs, which building the app changes for the whole process."""
    logs = structlog.get_config()
    yield
    structlog.configure(**logs)


@pytest.fixture(scope="session")
def shared_app() -> Flask:
    """The app of the composition root, without its configuration of logs."""
    logs = structlog.get_config()
    app = create_app(settings())
    structlog.configure(**logs)
    return app


@pytest.fixture
def aws(monkeypatch) -> Iterator[boto3.Session]:
    """An empty AWS in this process; no call leaves it."""
    from moto import mock_aws
    from moto.dynamodb.models.dynamo_type import DynamoType

    from local_platform.repairs import dynamodb_numbers as numbers

    monkeypatch.setattr(DynamoType, "__add__", numbers.added)
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield _session()


@cache
def _session() -> boto3.Session:
    """One session for all tests, because it reads boto3's large service descriptions."""
    return boto3.Session("testing", "testing", region_name=REGION)


@pytest.fixture
def moto_table_of(aws) -> Callable[[str], Table]:
    """Return a function that creates a table of the data stack, with its indexes."""
    client = aws.resource("dynamodb").meta.client

    def make(name: str) -> Table:
        client.create_table(**table_definitions()[name])
        return Table(client, name)

    return make
