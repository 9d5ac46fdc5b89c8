"""All ports of the service, faked, and a process that dies after any call to them."""

from collections.abc import Callable
from copy import copy, deepcopy
from dataclasses import dataclass, field
from typing import Any

from orchestration.adapters.dynamo import (
    DynamoApiKeys,
    DynamoAuditLog,
    DynamoDatasets,
    DynamoModels,
    DynamoNodes,
    DynamoUsers,
    ModelItems,
    Table,
)
from orchestration.domain.cycle import Progress
from orchestration.domain.entities import Dataset, Model, User
from orchestration.domain.node import Node
from tests.builders import dataset_item, model_item, node_item, submitted_item, user_item
from tests.fakes.clock import FakeClock
from tests.fakes.expressions import Item
from tests.fakes.outside import FakeBucket, FakeNodeDatabases, FakeSecrets
from tests.fakes.stacks import FakeServer, FakeStacks
from tests.fakes.table import PAGE, FakeDynamoDB


class Crash(BaseException):
    """The end of the process: no code may catch this."""


class Wire:
    """Records each call of a process to its ports, and calls `then` after the n-th."""

    def __init__(self, after: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.calls: list[str] = []
        self._after = after
        self._then = then

    def passed(self, call: str) -> None:
        self.calls.append(call)
        if self._then is not None and len(self.calls) == self._after:
            self._then()


def tapped(port: object, name: str, wire: Wire) -> Any:
    """Return a port, or a client of AWS, whose calls are recorded."""
    return _Tapped(port, name, wire)


class _Tapped:
    def __init__(self, port: object, name: str, wire: Wire) -> None:
        self._tap = (port, name, wire)

    def __getattr__(self, attribute: str) -> Any:
        port, name, wire = self._tap
        method = getattr(port, attribute)
        if not callable(method):
            return method

        def call(*arguments: object, **named: object) -> Any:
            result = method(*arguments, **named)
            wire.passed(" ".join([f"{name}.{attribute}", *filter(None, [named.get("TableName")])]))
            return result

        return call


class Rivals(Wire):
    """Another process that closes a model's cycle after this process has read the model, `times` times."""

    def __init__(self, world: "World", times: int) -> None:
        super().__init__()
        self._world = world
        self._left = times

    def passed(self, call: str) -> None:
        super().passed(call)
        if call == "dynamodb.get_item training_table" and self._left:
            self._left -= 1
            for model in self._world.all_models():
                progress = Progress(model.percent_complete + 1)
                self._world.models.close_cycle(model, progress, self._world.clock())


def _table(client: Any, name: str) -> Table:
    """Return a table that does not sleep between two attempts."""
    return Table(client, name, sleep=lambda _seconds: None)


Entity = Dataset | Model | Node | User
ITEMS: dict[type, tuple[str, Callable[[Any], Item]]] = {
    Dataset: ("dataset_table", dataset_item),
    Node: ("node_table", node_item),
    User: ("user_table", user_item),
}
"""The table of an entity, and its item as the marketplace or this service writes it."""


@dataclass
class World:
    """All ports of the service: its own adapters on tables in memory, and fakes.

    `validate`: botocore's model checks each call, which takes longer than the call itself. The
    adapters' tests do so for every kind of call.
    """

    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    node_databases: FakeNodeDatabases = field(default_factory=FakeNodeDatabases)
    stacks: FakeStacks = field(default_factory=FakeStacks)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    server: Any = None
    clock: FakeClock = field(default_factory=FakeClock)
    validate: bool = False
    page: int = PAGE

    def __post_init__(self) -> None:
        self.server = self.server or FakeServer(self.stacks)
        self.dynamodb = FakeDynamoDB(self.clock, validate=self.validate, page=self.page)
        self._open_tables(self.dynamodb)

    def _open_tables(self, client: Any) -> None:
        self.datasets = DynamoDatasets(_table(client, "dataset_table"))
        self.users = DynamoUsers(_table(client, "user_table"))
        self.keys = DynamoApiKeys(_table(client, "key_table"))
        items = ModelItems(_table(client, "model_table"))
        self.models = DynamoModels(_table(client, "training_table"), items)
        self.nodes = DynamoNodes(_table(client, "node_table"))
        self.audit = DynamoAuditLog(_table(client, "audit_table"), self.clock, days=1)

    def through(self, wire: Wire) -> "World":
        """Return this world for a process whose calls to DynamoDB and the other ports are recorded."""
        seen = copy(self)
        for port in ("secrets", "node_databases", "stacks", "bucket", "server"):
            setattr(seen, port, tapped(getattr(self, port), port, wire))
        seen._open_tables(tapped(self.dynamodb, "dynamodb", wire))
        return seen

    def put(self, entity: Entity) -> None:
        """Write the item of an entity, and replace an existing one."""
        if isinstance(entity, Model):
            self._put_model(entity)
            return
        table, item_of = ITEMS[type(entity)]
        self.dynamodb.put_item(TableName=table, Item=item_of(entity))

    def _put_model(self, model: Model) -> None:
        """Write what was submitted, and for an accepted model the record, which the item shows."""
        self.dynamodb.put_item(TableName="model_table", Item=submitted_item(model))
        if model.is_accepted:
            self.dynamodb.put_item(TableName="training_table", Item=model_item(model))
            self.models.show(model)

    def item(self, table: str, key: str) -> Item | None:
        """Return the current item with this key."""
        return Table(self.dynamodb, table).get(**{self._key_of(table): key})

    def remove(self, table: str, *keys: str) -> None:
        """Delete items; without keys, all of them."""
        name = self._key_of(table)
        for key in keys or [item[name] for item in self.dynamodb.items(table)]:
            self.dynamodb.delete_item(TableName=table, Key={name: key})

    def _key_of(self, table: str) -> str:
        (name,) = self.dynamodb.tables[table].rows.key
        return name

    def all_models(self) -> list[Model]:
        """Return all models, including complete and withdrawn ones."""
        return [self.models.get(item["model_id"]) for item in self.dynamodb.items("model_table")]

    def snapshot(self) -> dict[str, object]:
        """Return everything stored, except the audit log and the number of rejected reports."""
        tables = ("model_table", "training_table")
        models = [item | {"rejected_reports": 0} for table in tables for item in self.dynamodb.items(table)]
        others = ("dataset_table", "user_table", "node_table", "key_table")
        outside = (self.secrets, self.node_databases, self.stacks, self.bucket, self.clock)
        return {
            "models": models,
            "others": [self.dynamodb.items(table) for table in others],
            "outside": deepcopy([vars(part) for part in outside]),
        }

    def told(self) -> list[tuple[str, str, str]]:
        """Return actor, action and subject of the successful entries of the audit log."""
        entries = self.dynamodb.items("audit_table")
        return [(e["actor"], e["action"], e["subject"]) for e in entries if e["result"] == "ok"]
