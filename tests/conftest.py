"""Fixtures for all tests of the service."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.builders import a_dataset, a_developer, a_user
from tests.fakes import World


@pytest.fixture(autouse=True, scope="session")
def _quiet_logs() -> None:
    """Errors of the service show in a failing test's output; nothing is cached, so tests can listen."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )


@pytest.fixture
def logs() -> Iterator[list[dict]]:
    """What the service logs in this test."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def world() -> World:
    """A marketplace with one dataset, its developer, and a data scientist who has bought it."""
    world = World()
    world.datasets.add(a_dataset())
    world.users.add(a_user())
    world.users.add(a_developer())
    return world
