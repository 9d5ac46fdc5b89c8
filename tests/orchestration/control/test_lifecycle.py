"""Steps of a node, interrupted after any call, and run beside other processes."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from orchestration.domain.errors import AccessDenied, Conflict, Overtaken, Upstream
from orchestration.domain.node import DesiredState, NodeStack, NodeStatus, StackPhase, node_id_of
from orchestration.domain.ports import Deletion
from tests.builders import (
    DATASET,
    DEVELOPER,
    MODEL,
    SCIENTIST,
    a_dataset,
    a_model,
    a_node,
    a_submission,
    a_user,
)
from tests.fakes import Crash, Wire, World
from tests.processes import (
    DEADLINE,
    IDLE_TIMEOUT,
    PASS,
    a_lifecycle,
    a_model_service,
    a_node_service,
    a_reconciler,
    attend,
    reconcile,
    request_node,
)

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)


def a_world() -> World:
    """Return a marketplace with one bought dataset and one submitted model."""
    world = World()
    world.put(a_dataset())
    world.put(a_user())
    world.put(a_submission())
    return world


def a_world_with_a_ready_node() -> World:
    """As `a_world`, with the node ready and the model published on it."""
    world = a_world()
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    world.models.record_hosted(world.models.get(MODEL), world.clock())
    return world


def a_world_with_failing_stacks() -> World:
    """As `a_world`, with stacks whose creation fails."""
    world = a_world()
    world.stacks.failure = "Service: no capacity."
    return world


def a_world_with_a_complete_model() -> World:
    """As `a_world_with_a_ready_node`, with the model complete and due for retrieval."""
    return complete(a_world_with_a_ready_node())


def complete(world: World) -> World:
    """Record that the model reached 100 per cent."""
    done = {"is_active": False, "percent_complete": 100, "retrieval_due": True}
    world.put(replace(world.models.get(MODEL), **done))
    return world


def launch(world: World) -> None:
    """Call `/create` repeatedly, beside the reconciler."""
    for _ in range(2):
        request_node(a_node_service(world))
        a_reconciler(world).attend()
        a_reconciler(world).run_pass()


def launch_after_a_failure(world: World) -> None:
    """Let the first launch fail, and the reconciler clean up and launch again."""
    request_node(a_node_service(world))
    a_reconciler(world).attend()
    for _ in range(6):
        a_reconciler(world).run_pass()


def retrieve_and_stop(world: World) -> None:
    """Run the reconciler from a complete model until its node is stopped."""
    for _ in range(6):
        a_reconciler(world).run_pass()
        world.clock.tick(IDLE_TIMEOUT)


def calls_of(scenario: Callable[[World], None], world: World) -> int:
    """Return how many calls to ports a scenario makes when it is not interrupted."""
    wire = Wire()
    scenario(world.through(wire))
    return len(wire.calls)


def interrupted(scenario: Callable[[World], None], world: World, after: int) -> World:
    """Run a scenario in a process that dies right after its n-th call."""

    def die() -> None:
        raise Crash

    with suppress(Crash):
        scenario(world.through(Wire(after, die)))
    return world


def state_of(world: World) -> dict[str, object]:
    """Return what the records, the stacks and the marketplace show of the node."""
    node = world.nodes.get(NODE)
    standing = world.stacks.standing(NODE)
    return {
        "status": node.status,
        "stacks": len(standing),
        "most at once": world.stacks.most_at_once,
        "current generation": standing[0].generation == node.generation,
        "address": node.address == standing[0].address,
        "node_URL": {row.node_address for row in world.all_models() if row.is_training} == {node.address},
        "nodeURL": world.datasets.get(DATASET).node_address == node.address,
        "secrets": list(world.secrets.passwords),
        "idle": node.idle_since,
    }


def ready_state(world: World) -> dict[str, object]:
    return {
        "status": NodeStatus.READY,
        "stacks": 1,
        "most at once": 1,
        "current generation": True,
        "address": True,
        "node_URL": True,
        "nodeURL": True,
        "secrets": [(NODE, world.nodes.get(NODE).generation)],
        "idle": 0.0,
    }


def remains(world: World) -> dict[str, object]:
    """Return what a stopped node has left behind; empty if its clean-up is complete."""
    node = world.nodes.get(NODE)
    left = {
        "stacks": world.stacks.standing(NODE),
        "secrets": world.secrets.passwords,
        "node_URL": [row.model_id for row in world.all_models() if row.node_address],
        "nodeURL": world.datasets.get(DATASET).node_address,
        "status": "" if node.status is NodeStatus.ABSENT else node.status,
        "secret hash": node.secret_hash,
        "stack": node.stack_id,
        "address": node.address,
    }
    return {name: value for name, value in left.items() if value}


def points_of(scenario: Callable[[World], None], begin: Callable[[], World]) -> range:
    """Return every point at which a scenario can be interrupted."""
    return range(1, calls_of(scenario, begin()) + 1)


@pytest.mark.parametrize("after", points_of(launch, a_world))
def test_launch_interrupted_anywhere_is_completed(after):
    """Other processes complete the launch, with one stack and one secret, whichever call was the last."""
    world = reconcile(interrupted(launch, a_world(), after), passes=8)
    request_node(a_node_service(world))
    reconcile(world, passes=8)

    assert state_of(world) == ready_state(world)
    assert world.stacks.launched == [(NODE, 1)]


@pytest.mark.parametrize("after", range(12, calls_of(launch, a_world()) + 1))
def test_reconciler_completes_a_launch_once_the_request_is_recorded(after):
    """No second request is needed; the first eleven calls precede the record of the desired state."""
    world = reconcile(interrupted(launch, a_world(), after), passes=8)

    assert state_of(world) == ready_state(world)


@pytest.mark.parametrize("after", points_of(launch_after_a_failure, a_world_with_failing_stacks))
def test_launch_succeeds_after_an_interrupted_clean_up(after):
    """The broken stack is deleted before the next one is created, and neither is left behind."""
    world = interrupted(launch_after_a_failure, a_world_with_failing_stacks(), after)
    world.stacks.failure = ""
    for stack in world.stacks.stacks.values():
        stack.reason = ""
    request_node(a_node_service(world))
    reconcile(world, passes=12)

    assert state_of(world) == ready_state(world)


@pytest.mark.parametrize("after", points_of(retrieve_and_stop, a_world_with_a_complete_model))
def test_retirement_interrupted_anywhere_is_completed(after):
    """The model is in the bucket before its node is deleted, and nothing is left of the node."""
    world = reconcile(interrupted(retrieve_and_stop, a_world_with_a_complete_model(), after))

    assert world.bucket.files == {MODEL: b"trained"}
    assert "download_link" in world.item("model_table", MODEL)
    assert remains(world) == {}


def creates(world: World) -> None:
    with suppress(Conflict, AccessDenied):
        request_node(a_node_service(world))


def reconciles(world: World) -> None:
    for _ in range(3):
        a_reconciler(world).attend()
        a_reconciler(world).run_pass()


def retires(world: World) -> None:
    with suppress(Conflict):
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    reconciles(world)


def withdraws(world: World) -> None:
    a_model_service(world).withdraw(MODEL, caller=SCIENTIST)


def creates_another(world: World) -> None:
    world.put(a_submission(model_id="another"))
    with suppress(Conflict, AccessDenied):
        request_node(a_node_service(world), model_id="another")


def retires_and_creates(world: World) -> None:
    retires(world)
    creates(world)
    reconciles(world)


@pytest.mark.parametrize("after", range(1, 16))
@pytest.mark.parametrize("other", [creates, reconciles, retires, withdraws, retires_and_creates])
@pytest.mark.parametrize("first", [creates, creates_another, reconciles, retires])
@pytest.mark.parametrize("begin", [a_world, a_world_with_a_ready_node])
def test_concurrent_processes_leave_no_stack_behind(begin, first, other, after):
    """A process may run between any two calls of another one; the node reaches its desired state."""
    world = begin()
    first(world.through(Wire(after, lambda: other(world))))
    reconcile(world)
    node = world.nodes.get(NODE)

    if node is not None and node.should_run:
        assert state_of(world) == ready_state(world)
    elif node is not None:
        assert remains(world) == {}
    assert world.stacks.most_at_once <= 1


class TestPausedProcess:
    """A process that is paused in the middle of a step while others continue."""

    def test_address_of_an_earlier_stack_is_not_published(self):
        """The process has probed generation 1; meanwhile generation 2 is deploying."""
        world = a_world()
        creates(world)
        wire = WhenCalled("server.answers", lambda: self.begin_next_generation(world))
        paused = a_reconciler(world.through(wire))
        while not wire.is_over:
            paused.run_pass()
        node = world.nodes.get(NODE)

        assert (node.generation, node.status, node.address) == (2, NodeStatus.DEPLOYING, None)

    def test_ready_node_is_not_recorded_as_silent(self):
        """The process probed the node before it answered; meanwhile another process recorded it as ready."""
        world = a_world()
        creates(world)
        world.server.silent = True
        wire = WhenCalled("server.answers", lambda: self.answer_at_last(world))
        paused = a_reconciler(world.through(wire))
        while not wire.is_over:
            paused.run_pass()
        node = world.nodes.get(NODE)

        assert (node.status, node.reason) == (NodeStatus.READY, "")

    def test_requested_node_is_not_deleted(self):
        """The process has read that the node should stop; meanwhile a data scientist requested it."""
        world = a_world_with_a_ready_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        wire = WhenCalled("dynamodb.query training_table", lambda: creates(world))
        a_reconciler(world.through(wire)).run_pass()
        node = world.nodes.get(NODE)

        assert wire.is_over
        assert (node.desired_state, node.status, world.stacks.deleted) == (
            RUNNING,
            NodeStatus.READY,
            [],
        )

    def answer_at_last(self, world):
        world.server.silent = False
        while world.nodes.get(NODE).status is not NodeStatus.READY:
            a_reconciler(world).run_pass()

    def begin_next_generation(self, world):
        retires(world)
        while world.nodes.get(NODE).status is not NodeStatus.ABSENT:
            a_reconciler(world).run_pass()
        creates(world)
        while world.nodes.get(NODE).status is not NodeStatus.DEPLOYING:
            a_reconciler(world).run_pass()


class WhenCalled(Wire):
    """Calls a function right after the first call with this name."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        super().__init__()
        self._name = name
        self._do = then
        self.is_over = False

    def passed(self, call: str) -> None:
        super().passed(call)
        if call == self._name and not self.is_over:
            self.is_over = True
            self._do()


