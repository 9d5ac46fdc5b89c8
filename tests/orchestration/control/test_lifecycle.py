"""Steps of a node, each of which may be the last that its process takes."""

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
    reconcile,
    request_node,
)

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)


def a_world() -> World:
    """A marketplace with one bought dataset and one submitted model."""
    world = World()
    world.put(a_dataset())
    world.put(a_user())
    world.put(a_submission())
    return world


def a_world_with_a_node() -> World:
    """As `a_world`, with the node up and the model on it."""
    world = a_world()
    request_node(a_node_service(world))
    return reconcile(world, passes=4)


def a_world_that_fails() -> World:
    """As `a_world`, with stacks that come to nothing."""
    world = a_world()
    world.stacks.failure = "Service: no capacity."
    return world


def a_world_that_is_done() -> World:
    """As `a_world_with_a_node`, with nothing left to do but to bring the model home."""
    return complete(a_world_with_a_node())


def complete(world: World) -> World:
    """The node has said 100 per cent."""
    done = {"is_active": False, "percent_complete": 100, "retrieval_due": True}
    world.put(replace(world.models.get(MODEL), **done))
    return world


def bring_up(world: World) -> None:
    """/create, asked again and again, beside the reconciler."""
    for _ in range(2):
        request_node(a_node_service(world))
        a_reconciler(world).attend()
        a_reconciler(world).run_pass()


def bring_up_after_a_failure(world: World) -> None:
    """The first launch fails; the reconciler cleans up and launches again."""
    request_node(a_node_service(world))
    a_reconciler(world).attend()
    for _ in range(6):
        a_reconciler(world).run_pass()


def bring_home(world: World) -> None:
    """The reconciler, from a complete model until its node is gone."""
    for _ in range(6):
        a_reconciler(world).run_pass()
        world.clock.tick(IDLE_TIMEOUT)


def calls_of(story: Callable[[World], None], world: World) -> int:
    """How many calls to ports a story makes, when nothing comes between."""
    wire = Wire()
    story(world.through(wire))
    return len(wire.calls)


def interrupted(story: Callable[[World], None], world: World, after: int) -> World:
    """Run a story in a process that dies right after its n-th call."""

    def die() -> None:
        raise Crash

    with suppress(Crash):
        story(world.through(Wire(after, die)))
    return world


def up(world: World) -> dict[str, object]:
    """What must hold once a node is up."""
    node = world.nodes.get(NODE)
    standing = world.stacks.standing(NODE)
    return {
        "status": node.status,
        "stacks": len(standing),
        "most at once": world.stacks.most_at_once,
        "it is this generation's": standing[0].generation == node.generation,
        "address": node.address == standing[0].address,
        "node_URL": {row.node_address for row in world.all_models() if row.is_training} == {node.address},
        "nodeURL": world.datasets.get(DATASET).node_address == node.address,
        "secrets": list(world.secrets.passwords),
        "idle": node.idle_since,
    }


def all_is_well(world: World) -> dict[str, object]:
    return {
        "status": NodeStatus.READY,
        "stacks": 1,
        "most at once": 1,
        "it is this generation's": True,
        "address": True,
        "node_URL": True,
        "nodeURL": True,
        "secrets": [(NODE, world.nodes.get(NODE).generation)],
        "idle": 0.0,
    }


def left_over(world: World) -> dict[str, object]:
    """What is left of a node that is gone: nothing, if all is well."""
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


def points_of(story: Callable[[World], None], begin: Callable[[], World]) -> range:
    """Every point at which a story can be cut off."""
    return range(1, calls_of(story, begin()) + 1)


@pytest.mark.parametrize("after", points_of(bring_up, a_world))
def test_a_launch_that_dies_anywhere_is_finished_by_whoever_comes_next(after):
    """One stack, one secret, shown where it should be; whichever call was the last."""
    world = reconcile(interrupted(bring_up, a_world(), after), passes=8)
    request_node(a_node_service(world))
    reconcile(world, passes=8)

    assert up(world) == all_is_well(world)
    assert world.stacks.launched == [(NODE, 1)]


@pytest.mark.parametrize("after", range(6, calls_of(bring_up, a_world()) + 1))
def test_once_the_wish_is_written_the_reconciler_alone_finishes_a_launch(after):
    """The data scientist need not ask again; the first five calls come before the wish."""
    world = reconcile(interrupted(bring_up, a_world(), after), passes=8)

    assert up(world) == all_is_well(world)


@pytest.mark.parametrize("after", points_of(bring_up_after_a_failure, a_world_that_fails))
def test_a_failed_launch_whose_clean_up_dies_anywhere_is_still_followed_by_one_that_works(after):
    """The broken stack goes before the next one comes, and neither leaks."""
    world = interrupted(bring_up_after_a_failure, a_world_that_fails(), after)
    world.stacks.failure = ""
    for stack in world.stacks.stacks.values():
        stack.reason = ""
    request_node(a_node_service(world))
    reconcile(world, passes=12)

    assert up(world) == all_is_well(world)


