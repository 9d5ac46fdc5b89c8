"""Tables of the fake and of moto. Every test runs on both."""

from collections.abc import Callable
from typing import Any

import pytest

from orchestration.adapters.dynamo import Table
from tests.fakes import FakeClock, FakeDynamoDB


@pytest.fixture(params=["fake", pytest.param("moto", marks=pytest.mark.moto)])
def table_of(request) -> Callable[[str], Table]:
    """Return a table of the data stack, with its indexes."""
    if request.param == "moto":
        return request.getfixturevalue("moto_table_of")
    client: Any = FakeDynamoDB(FakeClock())
    return lambda name: Table(client, name)
