"""One fake per port: in memory, as strict as the real ones, with faults that can be switched on."""

from tests.fakes.clock import FakeClock
from tests.fakes.models import FakeModels
from tests.fakes.outside import FakeBucket, FakeSecrets, FakeTenants, FakeTokens
from tests.fakes.stacks import FakeServer, FakeStack, FakeStacks
from tests.fakes.tables import FakeApiKeys, FakeAudit, FakeDatasets, FakeNodes, FakeUsers
from tests.fakes.world import Crash, Wire, World

__all__ = [
    "Crash",
    "FakeApiKeys",
    "FakeAudit",
    "FakeBucket",
    "FakeClock",
    "FakeDatasets",
    "FakeModels",
    "FakeNodes",
    "FakeSecrets",
    "FakeServer",
    "FakeStack",
    "FakeStacks",
    "FakeTenants",
    "FakeTokens",
    "FakeUsers",
    "Wire",
    "World",
]