@pytest.mark.parametrize("after", points_of(bring_home, a_world_that_is_done))
def test_a_retirement_that_dies_anywhere_is_finished_by_the_next_reconciler(after):
    """The model is in the bucket before its node goes, and nothing is left of the node."""
    world = reconcile(interrupted(bring_home, a_world_that_is_done(), after))

    assert world.bucket.files == {MODEL: b"trained"}
    assert "download_link" in world.item("model_table", MODEL)
    assert left_over(world) == {}


def creates(world: World) -> None:
    with suppress(Conflict, AccessDenied):
        request_node(a_node_service(world))


def reconciles(world: World) -> None:
    for _ in range(3):
        a_reconciler(world).attend()
        a_reconciler(world).run_pass()


def gives_up(world: World) -> None:
    with suppress(Conflict):
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
    reconciles(world)


def withdraws(world: World) -> None:
    a_model_service(world).withdraw(MODEL, caller=SCIENTIST)


def creates_another(world: World) -> None:
    world.put(a_submission(model_id="another"))
    with suppress(Conflict, AccessDenied):
        request_node(a_node_service(world), model_id="another")


def gives_up_and_creates(world: World) -> None:
    gives_up(world)
    creates(world)
    reconciles(world)


@pytest.mark.parametrize("after", range(1, 16))
@pytest.mark.parametrize("other", [creates, reconciles, gives_up, withdraws, gives_up_and_creates])
@pytest.mark.parametrize("first", [creates, creates_another, reconciles, gives_up])
@pytest.mark.parametrize("begin", [a_world, a_world_with_a_node])
def test_two_processes_that_meet_anywhere_leave_no_stack_behind(begin, first, other, after):
    """Whatever one process does in the middle of another's step, the wish is what comes true."""
    world = begin()
    first(world.through(Wire(after, lambda: other(world))))
    reconcile(world)
    node = world.nodes.get(NODE)

    if node is not None and node.should_run:
        assert up(world) == all_is_well(world)
    elif node is not None:
        assert left_over(world) == {}
    assert world.stacks.most_at_once <= 1


class TestSleeper:
    """A process that is paused in the middle of a step, while others go on."""

    def test_it_does_not_show_the_address_of_an_earlier_stack(self):
        """It has probed the node of generation 1; by now generation 2 is deploying."""
        world = a_world()
        creates(world)
        wire = WhenCalled("server.answers", lambda: self.begin_next_generation(world))
        sleeper = a_reconciler(world.through(wire))
        while not wire.is_over:
            sleeper.run_pass()
        node = world.nodes.get(NODE)

        assert (node.generation, node.status, node.address) == (2, NodeStatus.DEPLOYING, None)

    def test_it_does_not_say_of_a_ready_node_that_it_is_silent(self):
        """It has probed the node too early; by now another process has seen the node answer."""
        world = a_world()
        creates(world)
        world.server.silent = True
        wire = WhenCalled("server.answers", lambda: self.answer_at_last(world))
        sleeper = a_reconciler(world.through(wire))
        while not wire.is_over:
            sleeper.run_pass()
        node = world.nodes.get(NODE)

        assert (node.status, node.reason) == (NodeStatus.READY, "")

    def test_it_does_not_delete_what_was_asked_for_again(self):
        """It has read that the node is not wanted; by now somebody wants it."""
        world = a_world_with_a_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        wire = WhenCalled("dynamodb.query model_table", lambda: creates(world))
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
        gives_up(world)
        while world.nodes.get(NODE).status is not NodeStatus.ABSENT:
            a_reconciler(world).run_pass()
        creates(world)
        while world.nodes.get(NODE).status is not NodeStatus.DEPLOYING:
            a_reconciler(world).run_pass()


