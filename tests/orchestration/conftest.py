"""The use cases, on fakes."""

import pytest

from tests import processes


@pytest.fixture
def lifecycle(world):
    return processes.a_lifecycle(world)


@pytest.fixture
def nodes(world):
    return processes.a_node_service(world)


@pytest.fixture
def reconciler(world):
    return processes.a_reconciler(world)


@pytest.fixture
def retrieval(world):
    return processes.a_retrieval(world)


@pytest.fixture
def training(world):
    return processes.a_training_service(world)


@pytest.fixture
def accounts(world):
    return processes.an_account_service(world)


@pytest.fixture
def catalogue(world):
    return processes.a_catalogue(world)
