"""The store ports twice: a fake, and DynamoDB. What holds for one must hold for the other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from orchestration.adapters.dynamo import Table


@dataclass(frozen=True)
class Shelf:
    """A store port, a way to put something into it, and its table where it has one."""

    port: Any
    add: Callable[[Any], None]
    table: Table | None = None


@pytest.fixture(params=["fake", pytest.param("moto", marks=pytest.mark.moto)])
def shelf_of(request) -> Callable[..., Shelf]:
    """Build the shelf of one port: `shelf_of(fake, adapter, table name, item builder)`."""

    def build(fake, adapter, name, item_of) -> Shelf:
        if request.param == "fake":
            port = fake()
            return Shelf(port, port.add)
        table = request.getfixturevalue("table_of")(name)
        return Shelf(adapter(table), lambda entity: table.put(item_of(entity)), table)

    return build
