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
def progress(world):
    return processes.a_progress_service(world)


@pytest.fixture
def accounts(world):
    return processes.an_account_service(world)


@pytest.fixture
def uploads(world):
    return processes.an_upload_service(world)


@pytest.fixture
def devices(world):
    return processes.a_device_service(world)


@pytest.fixture
def models(world):
    return processes.a_model_service(world)
