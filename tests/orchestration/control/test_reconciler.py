"""Sweeps: what is due is retrieved, what nobody needs goes, trouble stays where it is."""

from dataclasses import replace
from threading import Barrier, Event, current_thread

import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.decision import LONGEST_PAUSE
from orchestration.domain.errors import NodeUnreachable, StackFailed, UnusableModel, Upstream
from orchestration.domain.node import DesiredState, NodeStatus, StackPhase, node_id_of
from orchestration.domain.ports import Deletion
from tests.builders import (
    DATASET,
    DEVELOPER,
    LEGACY_KEY,
    MODEL,
    a_dataset,
    a_model,
    a_node,
    a_submission,
)
from tests.fakes import Wire
from tests.processes import (
    DAY,
    IDLE_TIMEOUT,
    PASS,
    STALE_AFTER,
    a_node_service,
    a_reconciler,
    reconcile,
    request_node,
)

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)
DONE = {"is_active": False, "percent_complete": 100, "retrieval_due": True}


@pytest.fixture
def awake(world):
    """A node that is up, with one model in training on it."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    assert world.nodes.get(NODE).status is NodeStatus.READY
    return world


def test_a_complete_model_is_brought_home(awake, reconciler):
    """The file is in the bucket, the owner has a link, nothing is due any more."""
    awake.put(a_model(**DONE))
    reconciler.run_pass()
    model = awake.models.get(MODEL)

    assert awake.bucket.files == {MODEL: b"trained"}
    link = f"https://link.test/{MODEL}/{model.download_key}"
    assert awake.item("model_table", MODEL)["download_link"] == link
    assert not model.retrieval_due


@pytest.mark.parametrize(
    "trouble", [NodeUnreachable("It did not answer."), UnusableModel("Other shapes."), Upstream("S3.")]
)
def test_a_retrieval_that_fails_is_tried_again_until_it_works(awake, reconciler, trouble):
    """A model was left at 100 % with no file once; the cause is kept while it isn't safe."""
    awake.put(a_model(**DONE))
    awake.server.troubles[MODEL] = [trouble] * 6
    causes = []
    while awake.server.troubles[MODEL]:
        reconciler.run_pass()
        awake.clock.tick(IDLE_TIMEOUT)
        causes.append(awake.item("model_table", MODEL)["retrieval_error"])
    node = awake.nodes.get(NODE)
    awake.clock.tick(LONGEST_PAUSE)
    reconciler.run_pass()

    assert len(causes) > 6, "each try comes after a longer pause than the one before"
    assert set(causes) == {str(trouble)}
    assert (node.status, node.desired_state) == (NodeStatus.READY, RUNNING)
    assert awake.bucket.files == {MODEL: b"trained"}
    assert "retrieval_error" not in awake.item("model_table", MODEL)


def test_a_node_goes_only_when_its_model_is_safe(awake, reconciler):
    """However long the bucket is away."""
    awake.put(a_model(**DONE))
    awake.bucket.away = True
    for _ in range(10):
        reconciler.run_pass()
        awake.clock.tick(IDLE_TIMEOUT * 10)
    waiting = len(awake.stacks.standing(NODE))
    awake.bucket.away = False
    reconcile(awake)

    assert waiting == 1
    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.stacks.standing(NODE) == []


def test_a_silent_node_keeps_its_unretrieved_model(awake, reconciler):
    """It is asked only when it answers; until then nothing is given up."""
    awake.put(a_model(**DONE))
    awake.server.silent = True
    reconcile(awake)
    awake.server.silent = False
    still_due = awake.models.get(MODEL).retrieval_due
    reconciler.run_pass()

    assert still_due
    assert awake.bucket.files == {MODEL: b"trained"}


def test_one_model_in_trouble_does_not_keep_the_others_on_its_node(awake, reconciler):
    """Each is retrieved on its own."""
    awake.put(a_model(model_id="a bad one", **DONE))
    awake.put(a_model(**DONE))
    awake.server.troubles["a bad one"] = [UnusableModel("It can't be read.")] * 5
    reconciler.run_pass()

    assert awake.bucket.files == {MODEL: b"trained"}


