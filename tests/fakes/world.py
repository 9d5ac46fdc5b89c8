"""Everything outside the service at once, and a process that dies at any call to it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tests.fakes.clock import FakeClock
from tests.fakes.models import FakeModels
from tests.fakes.outside import FakeBucket, FakeNodeDatabases, FakeSecrets
from tests.fakes.stacks import FakeServer, FakeStacks
from tests.fakes.tables import FakeApiKeys, FakeAudit, FakeDatasets, FakeNodes, FakeUsers


class Crash(BaseException):
    """The process dies: nothing may catch this."""


class Wire:
    """Between a process and its ports: notes each call, and does something right after the n-th."""

    def __init__(self, after: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.calls: list[str] = []
        self._after = after
        self._then = then

    def passed(self, call: str) -> None:
        self.calls.append(call)
        if self._then is not None and len(self.calls) == self._after:
            self._then()


def tapped(port: object, name: str, wire: Wire) -> Any:
    """Return the same port, or client of AWS, with every call noted."""
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
            wire.passed(f"{name}.{attribute}")
            return result

        return call


@dataclass
class World:
    """Everything outside the service at once."""

    datasets: FakeDatasets = field(default_factory=FakeDatasets)
    users: FakeUsers = field(default_factory=FakeUsers)
    keys: FakeApiKeys = field(default_factory=FakeApiKeys)
    models: FakeModels = field(default_factory=FakeModels)
    nodes: FakeNodes = field(default_factory=FakeNodes)
    secrets: FakeSecrets = field(default_factory=FakeSecrets)
    node_databases: FakeNodeDatabases = field(default_factory=FakeNodeDatabases)
    audit: FakeAudit = field(default_factory=FakeAudit)
    stacks: FakeStacks = field(default_factory=FakeStacks)
    bucket: FakeBucket = field(default_factory=FakeBucket)
    server: Any = None
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.server = self.server or FakeServer(self.stacks)

    def through(self, wire: Wire) -> "World":
        """The same world, seen by a process whose every call is noted."""
        ports = {part.name: getattr(self, part.name) for part in fields(World) if part.name != "clock"}
        return replace(self, **{name: _Tapped(port, name, wire) for name, port in ports.items()})
