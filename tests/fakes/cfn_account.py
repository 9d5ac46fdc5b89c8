"""The stacks of one AWS account and region: their current state, and their state a moment ago."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from tests.fakes.aws_client import ACCOUNT, REGION, Clock
from tests.fakes.cfn_stack import Resource, Snapshot, Stack, Step, timestamp
from tests.fakes.cfn_template import Template, resolve
from tests.fakes.fate import Durations, Fate, all_well

Sight = tuple[Stack, Snapshot]
"""A stack, and its state at some moment."""

NODE_TAG = "artificien:node-id"
_REMEMBERED = 600.0
"""Seconds for which a deleted stack stays in the list of all stacks, because that list may lag."""


class Account:
    """`fate` returns the fate of a new stack by its name; `limit` is the maximum number of stacks."""

    def __init__(
        self,
        clock: Clock,
        *,
        fate: Callable[[str], Fate] = all_well,
        durations: Durations | None = None,
        limit: int = 2000,
    ) -> None:
        self.clock = clock
        self.fate = fate
        self.durations = durations or Durations()
        self.limit = limit
        self.all: list[Stack] = []
        self.by_arn: dict[str, Stack] = {}
        self.by_address: dict[str, Stack] = {}
        self.clusters: set[str] = set()
        self.services: list[Stack] = []
        self.most_at_once: dict[str, int] = {}
        self.beside: defaultdict[str, list[str]] = defaultdict(list)
        self._by_name: defaultdict[str, list[Stack]] = defaultdict(list)
        self._by_node: defaultdict[str, list[Stack]] = defaultdict(list)
        self._listed: list[Stack] = []

    def add(
        self,
        name: str,
        steps: Callable[[Stack], Iterable[Step]],
        *,
        template: Template | None = None,
        parameters: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        token: str = "",
        on_failure: str = "ROLLBACK",
        protected: bool | None = None,
        **description: Any,
    ) -> Stack:
        """Add a stack that takes these steps. Raises TemplateError."""
        parameters, tags, outputs = parameters or {}, tags or {}, outputs or {}
        now = self.clock()
        fate = self.fate(name)
        stack_id = self._new_arn(name)
        names = template.names(name, stack_id, parameters) if template else {}
        if template:
            outputs = {key: resolve(output["Value"], names) for key, output in template.outputs.items()}
        stack = Stack(
            number=len(self.all),
            name=name,
            stack_id=stack_id,
            fate=fate,
            description=_description(now, parameters, tags, on_failure) | description,
            template=template,
            names=names,
            outputs=outputs,
            tags=tags,
            on_failure=on_failure,
            protected=fate.protected if protected is None else protected,
        )
        if template:
            stack.resources = {
                id_: Resource(id_, resource["Type"], names[id_])
                for id_, resource in template.resources.items()
            }
        stack.begin(steps(stack), token, now)
        self._file(stack)
        return stack

    def find(self, name: str) -> Stack | None:
        """Return a stack's current state: by its ARN, or by its name unless it is deleted."""
        is_arn = name.startswith("arn:")
        named = self._by_name.get(name)
        stack = self.by_arn.get(name) if is_arn else named[-1] if named else None
        if stack is not None:
            stack.reconcile(self.clock())
            if not (is_arn or stack.exists):
                return None
        return stack

    def seen(self, name: str, moment: float) -> Sight | None:
        """Return a stack as it was at a moment: by its ARN, or by its name unless it was deleted."""
        now = self.clock()
        if name.startswith("arn:"):
            stack = self.by_arn.get(name)
            if stack is None:
                return None
            stack.reconcile(now)
            snapshot = stack.as_of(moment)
            return None if snapshot is None else (stack, snapshot)
        for stack in reversed(self._by_name.get(name, ())):
            stack.reconcile(now)
            snapshot = stack.as_of(moment)
            if snapshot is not None:
                return None if snapshot.status == "DELETE_COMPLETE" else (stack, snapshot)
        return None

    def newest_first(
        self, moment: float, before: int | None = None, *, with_deleted: bool = False
    ) -> Iterator[Sight]:
        """Yield the stacks as they were at a moment: those older than the one with number `before`."""
        now = self.clock()
        if before is None and not with_deleted:
            self._prune(now)
        stacks = self.all if with_deleted else self._listed
        end = len(stacks) if before is None else bisect_left(stacks, before, key=lambda stack: stack.number)
        for position in range(end - 1, -1, -1):
            stack = stacks[position]
            stack.reconcile(now)
            snapshot = stack.as_of(moment)
            if snapshot is not None and (with_deleted or snapshot.status != "DELETE_COMPLETE"):
                yield stack, snapshot

    def standing(self) -> list[Stack]:
        """Return all current stacks that aren't deleted."""
        self._prune(self.clock())
        return [stack for stack in self._listed if stack.exists]

    def is_full(self) -> bool:
        """Return whether the account has its maximum number of stacks."""
        return len(self._listed) >= self.limit and len(self.standing()) >= self.limit

    def _file(self, stack: Stack) -> None:
        self.all.append(stack)
        self._listed.append(stack)
        self.by_arn[stack.stack_id] = stack
        self._by_name[stack.name].append(stack)
        if "ClusterName" in stack.outputs:
            self.clusters.add(stack.outputs["ClusterName"])
        if stack.template:
            self.by_address |= dict.fromkeys(stack.outputs.values(), stack)
        if stack.service is not None:
            self.services.append(stack)
        node = stack.tags.get(NODE_TAG)
        if node is not None:
            self._count(node, stack)

    def _count(self, node: str, stack: Stack) -> None:
        now = self.clock()
        for other in self._by_node[node]:
            other.reconcile(now)
        others = [other for other in self._by_node[node] if other.exists]
        self.beside[node] += [other.status for other in others]
        self._by_node[node] = [*others, stack]
        self.most_at_once[node] = max(self.most_at_once.get(node, 0), len(self._by_node[node]))

    def _prune(self, now: float) -> None:
        for stack in self._listed:
            stack.reconcile(now)
        self._listed = [
            stack for stack in self._listed if stack.exists or now - stack.history[-1].at < _REMEMBERED
        ]

    def _new_arn(self, name: str) -> str:
        digits = sha256(f"{name}/{len(self.all)}".encode()).hexdigest()
        unique = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
        return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/{unique}"


def _description(
    now: float, parameters: Mapping[str, str], tags: Mapping[str, str], on_failure: str
) -> dict[str, Any]:
    return {
        "CreationTime": timestamp(now),
        "RollbackConfiguration": {},
        "DisableRollback": on_failure == "DO_NOTHING",
        "NotificationARNs": [],
        "Capabilities": [],
        "Parameters": pairs(parameters, "ParameterKey", "ParameterValue"),
        "Tags": pairs(tags, "Key", "Value"),
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


def pairs(values: Mapping[str, str], key: str, value: str) -> list[dict[str, str]]:
    """Return a mapping as AWS's list of keys and values."""
    return [{key: k, value: v} for k, v in values.items()]