@pytest.mark.parametrize("trouble", [Upstream("away"), ValueError("a malformed item"), KeyError("x")])
def test_one_node_in_trouble_does_not_keep_the_others_waiting(world, logs, trouble, monkeypatch):
    """Expected or not: it is logged, and the sweep goes on."""
    world.put(a_node("bad", desired_state=RUNNING))
    world.put(a_dataset(dataset_id="good"))
    world.put(a_node("good", desired_state=RUNNING))
    describe = world.stacks.describe

    def faulty(node):
        if node.dataset_id == "bad":
            raise trouble
        return describe(node)

    monkeypatch.setattr(world.stacks, "describe", faulty)
    a_reconciler(world).run_pass()

    assert world.stacks.launched == [(node_id_of("good"), 1)]
    assert [entry["what"] for entry in logs if entry["event"] == "reconcile.failed"] == [node_id_of("bad")]


def test_a_table_that_does_not_answer_is_asked_again_next_time(awake, reconciler, logs):
    """A sweep ends quietly, and the one after it goes on."""
    awake.dynamodb.throttle = lambda operation: operation == "scan"
    reconciler.run_pass()
    awake.dynamodb.throttle = 0.0
    reconciler.run_pass()

    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["reconcile.failed"]


@pytest.mark.parametrize(
    ("trouble", "level"),
    [(Upstream("away"), "warning"), (StackFailed("refused"), "warning"), (KeyError("CreationTime"), "error")],
)
def test_whatever_interrupts_a_sweep_does_not_end_the_process(awake, logs, monkeypatch, trouble, level):
    """A list of all stacks that CloudFormation refuses, or one that can't be read: the next sweep comes."""

    def refused():
        raise trouble

    reconciler = a_reconciler(awake)
    monkeypatch.setattr(awake.stacks, "all", refused)
    run(reconciler, passes=2)

    told = [entry["log_level"] for entry in logs if entry["what"] == "pass"]
    assert told == [level, level]


def test_a_node_in_use_is_left_alone(awake, reconciler):
    """A model that trains holds it, for however long."""
    for _ in range(20):
        reconciler.run_pass()
        awake.clock.tick(IDLE_TIMEOUT)

    assert awake.nodes.get(NODE).idle_since == 0.0
    assert len(awake.stacks.standing(NODE)) == 1


def test_an_idle_node_goes_after_its_grace(awake, reconciler):
    """Not at once: the next model may be on its way."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.run_pass()
    idle_since = awake.clock.now
    awake.clock.tick(IDLE_TIMEOUT - 1)
    reconciler.run_pass()
    just_before = awake.nodes.get(NODE)
    awake.clock.tick(1)
    reconciler.run_pass()

    assert just_before.idle_since == idle_since
    assert just_before.should_run
    assert not awake.nodes.get(NODE).should_run


def test_the_grace_begins_anew_when_somebody_needs_the_node_in_between(awake, reconciler):
    """Idle means without a break."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.run_pass()
    awake.clock.tick(IDLE_TIMEOUT - 1)
    awake.put(a_model(model_id="next"))
    reconciler.run_pass()
    awake.models.withdraw(awake.models.get("next"), awake.clock())
    awake.clock.tick(IDLE_TIMEOUT)
    reconciler.run_pass()

    assert awake.nodes.get(NODE).should_run
    assert awake.nodes.get(NODE).idle_since == awake.clock.now


