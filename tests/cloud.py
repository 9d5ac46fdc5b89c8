"""A world with the real stack adapter on the fake CloudFormation and ECS; tests control time and faults."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestration.domain.node import node_id_of
from orchestration.domain.ports import Clock
from orchestration.provisioning.ecs_tasks import EcsTasks
from orchestration.provisioning.node_shape import NodeShape
from orchestration.provisioning.orchestration_helper import CloudFormationNodeStacks
from tests.builders import DATASET, MODEL, a_dataset, a_developer, a_submission, a_user
from tests.fakes import (
    Census,
    FakeCloudFormation,
    FakeEcs,
    FakeNodeServer,
    Fate,
    Operator,
    Wire,
    World,
)
from tests.fakes.world import tapped

PREFIX = "artificien-node"


@dataclass
class Cloud(World):
    """As `World`, with CloudFormation and ECS. The next stacks have `fates`, all others have `fate`."""

    fates: deque[Fate] = field(default_factory=deque)
    fate: Fate = field(default_factory=Fate)
    seed: int = 0
    validate: bool = True
    sleep: Callable[[float], None] = lambda _seconds: None

    def __post_init__(self) -> None:
        super().__post_init__()
        rng = random.Random(self.seed)
        self.cloudformation = FakeCloudFormation(
            self.clock, fate=self._next_fate, rng=rng, validate=self.validate
        )
        self.operator.put_up_cluster()
        self.ecs = FakeEcs(self.cloudformation, validate=self.validate)
        self.server = FakeNodeServer(self.cloudformation)
        self.stacks: Any = node_stacks(self.cloudformation, self.ecs, self.clock, self.sleep)

    def _next_fate(self, name: str) -> Fate:
        return self.fates.popleft() if self.fates and name.startswith(PREFIX) else self.fate

    @property
    def operator(self) -> Operator:
        """An operator who uses the AWS console."""
        return Operator(self.cloudformation)

    @property
    def census(self) -> Census:
        """The stacks and resources that exist."""
        return Census(self.cloudformation.account)

    def through(self, wire: Wire) -> "Cloud":
        """As `World.through`; calls to CloudFormation and ECS pass the wire, too."""
        seen: Any = super().through(wire)
        clients = (tapped(self.cloudformation, "cloudformation", wire), tapped(self.ecs, "ecs", wire))
        seen.stacks = node_stacks(*clients, self.clock, self.sleep)
        return seen


def node_stacks(
    cloudformation: Any, ecs: Any, clock: Clock, sleep: Callable[[float], None] = lambda _seconds: None
) -> CloudFormationNodeStacks:
    """Return the stack adapter, wired as in production; by default it does not sleep."""
    return CloudFormationNodeStacks(
        cloudformation,
        EcsTasks(ecs),
        prefix=PREFIX,
        cluster_stack="artificien-cluster",
        shape=NodeShape("node:1"),
        clock=clock,
        sleep=sleep,
    )


def a_cloud(*fates: Fate, dataset_ids: tuple[str, ...] = (DATASET,), **more: Any) -> Cloud:
    """Return a marketplace with bought datasets and a submitted model; the first stacks have these fates."""
    cloud = Cloud(fates=deque(fates), **more)
    cloud.put(a_user(purchased=frozenset(dataset_ids)))
    cloud.put(a_developer())
    for dataset_id in dataset_ids:
        cloud.put(a_dataset(dataset_id=dataset_id))
    cloud.put(a_submission(model_id=MODEL, dataset_id=dataset_ids[0]))
    return cloud


NODE = node_id_of(DATASET)
