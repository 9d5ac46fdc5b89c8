"""The nodes that stand behind the fake CloudFormation."""

from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.stacks import FakeServer, FakeStacks


class FakeNodeServer(FakeServer):
    """`FakeServer`, with the truth about who answers taken from the stacks and their fates."""

    def __init__(self, cloudformation: FakeCloudFormation) -> None:
        super().__init__(FakeStacks())
        self._cloudformation = cloudformation

    def answers(self, address: str, node_id: str) -> bool:
        return not self.silent and self._cloudformation.serves(address, node_id)