def test_asking_for_the_node_ends_its_idleness(awake, reconciler):
    """/create counts before the index shows its model."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.run_pass()
    awake.nodes.request(DATASET, awake.clock(), "ada")

    assert awake.nodes.get(NODE).idle_since == 0.0


def test_a_submission_that_create_never_accepted_holds_no_node(awake):
    """A failed /create leaves such an item behind, for ever."""
    awake.put(a_submission(model_id="left behind"))
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconcile(awake)

    assert awake.stacks.standing(NODE) == []


def test_a_forced_retirement_brings_home_what_is_due_first(awake):
    """What a node holds is fetched before its stack goes."""
    awake.put(a_model(**DONE))
    awake.nodes.let_go(awake.nodes.get(NODE))
    reconcile(awake)

    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.stacks.standing(NODE) == []


def test_what_a_silent_node_took_along_is_fetched_by_its_next_life(awake):
    """Nobody can ask for a complete model any more; so its node is woken once a day until it is home."""
    awake.put(a_model(**DONE))
    awake.server.silent = True
    awake.nodes.let_go(awake.nodes.get(NODE), wake_at=awake.clock() + DAY)
    reconcile(awake)
    left_alone = awake.stacks.standing(NODE)
    awake.server.silent = False
    awake.clock.tick(DAY)
    reconcile(awake)

    assert left_alone == []
    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.stacks.launched == [(NODE, 1), (NODE, 2)]
    assert awake.stacks.standing(NODE) == []


def test_a_complete_model_whose_node_was_given_up_is_fetched_a_day_later(awake):
    """Its owner can't ask for it any more, and nobody else knows."""
    awake.put(a_model(**DONE))
    awake.server.silent = True
    awake.stacks.failure = "Service: no capacity."
    reconcile(awake, passes=100)
    given_up = awake.nodes.get(NODE).status
    awake.server.silent, awake.stacks.failure = False, ""
    awake.clock.tick(DAY)
    reconcile(awake)

    assert given_up is NodeStatus.FAILED
    assert awake.bucket.files == {MODEL: b"trained"}


class TestStaleModels:
    """A model that makes no progress for days."""

    def test_it_no_longer_holds_its_node_awake(self, awake):
        """Its node costs money, and nobody trains it."""
        awake.clock.tick(STALE_AFTER)
        reconcile(awake)

        assert awake.stacks.standing(NODE) == []
        assert awake.models.get(MODEL).is_training

    def test_progress_keeps_it_fresh(self, awake, progress):
        """Every closed cycle counts."""
        for cycle in (1, 2, 3):
            awake.clock.tick(STALE_AFTER - PASS)
            progress.record(MODEL, Progress(cycle, cycle), node=awake.nodes.get(NODE))
            reconcile(awake, passes=1)

        assert len(awake.stacks.standing(NODE)) == 1
        assert awake.nodes.get(NODE).progress_at == awake.clock.now - PASS

    def test_its_owner_wakes_it(self, awake):
        """/create makes it fresh again."""
        awake.clock.tick(STALE_AFTER)
        reconcile(awake)
        request_node(a_node_service(awake))
        reconcile(awake, passes=40)

        assert awake.nodes.get(NODE).status is NodeStatus.READY

    def test_a_device_wakes_it_for_a_while_once_a_day(self, awake, devices):
        """/info only sets the wish; the node goes again unless the model makes progress."""
        awake.clock.tick(STALE_AFTER)
        reconcile(awake)
        launched = list(awake.stacks.launched)
        work = devices.work(DATASET, api_key=LEGACY_KEY)
        asked_of_cloudformation = awake.stacks.launched != launched
        reconcile(awake, passes=4)
        up = devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(awake)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(awake)
        same_day = len(awake.stacks.launched)
        awake.clock.tick(DAY)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(awake)

        assert (work.address, work.reason) == (None, "no node available yet")
        assert not asked_of_cloudformation
        assert [model.model_id for model in up.models] == [MODEL]
        assert same_day == 2
        assert len(awake.stacks.launched) == 3
        assert awake.stacks.standing(NODE) == []

    def test_a_device_wakes_no_node_that_has_nothing_to_train(self, world, devices):
        """Nor one that its owner has retired a moment ago."""
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(world)

        assert world.stacks.launched == []

    def test_a_device_leaves_a_node_alone_that_its_owner_has_retired(self, awake, devices):
        """For a day: else the next phone would undo it at once."""
        a_node_service(awake).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(awake)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(awake)

        assert awake.stacks.standing(NODE) == []