class WhenCalled(Wire):
    """Does something right after the first call with this name."""

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
    def test_nothing_is_asked_of_cloudformation_for_a_node_that_is_gone(self, world, lifecycle):
        """A sweep over a thousand datasets costs calls for those that are awake only."""
        world.stacks.away = True
        node = a_node()

        assert lifecycle.advance(node) is node

    def test_a_node_that_falls_silent_is_not_ready_until_it_answers_again(self):
        """Phones are told to wait; the stack stays."""
        world = a_world_with_a_node()
        world.server.silent = True
        reconcile(world, passes=1)
        silent = world.nodes.get(NODE)
        world.server.silent = False
        reconcile(world, passes=1)

        assert silent.status is NodeStatus.DEPLOYING
        assert world.nodes.get(NODE).status is NodeStatus.READY
        assert world.nodes.get(NODE).ready_at == silent.ready_at
        assert world.stacks.launched == [(NODE, 1)]

    def test_a_node_that_answers_as_before_is_not_written_again(self):
        """A sweep every ten seconds writes nothing where nothing is new."""
        world = a_world_with_a_node()
        wire = Wire()
        a_reconciler(world.through(wire)).run_pass()

        assert wire.calls
        assert not [call for call in wire.calls if "update_item" in call or "write" in call]

    def test_a_deletion_that_is_refused_is_tried_again_and_its_cause_is_kept(self):
        """Termination protection, say: nothing is reported as gone that stands."""
        world = a_world_with_a_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=6)
        stuck = world.nodes.get(NODE)
        world.stacks.undeletable = False
        reconcile(world, passes=6)

        assert stuck.status is NodeStatus.RETIRING
        assert left_over(world) == {}

    def test_a_stack_whose_deletion_cloudformation_refuses_stays_retiring(self):
        """The sentence of CloudFormation is the reason."""
        world = a_world_with_a_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        world.stacks.protected = True
        reconcile(world, passes=2)
        refused = world.nodes.get(NODE)
        world.stacks.protected = False
        reconcile(world, passes=8)

        assert (refused.status, refused.reason) == (NodeStatus.RETIRING, "Termination protection.")
        assert left_over(world) == {}

    def test_phones_are_told_before_the_stack_goes(self):
        """Nobody is sent to a node that goes away."""
        world = a_world_with_a_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        wire = Wire()
        a_reconciler(world.through(wire)).run_pass()

        cleared = max(wire.calls.index(f"dynamodb.update_item {name}_table") for name in ("dataset", "model"))
        assert cleared < wire.calls.index("stacks.delete")

    def test_a_secret_is_void_once_its_node_is_gone(self):
        """Nobody may report progress with it."""
        world = a_world_with_a_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=5)

        assert world.secrets.passwords == {}
        assert world.nodes.get(NODE).secret_hash is None

    def test_a_node_of_another_generation_is_another_node(self):
        """It has a secret and an address of its own."""
        world = a_world_with_a_node()
        first = world.nodes.get(NODE)
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=5)
        bring_up(world)
        second = world.nodes.get(NODE)

        assert second.generation == first.generation + 1
        assert second.secret_hash != first.secret_hash
        assert second.address != first.address
        assert world.models.get(MODEL).node_address == second.address

    def test_a_model_that_does_not_train_is_not_shown_the_node(self):
        """node_URL is for models that a client may connect for."""
        world = a_world()
        world.put(a_submission(model_id="left behind"))
        bring_up(world)
        reconcile(world, passes=2)

        assert world.models.get(MODEL).node_address is not None
        assert world.models.get("left behind").node_address is None

    def test_a_model_that_the_marketplace_deleted_does_not_keep_the_others_waiting(self):
        """An index may show an item that is gone; the next model is shown its node all the same."""
        world = a_world()
        world.put(a_model(model_id="deleted meanwhile"))
        creates(world)
        with world.dynamodb.lagging():
            world.remove("model_table", "deleted meanwhile")
            bring_up(world)
        reconcile(world, passes=1)

        assert up(world) == all_is_well(world)

    def test_a_dataset_that_the_marketplace_deleted_does_not_keep_its_node_alive(self):
        """Its models are withdrawn; the node goes down although nobody can be told."""
        world = a_world_with_a_node()
        world.remove("dataset_table", DATASET)
        world.models.withdraw(world.models.get(MODEL), 0.0)
        reconcile(world)

        assert world.stacks.standing(NODE) == []