class TestSteps:
    def test_stopped_node_causes_no_call_to_cloudformation(self, world, lifecycle):
        """A pass calls CloudFormation only for nodes that have a stack or should have one."""
        world.stacks.away = True
        node = a_node()

        assert lifecycle.advance(node) is node

    def test_silent_node_is_not_ready_until_it_answers_again(self):
        """Devices wait meanwhile, and the stack is kept."""
        world = a_world_with_a_ready_node()
        world.server.silent = True
        reconcile(world, passes=1)
        silent = world.nodes.get(NODE)
        world.server.silent = False
        reconcile(world, passes=1)

        assert silent.status is NodeStatus.DEPLOYING
        assert world.nodes.get(NODE).status is NodeStatus.READY
        assert world.nodes.get(NODE).ready_at == silent.ready_at
        assert world.stacks.launched == [(NODE, 1)]

    def test_silence_is_logged_once(self, logs):
        """When it is first seen; its end is in the audit log, too."""
        world = a_world_with_a_ready_node()
        for _ in range(2):
            world.server.silent = True
            reconcile(world, passes=3)
            world.server.silent = False
            reconcile(world, passes=3)
        events = [entry["event"] for entry in logs]
        audited = [entry.action for _, entry in world.audit.of(f"dataset:{DATASET}")]

        assert events == ["node.fell_silent"] * 2
        assert audited[audited.index("node.ready") + 1 :] == ["node.fall silent", "node.ready"] * 2

    def test_node_that_never_answered_has_not_fallen_silent(self, logs):
        """It is being launched."""
        world = a_world()
        world.server.silent = True
        request_node(a_node_service(world))
        reconcile(world, passes=6)

        assert "node.fell_silent" not in [entry["event"] for entry in logs]

    def test_unchanged_node_is_not_written(self):
        """A pass writes nothing for a node whose state has not changed."""
        world = a_world_with_a_ready_node()
        wire = Wire()
        a_reconciler(world.through(wire)).run_pass()

        assert wire.calls
        assert not [call for call in wire.calls if "update_item" in call or "write" in call]

    def test_failed_deletion_is_retried(self):
        """The node stays RETIRING until its stack is deleted."""
        world = a_world_with_a_ready_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=6)
        stuck = world.nodes.get(NODE)
        world.stacks.undeletable = False
        reconcile(world, passes=6)

        assert stuck.status is NodeStatus.RETIRING
        assert remains(world) == {}

    def test_node_stays_retiring_while_cloudformation_refuses_the_deletion(self):
        """The recorded reason is CloudFormation's message."""
        world = a_world_with_a_ready_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        world.stacks.protected = True
        reconcile(world, passes=2)
        refused = world.nodes.get(NODE)
        world.stacks.protected = False
        reconcile(world, passes=8)

        assert (refused.status, refused.reason) == (NodeStatus.RETIRING, "Termination protection.")
        assert remains(world) == {}

    def test_address_is_cleared_before_the_stack_is_deleted(self):
        """No device or data scientist is sent to a node that is being deleted."""
        world = a_world_with_a_ready_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        wire = Wire()
        a_reconciler(world.through(wire)).run_pass()

        cleared = max(wire.calls.index(f"dynamodb.update_item {name}_table") for name in ("dataset", "model"))
        assert cleared < wire.calls.index("stacks.delete")

    def test_secret_is_discarded_with_its_node(self):
        """The secret of a deleted node authenticates no progress report."""
        world = a_world_with_a_ready_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=5)

        assert world.secrets.passwords == {}
        assert world.nodes.get(NODE).secret_hash is None

    def test_next_generation_has_its_own_secret_and_address(self):
        """Neither secret nor address of a node is used by the next generation."""
        world = a_world_with_a_ready_node()
        first = world.nodes.get(NODE)
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=5)
        launch(world)
        second = world.nodes.get(NODE)

        assert second.generation == first.generation + 1
        assert second.secret_hash != first.secret_hash
        assert second.address != first.address
        assert world.models.get(MODEL).node_address == second.address

    def test_address_is_published_on_training_models_only(self):
        """`node_URL` is written to models that a client may connect for."""
        world = a_world()
        world.put(a_submission(model_id="left behind"))
        launch(world)
        reconcile(world, passes=2)

        assert world.models.get(MODEL).node_address is not None
        assert world.models.get("left behind").node_address is None

    def test_deleted_model_does_not_delay_the_others(self):
        """An index may list a deleted item; the address is still published on the other models."""
        world = a_world()
        world.put(a_model(model_id="deleted meanwhile"))
        creates(world)
        with world.dynamodb.lagging():
            world.remove("training_table", "deleted meanwhile")
            launch(world)
        reconcile(world, passes=1)

        assert state_of(world) == ready_state(world)

    def test_deleted_dataset_does_not_keep_its_node_running(self):
        """The node is stopped although its address can't be cleared from the dataset."""
        world = a_world_with_a_ready_node()
        world.remove("dataset_table", DATASET)
        world.models.withdraw(world.models.get(MODEL), 0.0)
        reconcile(world)

        assert world.stacks.standing(NODE) == []


