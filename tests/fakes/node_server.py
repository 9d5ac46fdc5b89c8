"""The nodes of the fake CloudFormation's stacks."""

from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.stacks import FakeServer, FakeStacks


class FakeNodeServer(FakeServer):
    """`FakeServer`, with answers that depend on the stacks and their fates."""

    def __init__(self, cloudformation: FakeCloudFormation) -> None:
        super().__init__(FakeStacks())
        self._cloudformation = cloudformation

    def answers(self, address: str, node_id: str) -> bool:
        return not self.silent and self._cloudformation.serves(address, node_id)
