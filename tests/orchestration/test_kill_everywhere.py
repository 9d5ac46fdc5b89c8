"""The process dies after every single call to AWS, in every scenario; another process completes it.

The points are counted, not chosen: a scenario runs once undisturbed, and then once for each of its calls.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from orchestration.control.orphans import INTERVAL
from orchestration.domain.cycle import Progress, Report
from orchestration.domain.errors import OrchestrationError
from orchestration.domain.node import NodeStatus
from tests.builders import DATASET, DEVELOPER, MODEL, SCIENTIST
from tests.cloud import NODE, Cloud, a_cloud
from tests.fakes import Crash, Creation, Deletion, Fate, Wire
from tests.processes import a_model_service, a_node_service, a_progress_service, a_reconciler, request_node

pytestmark = pytest.mark.exhaustive

PASS, LONG_PASS = 60.0, 300.0
"""Seconds between two passes of the reconciler: while things go well, and while something takes hours."""
PATIENCE = 20
"""Passes after which the longer time applies."""
LONGEST = 80
"""Passes after which a scenario has failed to complete: five hours."""

EVERY = int(os.environ.get("KILL_EVERY", "1"))
"""Kill the process at every n-th point; 1 means all of them."""


def reconcile_until(world: Cloud, is_complete: Callable[[Cloud], bool]) -> None:
    reconciler = a_reconciler(world)
    for passes in range(LONGEST):
        if is_complete(world):
            return
        reconciler.attend()
        reconciler.run_pass()
        world.clock.tick(PASS if passes < PATIENCE else LONG_PASS)
    pytest.fail(f"The scenario did not complete: {world.nodes.get(NODE)}")


def is_stopped(world: Cloud) -> bool:
    return world.nodes.get(NODE).status is NodeStatus.ABSENT and not world.census.of_node(NODE)


def is_retrieved(world: Cloud) -> bool:
    return world.models.get(MODEL).download_key is not None


def launch(world: Cloud) -> None:
    """Request the node until it is ready, as artificienlib does, while the reconciler runs."""
    if not world.models.get(MODEL).is_active:
        return

    def is_ready(world: Cloud) -> bool:
        with suppress(OrchestrationError):
            return request_node(a_node_service(world)).address is not None
        return False

    reconcile_until(world, is_ready)


def retrieve(world: Cloud) -> None:
    """Report 100 per cent; wait until the model is in the bucket and the node is stopped."""
    a_progress_service(world).record(MODEL, Progress(100, 10), node=world.nodes.get(NODE))
    reconcile_until(world, is_retrieved)
    reconcile_until(world, is_stopped)


def report(world: Cloud) -> None:
    """Let a device report, and the node close a cycle."""
    world.models.count(world.models.hosted(MODEL), Report(0.5, None))
    a_progress_service(world).record(MODEL, Progress(50, 5), node=world.nodes.get(NODE))


def withdraw(world: Cloud) -> None:
    """Withdraw the model; wait until the node is stopped."""
    a_model_service(world).withdraw(MODEL, caller=SCIENTIST)
    reconcile_until(world, is_stopped)


def retire(world: Cloud) -> None:
    """Retire the node during the training."""
    a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    reconcile_until(world, is_stopped)


def retire_and_request(world: Cloud) -> None:
    """Retire the node, and request it again before it is stopped."""
    a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    a_reconciler(world).attend()
    a_reconciler(world).run_pass()
    launch(world)


@dataclass(frozen=True)
class Scenario:
    """Steps after some preparation, the fates of the first stacks, and the expected end."""

    steps: tuple[Callable[[Cloud], None], ...]
    preparation: tuple[Callable[[Cloud], None], ...] = ()
    fates: tuple[Fate, ...] = ()
    ends_ready: bool = False
    leaves_a_stack: bool = False
    """Whether a stack remains that can't be deleted."""
    leaves_a_resource: bool = False
    """Whether a resource remains that CloudFormation retained."""

    def begin(self, *, validate: bool = False) -> Cloud:
        world = a_cloud(*self.fates, validate=validate)
        world.server.uploaded.add(MODEL)  # as soon as the node is ready; without it, the node is let go
        for step in self.preparation:
            step(world)
        return world