class TestFailingOperations:
    """Stacks whose deletion, update or repair fails."""

    def test_failing_deletion_is_escalated(self):
        """Deletion is retried, then retains failing resources, then is forced; the node stays RETIRING."""
        world = a_world_with_a_ready_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=60)
        how = [deletion for _, _, deletion in world.stacks.deleted]

        assert how[:4] == [Deletion.PLAIN, Deletion.PLAIN, Deletion.RETAINING, Deletion.BY_FORCE]
        assert set(how[4:]) == {Deletion.BY_FORCE}
        assert world.nodes.get(NODE).status is NodeStatus.RETIRING
        assert ("service", "node.left behind: Service", f"dataset:{DATASET}") in world.told()

    def test_next_generation_starts_beside_an_undeletable_stack(self, logs):
        """A requested node does not wait for an undeletable stack; later passes keep trying to delete it."""
        world = a_world_with_a_ready_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=2)
        request_node(a_node_service(world))
        reconcile(world, passes=40)
        beside = world.nodes.get(NODE)
        world.stacks.undeletable = False
        reconcile(world, passes=150)

        assert beside.status is NodeStatus.READY
        assert beside.generation > 1
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [beside.generation]
        assert any("node.quarantine" in action for _, action, _ in world.told())
        assert {entry["event"] for entry in logs} >= {"node.alarm", "stack.unowned"}

    def test_protected_stack_is_reused_when_the_node_is_requested(self):
        """If CloudFormation refuses to delete a working stack, a request uses it again."""
        world = a_world_with_a_ready_node()
        world.stacks.protected = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=10)
        request_node(a_node_service(world))
        reconcile(world, passes=2)

        assert state_of(world) == ready_state(world)
        assert world.stacks.launched == [(NODE, 1)]
        assert world.nodes.get(NODE).deletions == 0

    def test_node_that_stays_silent_is_replaced(self):
        """After the deadline the next generation starts; meanwhile answers give the failure reason."""
        world = a_world_with_a_ready_node()
        world.server.silent = True
        world.stacks.stacks[NODE, 1].reason = "Task stopped: OutOfMemoryError."
        reconcile(world, passes=int(DEADLINE // PASS) + 3)
        reason = request_node(a_node_service(world)).reason
        world.server.silent = False
        reconcile(world, passes=10)

        assert "Task stopped: OutOfMemoryError." in reason
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert state_of(world) == ready_state(world)

    @pytest.mark.parametrize(
        ("phase", "repair"),
        [(StackPhase.HALF_UPDATED, "roll back"), (StackPhase.STUCK, "continue rollback")],
    )
    def test_failed_update_is_rolled_back(self, phase, repair):
        """The node keeps serving while an operator's failed update is rolled back."""
        world = a_world_with_a_ready_node()
        world.stacks.stacks[NODE, 1].phase = phase
        reconcile(world, passes=1)
        repaired = list(world.stacks.repaired)
        world.stacks.stacks[NODE, 1].phase = StackPhase.USABLE
        reconcile(world, passes=4)

        assert repaired == [repair]
        assert state_of(world) == ready_state(world)
        assert world.nodes.get(NODE).repairs == 0

    def test_refused_repair_ends_in_a_new_generation(self):
        """After three attempts with pauses, the stack is deleted and the next generation starts."""
        world = a_world_with_a_ready_node()
        world.stacks.stacks[NODE, 1].phase = StackPhase.STUCK
        with world.stacks.refusing("Nothing to roll back."):
            reconcile(world, passes=10)
        reconcile(world, passes=10)

        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert state_of(world) == ready_state(world)

    def test_stack_deleted_by_an_operator_is_replaced(self):
        """The address is cleared at once, and the desired state stays running."""
        world = a_world_with_a_ready_node()
        world.stacks.stacks[NODE, 1].phase = StackPhase.DELETING
        world.stacks.hangs = True
        reconcile(world, passes=1)
        shown = world.datasets.get(DATASET).node_address
        world.stacks.hangs = False
        reconcile(world, passes=8)

        assert shown is None
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert state_of(world) == ready_state(world)

    def test_next_pass_clears_the_address_after_an_interruption(self):
        """A process may die between recording a deletion and clearing the address."""
        world = a_world_with_a_ready_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        after = 1
        while world.nodes.get(NODE).status is NodeStatus.READY:  # until the deletion is recorded
            interrupted(reconciles, world, after)
            after += 1
        shown = world.nodes.get(NODE).status, world.datasets.get(DATASET).node_address
        world.stacks.stacks[NODE, 1].phase = StackPhase.DELETING
        world.stacks.hangs = True
        reconcile(world, passes=1)

        assert shown[0] is NodeStatus.RETIRING
        assert shown[1] is not None
        assert world.datasets.get(DATASET).node_address is None

    def test_outdated_record_can_not_undo_a_deletion(self):
        """Writes are conditional on generation, status, desired state and number of deletions."""
        world = a_world_with_a_ready_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=2)
        seen = world.nodes.get(NODE)
        reconcile(world, passes=8)
        before = world.nodes.get(NODE)
        with pytest.raises(Overtaken):
            a_lifecycle(world).advance(seen, NodeStack(StackPhase.UNDELETABLE, seen.stack_id))

        assert before.deletions > seen.deletions
        assert world.nodes.get(NODE) == before

    def test_answer_gives_the_duration_of_the_last_launch(self):
        """A data scientist learns how long a launch may take."""
        world = a_world_with_a_ready_node()
        took = world.nodes.get(NODE).took
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=8)
        answer = request_node(a_node_service(world))

        assert took > 0
        assert f"took {took:.0f} s" in answer.reason


