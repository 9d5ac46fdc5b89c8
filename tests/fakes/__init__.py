"""One fake per port: in memory, as strict as the real ones, with faults that can be switched on."""

from tests.fakes.aws_client import TokenBucket
from tests.fakes.cfn_census import Census
from tests.fakes.cfn_operator import Operator
from tests.fakes.clock import FakeClock
from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.ecs import FakeEcs
from tests.fakes.fate import Creation, Deletion, Durations, Fate, Import, Stop, Update
from tests.fakes.models import FakeModels
from tests.fakes.node_server import FakeNodeServer
from tests.fakes.outside import FakeBucket, FakeSecrets, FakeTenants, FakeTokens
from tests.fakes.stacks import FakeServer, FakeStack, FakeStacks
from tests.fakes.table import FakeDynamoDB
from tests.fakes.tables import FakeApiKeys, FakeAudit, FakeDatasets, FakeNodes, FakeUsers
from tests.fakes.world import Crash, Wire, World

__all__ = [
    "Census",
    "Crash",
    "Creation",
    "Deletion",
    "Durations",
    "FakeApiKeys",
    "FakeAudit",
    "FakeBucket",
    "FakeClock",
    "FakeCloudFormation",
    "FakeDatasets",
    "FakeDynamoDB",
    "FakeEcs",
    "FakeModels",
    "FakeNodeServer",
    "FakeNodes",
    "FakeSecrets",
    "FakeServer",
    "FakeStack",
    "FakeStacks",
    "FakeTenants",
    "FakeTokens",
    "FakeUsers",
    "Fate",
    "Import",
    "Operator",
    "Stop",
    "TokenBucket",
    "Update",
    "Wire",
    "World",
]