def test_a_node_that_was_never_ready_is_not_counted_down(world):
    """The model of a slow starter may be on its way."""
    world.put(a_submission())
    request_node(a_node_service(world))
    world.models.withdraw(world.models.get(MODEL), world.clock())
    world.stacks.hangs = True
    reconcile(world, passes=5)

    assert world.nodes.get(NODE).idle_since == 0.0
    assert world.nodes.get(NODE).should_run


def test_a_steady_node_is_not_looked_at_in_every_pass(awake):
    """One list of all stacks serves a pass; a look at a node costs a probe and two queries."""
    reconciler = a_reconciler(awake)
    reconciler.run_pass()
    wire = Wire()
    quiet = a_reconciler(awake.through(wire))
    quiet = replace(
        quiet,
        schedule=reconciler.schedule,
        superseded=replace(quiet.superseded, schedule=reconciler.superseded.schedule),
    )
    quiet.run_pass()

    assert wire.calls == ["dynamodb.scan model_table", "dynamodb.scan node_table", "stacks.all"]


class TestUnownedStacks:
    """Stacks with our tag that no current generation owns."""

    @pytest.fixture
    def stray(self, awake):
        """Generation 1 stands though the record says that generation 3 has come and gone."""
        awake.put(
            replace(
                awake.nodes.get(NODE),
                generation=3,
                status=NodeStatus.ABSENT,
                desired_state=STOPPED,
            )
        )
        return awake

    def test_one_that_is_left_over_is_taken_down(self, stray, logs):
        """A process slept between its claim and its launch: nobody else looks at what it launched."""
        reconcile(stray)

        assert stray.stacks.standing(NODE) == []
        assert stray.secrets.passwords == {}
        assert "stack.unowned" in [entry["event"] for entry in logs]

    def test_a_young_one_is_left_alone(self, stray):
        """Its record may be about to know it."""
        stray.stacks.stacks[NODE, 1].created_at = stray.clock.now
        reconcile(stray, passes=2)

        assert len(stray.stacks.standing(NODE)) == 1

    def test_one_that_no_record_knows_is_told_about_and_left_alone(self, awake, logs):
        """A table restored from a backup is no reason to take down what works."""
        awake.remove("node_table")
        reconcile(awake, passes=5)

        assert len(awake.stacks.standing(NODE)) == 1
        assert [entry["ownership"] for entry in logs if entry["event"] == "stack.unowned"] == ["orphan"]

    def test_one_that_resists_is_asked_by_force_an_hour_later(self, stray):
        """And so on every hour; it is told about each time."""
        stray.stacks.undeletable = True
        reconciler = a_reconciler(stray)
        for _ in range(40):
            reconciler.run_pass()
            stray.clock.tick(600)
        how = [deletion for _, _, deletion in stray.stacks.deleted]

        assert how[0] is Deletion.PLAIN
        assert set(how[1:]) == {Deletion.BY_FORCE}
        assert 5 <= len(how) <= 8

    def test_an_update_of_it_is_called_back_first(self, stray):
        """CloudFormation deletes nothing that is being updated."""
        stray.stacks.stacks[NODE, 1].phase = StackPhase.UPDATING
        a_reconciler(stray).run_pass()

        assert stray.stacks.repaired == ["cancel update"]


def test_two_reconcilers_side_by_side_do_no_harm(awake):
    """Any number of it may run."""
    awake.put(a_model(**DONE))
    for _ in range(12):
        a_reconciler(awake).run_pass()
        a_reconciler(awake).run_pass()
        awake.clock.tick(IDLE_TIMEOUT)

    assert "download_link" in awake.item("model_table", MODEL)
    assert awake.stacks.launched == [(NODE, 1)]
    assert awake.stacks.standing(NODE) == []