def test_unknown_phase_is_waited_for(world, lifecycle):
    """A stack with an unknown status is not changed."""
    world.nodes.request(DATASET, world.clock(), "ada")
    lifecycle.advance(world.nodes.get(NODE))
    world.stacks.stacks[(NODE, 1)].phase = StackPhase.UNKNOWN
    node = lifecycle.advance(world.nodes.get(NODE))

    assert node.status is NodeStatus.DEPLOYING
    assert node.reason == "CloudFormation is busy with the stack."


def test_stranger_s_stack_is_stepped_round(logs):
    """The next generation has another name. The stranger's stack is not changed, and an alarm is logged."""
    world = a_world()
    world.stacks.strangers = {(NODE, 1)}
    request_node(a_node_service(world))
    reconcile(world, passes=8)
    node = world.nodes.get(NODE)

    assert (node.status, node.failure) == (NodeStatus.READY, "")
    assert (NODE, 1) not in world.stacks.launched
    assert world.stacks.deleted == []
    assert [entry["action"] for entry in logs if entry["event"] == "node.alarm"] == ["quarantine"]


def test_names_that_strangers_take_again_and_again_end_the_launches():
    """The answer says why."""
    world = a_world()
    world.stacks.strangers = {(NODE, generation) for generation in range(100)}
    request_node(a_node_service(world))
    reconcile(world, passes=20)
    node = world.nodes.get(NODE)

    assert (node.status, node.reason) == (NodeStatus.FAILED, "A stranger's stack.")


def test_stopped_node_does_not_wait_for_a_stranger_s_stack():
    """It is at rest."""
    world = a_world()
    world.stacks.strangers = {(NODE, 1)}
    request_node(a_node_service(world))
    attend(world)
    world.nodes.let_go(world.nodes.get(NODE))
    reconcile(world, passes=8)

    assert world.nodes.get(NODE).status is NodeStatus.ABSENT


def test_unavailable_cloudformation_changes_nothing():
    """A node whose stack can't be described is left as it is."""
    world = a_world_with_a_ready_node()
    before = world.nodes.get(NODE)
    world.stacks.away = True
    request_node(a_node_service(world))
    with pytest.raises(Upstream):
        a_lifecycle(world).advance(world.nodes.get(NODE))
    reconcile(world, passes=3)

    assert list(world.nodes.all()) == [replace(before, requested_at=before.requested_at + 4 * PASS)]
