"""Outside systems in memory: as strict as the real ones, with faults that tests switch on."""

from tests.fakes.aws_client import TokenBucket
from tests.fakes.cfn_census import Census
from tests.fakes.cfn_operator import Operator
from tests.fakes.clock import FakeClock
from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.ecs import FakeEcs
from tests.fakes.fate import Creation, Deletion, Durations, Fate, Import, Stop, Update
from tests.fakes.node_server import FakeNodeServer
from tests.fakes.outside import FakeBucket, FakeNodeDatabases, FakeSecrets, FakeTokens
from tests.fakes.stacks import FakeServer, FakeStack, FakeStacks
from tests.fakes.table import FakeDynamoDB
from tests.fakes.world import Crash, Rivals, Wire, World

__all__ = [
    "Census",
    "Crash",
    "Creation",
    "Deletion",
    "Durations",
    "FakeBucket",
    "FakeClock",
    "FakeCloudFormation",
    "FakeDynamoDB",
    "FakeEcs",
    "FakeNodeDatabases",
    "FakeNodeServer",
    "FakeSecrets",
    "FakeServer",
    "FakeStack",
    "FakeStacks",
    "FakeTokens",
    "Fate",
    "Import",
    "Operator",
    "Rivals",
    "Stop",
    "TokenBucket",
    "Update",
    "Wire",
    "World",
]
