"""The process dies after every single call to AWS, of every story; whoever comes next brings it to its end.

The points are counted, not chosen: a story runs once undisturbed, and then once for each of its calls.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from orchestration.control.orphans import INTERVAL
from orchestration.domain.cycle import Progress
from orchestration.domain.errors import OrchestrationError
from orchestration.domain.node import NodeStatus
from tests.builders import DATASET, DEVELOPER, MODEL
from tests.cloud import NODE, Cloud, a_cloud
from tests.fakes import Crash, Creation, Deletion, Fate, Wire
from tests.processes import a_node_service, a_progress_service, a_reconciler, request_node

pytestmark = pytest.mark.exhaustive

PASS, LONG_PASS = 60.0, 300.0
"""Seconds between two passes of the reconciler: while things go well, and while something takes hours."""
PATIENCE = 20
"""Passes after which it is taken to be so."""
LONGEST = 80
"""Passes, after which a story that hasn't come to its end never will: five hours."""

EVERY = int(os.environ.get("KILL_EVERY", "1"))
"""Every how many points the process is killed; 1 is all of them."""


def reconcile_until(world: Cloud, is_over: Callable[[Cloud], bool]) -> None:
    reconciler = a_reconciler(world)
    for passes in range(LONGEST):
        if is_over(world):
            return
        reconciler.attend()
        reconciler.run_pass()
        world.clock.tick(PASS if passes < PATIENCE else LONG_PASS)
    pytest.fail(f"It never came to its end: {world.nodes.get(NODE)}")


def is_gone(world: Cloud) -> bool:
    return world.nodes.get(NODE).status is NodeStatus.ABSENT and not world.census.of_node(NODE)


def is_home(world: Cloud) -> bool:
    return world.models.get(MODEL).download_key is not None


def launch(world: Cloud) -> None:
    """A data scientist asks until the node is there, as artificienlib does; the reconciler runs beside."""
    if not world.models.get(MODEL).is_active:
        return

    def asked(world: Cloud) -> bool:
        with suppress(OrchestrationError):
            return request_node(a_node_service(world)).address is not None
        return False

    reconcile_until(world, asked)


def retrieve(world: Cloud) -> None:
    """The node says 100 per cent; the model comes home, and the node goes after its grace."""
    a_progress_service(world).record(MODEL, Progress(100, 10), node=world.nodes.get(NODE))
    reconcile_until(world, is_home)
    reconcile_until(world, is_gone)


def retire(world: Cloud) -> None:
    """The dataset's owner takes the node away in the middle of the training."""
    a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile_until(world, is_gone)


def change_their_minds(world: Cloud) -> None:
    """Retired, and asked for again before it is gone."""
    a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    a_reconciler(world).attend()
    a_reconciler(world).run_pass()
    launch(world)


@dataclass(frozen=True)
class Story:
    """What happens, in which order; how it ends; and what befalls the first stacks."""

    acts: tuple[Callable[[Cloud], None], ...]
    before: tuple[Callable[[Cloud], None], ...] = ()
    fates: tuple[Fate, ...] = ()
    ends_up: bool = False
    leaves_a_stack: bool = False
    """It can't be deleted by anybody."""
    leaves_a_resource: bool = False
    """CloudFormation had to leave it behind."""

    def begin(self, *, validate: bool = False) -> Cloud:
        world = a_cloud(*self.fates, validate=validate)
        for act in self.before:
            act(world)
        return world