SCENARIOS = {
    "launch": Scenario((launch,), ends_ready=True),
    "launch, rolled back once": Scenario((launch,), fates=(Fate(creation=Creation.FAILS),), ends_ready=True),
    "launch, rollback fails": Scenario(
        (launch,), fates=(Fate(creation=Creation.ROLLBACK_FAILS),), ends_ready=True
    ),
    "launch, never stable": Scenario(
        (launch,), fates=(Fate(creation=Creation.NEVER_STABLE),), ends_ready=True
    ),
    "launch, hangs": Scenario(
        (launch,), fates=(Fate(creation=Creation.HANGS, breaker=None),), ends_ready=True
    ),
    "launch, never answers": Scenario((launch,), fates=(Fate(answers=False),), ends_ready=True),
    "retrieve": Scenario((retrieve,), preparation=(launch,)),
    "close a cycle and retire": Scenario((report, retire), preparation=(launch,)),
    "withdraw": Scenario((withdraw,), preparation=(launch, report)),
    "retire": Scenario((retire,), preparation=(launch,)),
    "retire, deletion fails": Scenario((retire,), (launch,), (Fate(deletion=Deletion.FAILS),)),
    "retire, resource stuck": Scenario(
        (retire,), (launch,), (Fate(deletion=Deletion.NEEDS_RETAIN),), leaves_a_resource=True
    ),
    "retire, force needed": Scenario(
        (retire,), (launch,), (Fate(deletion=Deletion.NEEDS_FORCE),), leaves_a_resource=True
    ),
    "retire and request again": Scenario((retire_and_request,), (launch,), ends_ready=True),
    "request again, undeletable": Scenario(
        (retire_and_request,),
        (launch,),
        (Fate(deletion=Deletion.NEVER),),
        ends_ready=True,
        leaves_a_stack=True,
    ),
    "from submission to download": Scenario((launch, retrieve)),
}


def run(scenario: Scenario, world: Cloud) -> None:
    """Run the steps. Each can be repeated, as users and nodes repeat requests and processes restart."""
    for step in scenario.steps:
        step(world)


def calls_of(scenario: Scenario) -> int:
    wire = Wire()
    run(scenario, scenario.begin(validate=True).through(wire))
    return len(wire.calls)


def die() -> None:
    raise Crash


def killed_at(scenario: Scenario, point: int) -> Cloud:
    """Return the world after a process was killed at a point and another one has completed the scenario."""
    world = scenario.begin()
    with suppress(Crash):
        run(scenario, world.through(Wire(point, die)))
    run(scenario, world)
    reconciler = a_reconciler(world)
    for _ in range(8):  # superseded stacks are deleted once an hour
        reconciler.run_pass()
        world.clock.tick(INTERVAL / 4)
    return world


@pytest.mark.usefixtures("no_logs")
@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_killed_after_any_call_is_completed(name):
    """At most one stack exists, and nothing leaks or is lost, whichever call was the process's last."""
    scenario = SCENARIOS[name]
    points = range(1, calls_of(scenario) + 1, EVERY)
    faults = {point: faults_of(scenario, killed_at(scenario, point)) for point in points}

    assert len(points) >= 20 // EVERY
    assert {point: found for point, found in faults.items() if found} == {}


def faults_of(scenario: Scenario, world: Cloud) -> list[str]:
    """Return the names of the checks that fail at the end of a scenario."""
    node = world.nodes.get(NODE)
    item = world.item("model_table", MODEL)
    standing = {stack.name for stack in world.census.of_node(NODE)}
    current = {f"artificien-node-{NODE}-{node.generation}"}
    checks = {
        "most stacks at once": world.census.most_at_once(NODE) > 1 + scenario.leaves_a_stack,
        "leaked resources": len(world.census.leaks()) > scenario.leaves_a_resource,
        "secrets of other generations": set(world.secrets.passwords) - {(NODE, node.generation)},
    }
    if scenario.ends_ready:
        address = world.stacks.describe(node).address
        checks |= {
            "status": node.status is not NodeStatus.READY,
            "current stack": not current <= standing,
            "other stacks": len(standing - current) > scenario.leaves_a_stack,
            "address": node.address != address,
            "secret": (NODE, node.generation) not in world.secrets.passwords,
            "nodeURL": world.datasets.get(DATASET).node_address != address,
            "node_URL": world.models.get(MODEL).node_address != address,
            "shown node_URL": item.get("node_URL") != address,
        }
    else:
        checks |= {
            "status": node.status is not NodeStatus.ABSENT,
            "stacks": standing,
            "secret": world.secrets.passwords,
            "nodeURL": world.datasets.get(DATASET).node_address,
            "node_URL": world.models.get(MODEL).node_address,
            "shown node_URL": item.get("node_URL"),
            "charged": node.charged_to,
        }
    checks |= faults_of_model(scenario, world)
    return [name for name, has_failed in checks.items() if has_failed]


def faults_of_model(scenario: Scenario, world: Cloud) -> dict[str, object]:
    """Return checks of the model's record, of what the marketplace shows of it, and of its file."""
    model, item = world.models.get(MODEL), world.item("model_table", MODEL)
    checks: dict[str, object] = {
        "shown state": (item["active_status"], item["percent_complete"])
        != (int(model.is_active), model.percent_complete),
        "shown history": len(item.get("history", ())) != len(model.history),
        "shown columns": tuple(item.get("features", ())) != model.features,
    }
    if retrieve in scenario.steps:
        checks |= {
            "file": world.bucket.files != {MODEL: b"trained"},
            "sealed": model.sealed,
            "history": [cycle.percent_complete for cycle in model.history] != [100],
            "due": model.retrieval_due,
            "shown link": item.get("download_link", "").rpartition("/")[2] != model.download_key,
        }
    if withdraw in scenario.steps:
        checks |= {"withdrawn": model.is_active, "shown link": item.get("download_link")}
    return checks
