"""Changes that an operator makes to stacks by hand, and states that AWS wouldn't create on request."""

from collections.abc import Iterator, Mapping

from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.synthesizer import TemplateName, load_template
from tests.fakes import cfn_plans
from tests.fakes.cfn_rules import UPDATABLE
from tests.fakes.cfn_stack import Stack, Step
from tests.fakes.cloudformation import FakeCloudFormation
from tests.fakes.fate import Import, Update

_OF_THE_NODE = {"NodeId", "NodeSecretArn", *NodeShape("").parameters()}


class Operator:
    """An operator who uses the console."""

    def __init__(self, cloudformation: FakeCloudFormation) -> None:
        self._client = cloudformation
        self._account = cloudformation.account

    def put_up(
        self,
        name: str,
        outputs: Mapping[str, str] | None = None,
        *,
        status: str = "CREATE_COMPLETE",
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Add an existing stack without resources, and return its ARN."""
        now = self._account.clock()
        return self._account.add(name, lambda _: [Step(now, status)], outputs=outputs, tags=tags).stack_id

    def put_up_cluster(self, name: str = "artificien-cluster") -> str:
        """Add the cluster stack, with the outputs that a node's template needs."""
        shared = load_template(TemplateName.NODE)["Parameters"].keys() - _OF_THE_NODE
        return self.put_up(name, {key: f"the-{key}" for key in shared} | {"AssignPublicIp": "ENABLED"})

    def review(self, name: str, tags: Mapping[str, str] | None = None) -> str:
        """Begin a stack with a change set that is not executed."""
        return self.put_up(name, status="REVIEW_IN_PROGRESS", tags=tags)

    def update(self, name: str, end: Update = Update.COMPLETE, *, failing_rollbacks: int = 1) -> None:
        """Update a stack. Raises ValidationError where CloudFormation refuses."""
        stack, now = self._updatable(name), self._account.clock()
        stack.failing_rollbacks = failing_rollbacks if end is Update.ROLLBACK_FAILS else 0
        self._begin(stack, cfn_plans.update(stack, now, self._account.durations, end))

    def import_into(self, name: str, end: Import = Import.COMPLETE) -> None:
        """Import resources into a stack. Raises ValidationError where CloudFormation refuses."""
        stack, now = self._updatable(name), self._account.clock()
        self._begin(stack, cfn_plans.import_(stack, now, self._account.durations, end))

    def protect(self, name: str, *, protected: bool = True) -> None:
        """Switch termination protection on or off."""
        self._existing(name).protect(protected, self._account.clock())

    def put(self, name: str, status: str, reason: str = "") -> None:
        """Set a stack to any status, even one that CloudFormation doesn't have; it stays there."""
        stack = self._existing(name)
        self._begin(stack, _arrival(stack, status, reason, self._account.clock()))

    def _begin(self, stack: Stack, steps: Iterator[Step]) -> None:
        stack.begin(list(steps), "", self._account.clock())

    def _existing(self, name: str) -> Stack:
        stack = self._account.find(name)
        assert stack is not None, f"there is no stack {name}"
        return stack

    def _updatable(self, name: str) -> Stack:
        stack = self._existing(name)
        if stack.status not in UPDATABLE:
            message = f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated."
            raise self._client.error("ValidationError", message, "update_stack")
        return stack


def _arrival(stack: Stack, status: str, reason: str, now: float) -> Iterator[Step]:
    """Yield the steps that bring the resources into the state that the status implies."""
    if status in ("DELETE_COMPLETE", "ROLLBACK_COMPLETE"):
        yield from (Step(now, "DELETE_COMPLETE", id_, exists=False) for id_ in stack.made())
    elif status in UPDATABLE - {"CREATE_FAILED"}:
        missing = [id_ for id_, resource in stack.resources.items() if resource.status != "CREATE_COMPLETE"]
        yield from (Step(now, "CREATE_COMPLETE", id_, exists=True) for id_ in missing)
    yield Step(now, status, reason=reason)