class TestResistance:
    """Stacks that don't do what they are asked."""

    def test_one_that_can_not_be_deleted_is_asked_a_step_further_each_time(self):
        """Retry, leave behind what resists, force; with pauses between, and never called deleted."""
        world = a_world_with_a_node()
        world.stacks.undeletable = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=60)
        how = [deletion for _, _, deletion in world.stacks.deleted]

        assert how[:4] == [Deletion.PLAIN, Deletion.PLAIN, Deletion.RETAINING, Deletion.BY_FORCE]
        assert set(how[4:]) == {Deletion.BY_FORCE}
        assert world.nodes.get(NODE).status is NodeStatus.RETIRING
        assert ("service", "node.left behind: Service", f"dataset:{DATASET}") in world.told()

    def test_the_next_generation_starts_beside_one_that_stays(self, logs):
        """A data scientist doesn't wait for what no deletion removes; the sweep goes on trying."""
        world = a_world_with_a_node()
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

    def test_a_sound_stack_whose_deletion_is_refused_serves_again_when_it_is_wanted(self):
        """No second node comes up beside it."""
        world = a_world_with_a_node()
        world.stacks.protected = True
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=10)
        request_node(a_node_service(world))
        reconcile(world, passes=2)

        assert up(world) == all_is_well(world)
        assert world.stacks.launched == [(NODE, 1)]
        assert world.nodes.get(NODE).deletions == 0

    def test_a_node_that_dies_for_good_is_replaced(self):
        """ECS has had its time; the cause stands in the answer until the next one is ready."""
        world = a_world_with_a_node()
        world.server.silent = True
        world.stacks.stacks[NODE, 1].reason = "Task stopped: OutOfMemoryError."
        reconcile(world, passes=int(DEADLINE // PASS) + 3)
        told = request_node(a_node_service(world)).reason
        world.server.silent = False
        reconcile(world, passes=10)

        assert "Task stopped: OutOfMemoryError." in told
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert up(world) == all_is_well(world)

    @pytest.mark.parametrize(
        ("phase", "repair"),
        [(StackPhase.HALF_UPDATED, "roll back"), (StackPhase.STUCK, "continue rollback")],
    )
    def test_an_update_that_failed_is_rolled_back(self, phase, repair):
        """What serves goes on serving; an operator did this, and is told."""
        world = a_world_with_a_node()
        world.stacks.stacks[NODE, 1].phase = phase
        reconcile(world, passes=1)
        mended = list(world.stacks.repaired)
        world.stacks.stacks[NODE, 1].phase = StackPhase.USABLE
        reconcile(world, passes=4)

        assert mended == [repair]
        assert up(world) == all_is_well(world)
        assert world.nodes.get(NODE).repairs == 0

    def test_a_repair_that_is_refused_ends_in_a_new_generation(self):
        """Three tries, with pauses; then the stack goes, and its cause is kept."""
        world = a_world_with_a_node()
        world.stacks.stacks[NODE, 1].phase = StackPhase.STUCK
        with world.stacks.refusing("Nothing to roll back."):
            reconcile(world, passes=10)
        reconcile(world, passes=10)

        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert up(world) == all_is_well(world)

    def test_a_stack_that_somebody_else_deletes_is_followed_by_another(self):
        """Phones are told at once; the wish is remembered."""
        world = a_world_with_a_node()
        world.stacks.stacks[NODE, 1].phase = StackPhase.DELETING
        world.stacks.hangs = True
        reconcile(world, passes=1)
        told = world.datasets.get(DATASET).node_address
        world.stacks.hangs = False
        reconcile(world, passes=8)

        assert told is None
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert up(world) == all_is_well(world)

    def test_the_marketplace_is_told_by_the_next_pass_if_the_process_died_before(self):
        """Right after the record says that the node goes."""
        world = a_world_with_a_node()
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        after = 1
        while world.nodes.get(NODE).status is NodeStatus.READY:  # up to the call that notes it
            interrupted(reconciles, world, after)
            after += 1
        shown = world.nodes.get(NODE).status, world.datasets.get(DATASET).node_address
        world.stacks.stacks[NODE, 1].phase = StackPhase.DELETING
        world.stacks.hangs = True
        reconcile(world, passes=1)

        assert shown[0] is NodeStatus.RETIRING
        assert shown[1] is not None
        assert world.datasets.get(DATASET).node_address is None

    def test_a_process_that_slept_over_a_deletion_can_not_undo_it(self):
        """Its writes name the generation, the status, the wish and the deletions that it has seen."""
        world = a_world_with_a_node()
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

    def test_how_long_it_took_last_time_is_told(self):
        """Who waits wants to know for how long."""
        world = a_world_with_a_node()
        took = world.nodes.get(NODE).took
        a_node_service(world).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(world, passes=8)
        answer = request_node(a_node_service(world))

        assert took > 0
        assert f"took {took:.0f} s" in answer.reason


def test_a_stack_that_is_in_nobodys_hands_is_waited_for(world, lifecycle):
    """CloudFormation may say words we don't know; nothing is done to such a stack."""
    world.nodes.request(DATASET, world.clock(), "ada")
    lifecycle.advance(world.nodes.get(NODE))
    world.stacks.stacks[(NODE, 1)].phase = StackPhase.UNKNOWN
    node = lifecycle.advance(world.nodes.get(NODE))

    assert node.status is NodeStatus.DEPLOYING
    assert node.reason == "CloudFormation is busy with the stack."


def test_cloudformation_away_leaves_everything_as_it_is():
    """What can't be looked at isn't touched."""
    world = a_world_with_a_node()
    before = world.nodes.get(NODE)
    world.stacks.away = True
    request_node(a_node_service(world))
    with pytest.raises(Upstream):
        a_lifecycle(world).advance(world.nodes.get(NODE))
    reconcile(world, passes=3)

    assert list(world.nodes.all()) == [replace(before, requested_at=before.requested_at + 4 * PASS)]