STORIES = {
    "launch": Story((launch,), ends_up=True),
    "launch, rolled back once": Story((launch,), fates=(Fate(creation=Creation.FAILS),), ends_up=True),
    "launch, rollback fails": Story((launch,), fates=(Fate(creation=Creation.ROLLBACK_FAILS),), ends_up=True),
    "launch, never stable": Story((launch,), fates=(Fate(creation=Creation.NEVER_STABLE),), ends_up=True),
    "launch, hangs": Story((launch,), fates=(Fate(creation=Creation.HANGS, breaker=None),), ends_up=True),
    "launch, never answers": Story((launch,), fates=(Fate(answers=False),), ends_up=True),
    "retrieve": Story((retrieve,), before=(launch,)),
    "retire": Story((retire,), before=(launch,)),
    "retire, deletion fails": Story((retire,), (launch,), (Fate(deletion=Deletion.FAILS),)),
    "retire, resource stuck": Story(
        (retire,), (launch,), (Fate(deletion=Deletion.NEEDS_RETAIN),), leaves_a_resource=True
    ),
    "retire, force needed": Story(
        (retire,), (launch,), (Fate(deletion=Deletion.NEEDS_FORCE),), leaves_a_resource=True
    ),
    "retire and ask again": Story((change_their_minds,), (launch,), ends_up=True),
    "ask again, undeletable": Story(
        (change_their_minds,), (launch,), (Fate(deletion=Deletion.NEVER),), ends_up=True, leaves_a_stack=True
    ),
    "from submission to download": Story((launch, retrieve)),
}


def run(story: Story, world: Cloud) -> None:
    """Each act can be begun again: users ask again, nodes repeat their word, reconcilers are restarted."""
    for act in story.acts:
        act(world)


def calls_of(story: Story) -> int:
    wire = Wire()
    run(story, story.begin(validate=True).through(wire))
    return len(wire.calls)


def die() -> None:
    raise Crash


def killed_at(story: Story, point: int) -> Cloud:
    """The world as it is when the process was killed there, and another one has gone on until the end."""
    world = story.begin()
    with suppress(Crash):
        run(story, world.through(Wire(point, die)))
    run(story, world)
    reconciler = a_reconciler(world)
    for _ in range(8):  # what is left over is swept up every hour
        reconciler.run_pass()
        world.clock.tick(INTERVAL / 4)
    return world


@pytest.mark.usefixtures("no_logs")
@pytest.mark.parametrize("name", STORIES)
def test_killed_after_any_call_the_story_still_ends_well(name):
    """One stack at most, nothing leaked, nothing lost; whichever call was the process's last."""
    story = STORIES[name]
    points = range(1, calls_of(story) + 1, EVERY)
    faults = {point: faults_of(story, killed_at(story, point)) for point in points}

    assert len(points) >= 20 // EVERY
    assert {point: found for point, found in faults.items() if found} == {}


def faults_of(story: Story, world: Cloud) -> list[str]:
    """What is not as it should be at the end of a story."""
    node = world.nodes.get(NODE)
    standing = {stack.name for stack in world.census.of_node(NODE)}
    its_own = {f"artificien-node-{NODE}-{node.generation}"}
    checks = {
        "a second stack beside the first": world.census.most_at_once(NODE) > 1 + story.leaves_a_stack,
        "what outlived its stack": len(world.census.leaks()) > story.leaves_a_resource,
        "a secret of another life": set(world.secrets.passwords) - {(NODE, node.generation)},
    }
    if story.ends_up:
        address = world.stacks.describe(node).address
        checks |= {
            "status": node.status is not NodeStatus.READY,
            "its own stack": not its_own <= standing,
            "others": len(standing - its_own) > story.leaves_a_stack,
            "address": node.address != address,
            "secret": (NODE, node.generation) not in world.secrets.passwords,
            "nodeURL": world.datasets.get(DATASET).node_address != address,
            "node_URL": world.models.get(MODEL).node_address != address,
        }
    else:
        checks |= {
            "status": node.status is not NodeStatus.ABSENT,
            "stacks": standing,
            "secret": world.secrets.passwords,
            "nodeURL": world.datasets.get(DATASET).node_address,
            "node_URL": world.models.get(MODEL).node_address,
            "charged": node.charged_to,
        }
    if retrieve in story.acts:
        checks["file"] = world.bucket.files != {MODEL: b"trained"}
    return [what for what, is_wrong in checks.items() if is_wrong]