class TestRun:
    """The process: passes, and requests beside them."""

    def test_it_passes_until_it_is_told_to_stop(self, awake, reconciler):
        """At its interval, give or take a quarter."""
        awake.put(a_model(**DONE))
        waits = run(reconciler, passes=2)

        assert awake.bucket.files == {MODEL: b"trained"}
        assert len(waits) == 3
        assert all(0.75 * PASS <= seconds <= 1.25 * PASS for seconds in waits)

    def test_requests_are_attended_to_between_passes(self, world, nodes, reconciler):
        """Within a second, though no pass comes."""
        world.put(a_submission())
        request_node(nodes)
        run(reconciler, passes=0, looks=1)

        assert world.stacks.launched == [(NODE, 1)]

    def test_a_pass_that_takes_minutes_does_not_delay_requests(self, world, nodes, reconciler):
        """They have a thread of their own: here the pass ends only when the node is launched."""
        world.put(a_submission())
        request_node(nodes)
        launched = Event()
        world.stacks.launch = told_by(launched, world.stacks.launch)
        world.stacks.all = lambda: iter(() if launched.wait(10) else pytest.fail("not launched"))
        run(reconciler, passes=1, looks=1)

        assert world.stacks.launched == [(NODE, 1)]

    @pytest.mark.parametrize("trouble", [Upstream("away"), KeyError("node_id")])
    def test_failure_of_one_look_does_not_end_the_next(
        self, world, nodes, reconciler, monkeypatch, logs, trouble
    ):
        """The index may be throttled, or hold something that can't be read."""
        world.put(a_submission())
        request_node(nodes)
        look, troubles = type(world.nodes).needing_attention, [trouble]

        def faulty(self):
            if troubles:
                raise troubles.pop()
            return look(self)

        monkeypatch.setattr(type(world.nodes), "needing_attention", faulty)
        run(reconciler, passes=0, looks=2)

        assert world.stacks.launched == [(NODE, 1)]
        assert [entry["what"] for entry in logs if entry["event"] == "reconcile.failed"] == ["attention"]

    def test_step_that_fails_is_left_to_the_next_pass(self, world, nodes, reconciler):
        """The mark is removed first: it must not be tried every second while AWS is away."""
        world.put(a_submission())
        request_node(nodes)
        world.stacks.away = True
        reconciler.attend()
        marked = list(world.nodes.needing_attention())
        world.stacks.away = False
        reconciler.run_pass()

        assert marked == []
        assert world.stacks.launched == [(NODE, 1)]

    def test_step_is_taken_again_from_the_record_when_another_process_was_faster(self, awake, logs):
        """Retired between the read and the write of a step: the next step starts from the new record."""
        awake.server.silent = True
        wire = Wire()

        def retire_once(call):
            if call == "server.answers" and awake.nodes.get(NODE).should_run:
                awake.nodes.let_go(awake.nodes.get(NODE))

        wire.passed = retire_once
        a_reconciler(awake.through(wire)).run_pass()

        assert awake.nodes.get(NODE).status is NodeStatus.RETIRING
        assert [entry for entry in logs if entry["event"] == "reconcile.failed"] == []


def run(reconciler, *, passes, looks=0):
    """Run the process for so many passes and looks for requests; return how long it waited for passes."""
    waits, left = [], {"passes": passes, "looks": looks}
    over = Barrier(2)

    def wait(seconds):
        kind = "looks" if current_thread().name == "attention" else "passes"
        if kind == "passes":
            waits.append(seconds)
        left[kind] -= 1
        if left[kind] < 0:
            over.wait(10)  # both have had their turns
            return True
        return False

    reconciler.run(wait)
    return waits


def told_by(event, call):
    """Set an event after each call."""

    def told(*arguments):
        result = call(*arguments)
        event.set()
        return result

    return told
