"""Passes of the reconciler: retrieval, idle time-out, wakes, superseded stacks, failures of one node."""

from dataclasses import replace
from threading import Barrier, Event, current_thread
from time import sleep

import pytest

from orchestration.adapters.dynamo import Table
from orchestration.control.reconciler import THREADS
from orchestration.domain.cycle import Progress
from orchestration.domain.decision import LONGEST_PAUSE
from orchestration.domain.entities import MOST_FAILURES
from orchestration.domain.errors import Conflict, NodeUnreachable, StackFailed, UnusableModel, Upstream
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
def ready(world):
    """Launch a node with one training model, and return the world."""
    world.put(a_submission())
    request_node(a_node_service(world))
    reconcile(world, passes=4)
    assert world.nodes.get(NODE).status is NodeStatus.READY
    world.models.record_hosted(world.models.get(MODEL), world.clock())
    return world


def test_complete_model_is_retrieved(ready, reconciler):
    """The file is in the bucket, its link is in the model's item, and the model is no longer due."""
    ready.put(a_model(**DONE))
    reconciler.run_pass()
    model = ready.models.get(MODEL)

    assert ready.bucket.files == {MODEL: b"trained"}
    link = f"https://link.test/{MODEL}/{model.download_key}"
    assert ready.item("model_table", MODEL)["download_link"] == link
    assert not model.retrieval_due


@pytest.mark.parametrize(
    "error", [NodeUnreachable("It did not answer."), UnusableModel("Other shapes."), Upstream("S3.")]
)
def test_failed_retrieval_is_retried_until_it_succeeds(ready, reconciler, error):
    """The item shows the reason, and the node keeps running, until the file is in the bucket."""
    ready.put(a_model(**DONE))
    ready.server.troubles[MODEL] = [error] * 6
    reasons = []
    while ready.server.troubles[MODEL]:
        reconciler.run_pass()
        ready.clock.tick(IDLE_TIMEOUT)
        reasons.append(ready.item("model_table", MODEL)["retrieval_error"])
    node = ready.nodes.get(NODE)
    ready.clock.tick(LONGEST_PAUSE)
    reconciler.run_pass()

    assert len(reasons) > 6, "each attempt follows a longer pause than the one before"
    assert set(reasons) == {str(error)}
    assert (node.status, node.desired_state) == (NodeStatus.READY, RUNNING)
    assert ready.bucket.files == {MODEL: b"trained"}
    assert "retrieval_error" not in ready.item("model_table", MODEL)


class TestModelThatCanNotBeRetrieved:
    """Its retrieval fails again and again: the node's answer is unusable, or S3 refuses the file."""

    @pytest.fixture
    def failing(self, ready, reconciler):
        """Let retrievals fail until the model has failed `MOST_FAILURES` times, and return the world."""
        ready.put(a_model(**DONE))
        ready.server.troubles[MODEL] = [UnusableModel("Other shapes.")] * 100
        for _ in range(MOST_FAILURES - 1):
            reconciler.run_pass()
            ready.clock.tick(LONGEST_PAUSE)
        assert ready.nodes.get(NODE).should_run
        with pytest.raises(Conflict, match="Unfinished"):
            a_node_service(ready).retire(DATASET, caller=DEVELOPER, force=False)
        reconciler.run_pass()
        return ready

    def test_it_stops_holding_its_node(self, failing):
        """The idle time-out starts as if the model were in the bucket, and the model's item says so."""
        running, item = failing.nodes.get(NODE).should_run, failing.item("model_table", MODEL)
        reconcile(failing)
        model = failing.models.get(MODEL)

        assert running
        assert failing.stacks.standing(NODE) == []
        assert (model.retrieval_due, model.awaits_retrieval) == (True, False)
        assert item["retrieval_error"] == (
            "Other shapes. After 10 failures, the model no longer keeps its node running."
        )

    def test_malformed_record_stops_holding_its_node(self, ready):
        """The model can't be read; the next model of the node is retrieved all the same."""
        ready.put(a_model(**DONE))
        ready.put(a_model(model_id="another", **DONE))
        Table(ready.dynamodb, "training_table").update({"name": MODEL}, put={"loss_sum": "x"})
        reconciler = a_reconciler(ready)
        for _ in range(MOST_FAILURES + 2):
            reconciler.run_pass()
            ready.clock.tick(LONGEST_PAUSE)
        reconcile(ready)

        assert ready.bucket.files == {"another": b"trained"}
        assert "malformed: loss_sum" in ready.item("training_table", MODEL)["retrieval_error"]
        assert ready.stacks.standing(NODE) == []

    def test_it_does_not_wake_its_node(self, failing):
        """A stopped node with such a model stays stopped."""
        reconcile(failing)
        failing.clock.tick(2 * DAY)
        reconcile(failing)

        assert failing.stacks.launched == [(NODE, 1)]

    def test_it_does_not_prevent_a_retirement(self, failing):
        """The owner of the dataset need not send `force`."""
        assert a_node_service(failing).retire(DATASET, caller=DEVELOPER, force=False)

    def test_operators_are_told_once(self, ready, reconciler, logs):
        """Later failures are recorded for the owner only."""
        ready.put(a_model(model_id="another"))
        ready.put(a_model(**DONE))
        ready.server.troubles[MODEL] = [NodeUnreachable("It did not answer.")] * (MOST_FAILURES + 5)
        while ready.server.troubles[MODEL]:
            reconciler.run_pass()
            ready.clock.tick(LONGEST_PAUSE)
        reason = "It did not answer. After 10 failures, the model no longer keeps its node running."
        entries = [entry for _, entry in ready.audit.of(f"model:{MODEL}") if entry.action == "model.retrieve"]

        assert [(entry.actor, entry.result) for entry in entries] == [("service", reason)]
        assert [entry["reason"] for entry in logs if entry["event"] == "model.alarm"] == [reason]
        assert ready.models.get(MODEL).retrieval_failures == MOST_FAILURES + 5
        assert "After 15 failures" in ready.item("model_table", MODEL)["retrieval_error"]

    def test_it_is_retrieved_when_its_node_runs_for_another_model(self, failing):
        """The reason may be gone: another version of the node, or of this service."""
        reconcile(failing)
        failing.server.troubles.clear()
        failing.put(a_submission(model_id="another"))
        request_node(a_node_service(failing), model_id="another")
        failing.clock.tick(LONGEST_PAUSE)
        reconcile(failing)
        item, record = failing.item("model_table", MODEL), failing.item("training_table", MODEL)

        assert failing.bucket.files == {MODEL: b"trained"}
        assert not {"retrieval_due", "retrieval_error", "retrieval_failures"} & (item.keys() | record.keys())

    def test_another_model_is_still_awaited(self, failing, reconciler):
        """Each model is counted by itself."""
        failing.put(a_model(model_id="another", **DONE))
        failing.server.troubles["another"] = [NodeUnreachable("It did not answer.")]
        for _ in range(3):
            reconciler.run_pass()
            failing.clock.tick(IDLE_TIMEOUT)

        assert failing.bucket.files == {"another": b"trained"}


def test_node_is_not_stopped_before_its_model_is_in_the_bucket(ready, reconciler):
    """The node keeps running as long as the bucket is unavailable."""
    ready.put(a_model(**DONE))
    ready.bucket.away = True
    for _ in range(10):
        reconciler.run_pass()
        ready.clock.tick(IDLE_TIMEOUT * 10)
    waiting = len(ready.stacks.standing(NODE))
    ready.bucket.away = False
    reconcile(ready)

    assert waiting == 1
    assert ready.bucket.files == {MODEL: b"trained"}
    assert ready.stacks.standing(NODE) == []


def test_model_on_a_silent_node_stays_due(ready, reconciler):
    """The model is retrieved once its node answers again."""
    ready.put(a_model(**DONE))
    ready.server.silent = True
    reconcile(ready)
    ready.server.silent = False
    still_due = ready.models.get(MODEL).retrieval_due
    reconciler.run_pass()

    assert still_due
    assert ready.bucket.files == {MODEL: b"trained"}


def test_failed_retrieval_does_not_affect_other_models(ready, reconciler):
    """The next model of the node is retrieved in the same pass."""
    ready.put(a_model(model_id="a bad one", **DONE))
    ready.put(a_model(**DONE))
    ready.server.troubles["a bad one"] = [UnusableModel("It can't be read.")] * 5
    reconciler.run_pass()

    assert ready.bucket.files == {MODEL: b"trained"}


@pytest.mark.parametrize("error", [Upstream("away"), ValueError("a malformed item"), KeyError("x")])
def test_failure_at_one_node_does_not_affect_others(world, logs, error, monkeypatch):
    """Expected and unexpected errors are logged, and the pass continues."""
    world.put(a_node("bad", desired_state=RUNNING))
    world.put(a_dataset(dataset_id="good"))
    world.put(a_node("good", desired_state=RUNNING))
    describe = world.stacks.describe

    def faulty(node):
        if node.dataset_id == "bad":
            raise error
        return describe(node)

    monkeypatch.setattr(world.stacks, "describe", faulty)
    a_reconciler(world).run_pass()

    assert world.stacks.launched == [(node_id_of("good"), 1)]
    assert [entry["what"] for entry in logs if entry["event"] == "reconcile.failed"] == [node_id_of("bad")]


def test_pass_without_tables_is_logged_and_the_next_one_runs(ready, reconciler, logs):
    """A pass that can't read a table logs one warning."""
    ready.dynamodb.throttle = lambda operation: operation == "scan"
    reconciler.run_pass()
    ready.dynamodb.throttle = 0.0
    reconciler.run_pass()

    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["reconcile.failed"]


@pytest.mark.parametrize(
    ("error", "level"),
    [(Upstream("away"), "warning"), (StackFailed("refused"), "warning"), (KeyError("CreationTime"), "error")],
)
def test_failed_pass_does_not_end_the_process(ready, logs, monkeypatch, error, level):
    """The next pass runs after CloudFormation refused the list of stacks, or returned an unreadable one."""

    def refused():
        raise error

    reconciler = a_reconciler(ready)
    monkeypatch.setattr(ready.stacks, "all", refused)
    run(reconciler, passes=2)

    levels = [entry["log_level"] for entry in logs if entry["what"] == "pass"]
    assert levels == [level, level]


def test_node_with_a_training_model_keeps_running(ready, reconciler):
    """The idle time-out does not start while a model trains."""
    for _ in range(20):
        reconciler.run_pass()
        ready.clock.tick(IDLE_TIMEOUT)

    assert ready.nodes.get(NODE).idle_since == 0.0
    assert len(ready.stacks.standing(NODE)) == 1


def test_idle_node_is_stopped_after_the_time_out(ready, reconciler):
    """A node keeps running for the idle time-out after its last model."""
    ready.models.withdraw(ready.models.get(MODEL), ready.clock())
    reconciler.run_pass()
    idle_since = ready.clock.now
    ready.clock.tick(IDLE_TIMEOUT - 1)
    reconciler.run_pass()
    just_before = ready.nodes.get(NODE)
    ready.clock.tick(1)
    reconciler.run_pass()

    assert just_before.idle_since == idle_since
    assert just_before.should_run
    assert not ready.nodes.get(NODE).should_run


def test_needed_node_resets_its_idle_time_out(ready, reconciler):
    """The time-out starts again from zero when the node is no longer needed."""
    ready.models.withdraw(ready.models.get(MODEL), ready.clock())
    reconciler.run_pass()
    ready.clock.tick(IDLE_TIMEOUT - 1)
    ready.put(a_model(model_id="next"))
    reconciler.run_pass()
    ready.models.withdraw(ready.models.get("next"), ready.clock())
    ready.clock.tick(IDLE_TIMEOUT)
    reconciler.run_pass()

    assert ready.nodes.get(NODE).should_run
    assert ready.nodes.get(NODE).idle_since == ready.clock.now


def test_request_resets_the_idle_time_out(ready, reconciler):
    """`/create` resets the time-out before the index lists the model."""
    ready.models.withdraw(ready.models.get(MODEL), ready.clock())
    reconciler.run_pass()
    ready.nodes.request(DATASET, ready.clock(), "ada")

    assert ready.nodes.get(NODE).idle_since == 0.0


def test_unaccepted_submission_does_not_keep_a_node_running(ready):
    """A failed `/create` leaves an item without features and labels."""
    ready.put(a_submission(model_id="left behind"))
    ready.models.withdraw(ready.models.get(MODEL), ready.clock())
    reconcile(ready)

    assert ready.stacks.standing(NODE) == []


def test_due_models_are_retrieved_before_a_forced_retirement(ready):
    """Completed models are in the bucket before the stack is deleted."""
    ready.put(a_model(**DONE))
    ready.nodes.let_go(ready.nodes.get(NODE))
    reconcile(ready)

    assert ready.bucket.files == {MODEL: b"trained"}
    assert ready.stacks.standing(NODE) == []


def test_node_is_not_deleted_before_its_model_is_in_the_bucket(ready, reconciler):
    """The model completes while the node goes, and the first retrieval fails. The owner of the dataset need
    not wait a day for the next generation.
    """
    ready.put(a_model(**DONE))
    ready.bucket.away = True
    ready.nodes.let_go(ready.nodes.get(NODE), wake_at=ready.clock() + DAY)
    reconcile(ready, passes=3)
    waiting = len(ready.stacks.standing(NODE))
    ready.bucket.away = False
    reconcile(ready)

    assert waiting == 1
    assert ready.bucket.files == {MODEL: b"trained"}
    assert ready.stacks.launched == [(NODE, 1)]
    assert ready.stacks.standing(NODE) == []


def test_completion_that_no_index_shows_yet_keeps_the_node(ready, reconciler, progress):
    """Indexes lag. The model's record is read itself before the stack is deleted."""
    with ready.dynamodb.lagging():
        progress.record(MODEL, Progress(100), node=ready.nodes.get(NODE))
        ready.nodes.let_go(ready.nodes.get(NODE), wake_at=ready.clock() + DAY)
        reconciler.run_pass()
        waiting = len(ready.stacks.standing(NODE))
    reconcile(ready)

    assert waiting == 1
    assert ready.bucket.files == {MODEL: b"trained"}
    assert ready.stacks.launched == [(NODE, 1)]
    assert ready.stacks.standing(NODE) == []


def test_node_is_deleted_although_a_model_can_not_be_retrieved(ready):
    """After `MOST_FAILURES` failures: a retirement is not held for ever."""
    ready.put(a_model(**DONE))
    ready.bucket.away = True
    ready.nodes.let_go(ready.nodes.get(NODE), wake_at=ready.clock() + DAY)
    for _ in range(MOST_FAILURES + 3):
        reconcile(ready, passes=1)
        ready.clock.tick(LONGEST_PAUSE)

    assert ready.stacks.standing(NODE) == []


@pytest.mark.parametrize("ends", ["withdrawn", "retrieved"])
def test_model_that_only_an_index_shows_wakes_no_node(ready, ends):
    """Indexes lag. The model was withdrawn, or retrieved, while its node went down."""
    ready.put(a_model(**DONE))
    ready.server.silent = True
    ready.nodes.let_go(ready.nodes.get(NODE), wake_at=ready.clock() + 8 * PASS)
    reconcile(ready, passes=8)
    ready.server.silent = False
    gone = ready.stacks.standing(NODE) == []
    with ready.dynamodb.lagging():
        model = ready.models.get(MODEL)
        if ends == "withdrawn":
            ready.models.withdraw(model, ready.clock())
        else:
            ready.models.retrieved(model, "key", "link")
        reconcile(ready, passes=2)

    assert gone
    assert not ready.nodes.get(NODE).should_run
    assert ready.stacks.launched == [(NODE, 1)]


def test_model_of_a_stopped_node_is_retrieved_from_the_next_generation(ready):
    """A node with a completed model is woken once a day until the model is in the bucket."""
    ready.put(a_model(**DONE))
    ready.server.silent = True
    ready.nodes.let_go(ready.nodes.get(NODE), wake_at=ready.clock() + DAY)
    reconcile(ready)
    within_a_day = ready.stacks.standing(NODE)
    ready.server.silent = False
    ready.clock.tick(DAY)
    reconcile(ready)

    assert within_a_day == []
    assert ready.bucket.files == {MODEL: b"trained"}
    assert ready.stacks.launched == [(NODE, 1), (NODE, 2)]
    assert ready.stacks.standing(NODE) == []


def test_model_of_a_failed_node_is_retrieved_a_day_later(ready):
    """The reconciler launches a FAILED node again after a day, because `/create` refuses a complete model."""
    ready.put(a_model(**DONE))
    ready.server.silent = True
    ready.stacks.failure = "Service: no capacity."
    reconcile(ready, passes=100)
    status = ready.nodes.get(NODE).status
    ready.server.silent, ready.stacks.failure = False, ""
    ready.clock.tick(DAY)
    reconcile(ready)

    assert status is NodeStatus.FAILED
    assert ready.bucket.files == {MODEL: b"trained"}


class TestStaleModels:
    """Models that make no progress for days."""

    def test_stale_model_does_not_keep_its_node_running(self, ready):
        """The node is stopped; the model can still be trained."""
        ready.clock.tick(STALE_AFTER)
        reconcile(ready)

        assert ready.stacks.standing(NODE) == []
        assert ready.models.get(MODEL).is_training

    def test_progress_keeps_the_node_running(self, ready, progress):
        """Each closed cycle resets the time after which a model is stale."""
        for cycle in (1, 2, 3):
            ready.clock.tick(STALE_AFTER - PASS)
            progress.record(MODEL, Progress(cycle, cycle), node=ready.nodes.get(NODE))
            reconcile(ready, passes=1)

        assert len(ready.stacks.standing(NODE)) == 1
        assert ready.nodes.get(NODE).progress_at == ready.clock.now - PASS

    def test_request_launches_the_node_of_a_stale_model(self, ready):
        """`/create` resets the time after which a model is stale."""
        ready.clock.tick(STALE_AFTER)
        reconcile(ready)
        request_node(a_node_service(ready))
        reconcile(ready, passes=40)

        assert ready.nodes.get(NODE).status is NodeStatus.READY

    def test_device_wakes_the_node_once_a_day(self, ready, devices):
        """`/info` only records the desired state; without progress the node is stopped again."""
        ready.models.record_hosted(ready.models.get(MODEL), ready.clock())
        ready.clock.tick(STALE_AFTER)
        reconcile(ready)
        launched = list(ready.stacks.launched)
        work = devices.work(DATASET, api_key=LEGACY_KEY)
        launched_by_info = ready.stacks.launched != launched
        reconcile(ready, passes=4)
        up = devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(ready)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(ready)
        same_day = len(ready.stacks.launched)
        ready.clock.tick(DAY)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(ready)

        assert (work.address, work.reason) == (None, "no node available yet")
        assert not launched_by_info
        assert [model.model_id for model in up.models] == [MODEL]
        assert same_day == 2
        assert len(ready.stacks.launched) == 3
        assert ready.stacks.standing(NODE) == []

    def test_device_does_not_wake_a_node_without_models(self, world, devices):
        """Without a training model, a request of a device launches nothing."""
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(world)

        assert world.stacks.launched == []

    def test_device_does_not_wake_a_node_for_a_model_that_was_just_withdrawn(self, ready, devices):
        """The index that lists the dataset's models still shows it."""
        ready.models.record_hosted(ready.models.get(MODEL), ready.clock())
        ready.clock.tick(STALE_AFTER)
        reconcile(ready)
        with ready.dynamodb.lagging():
            ready.models.withdraw(ready.models.get(MODEL), ready.clock())
            devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(ready)

        assert ready.stacks.launched == [(NODE, 1)]

    def test_device_does_not_wake_a_node_that_was_just_retired(self, ready, devices):
        """No device wakes a retired node for a day, so that a retirement lasts."""
        a_node_service(ready).retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(ready)
        devices.work(DATASET, api_key=LEGACY_KEY)
        reconcile(ready)

        assert ready.stacks.standing(NODE) == []


def test_idle_time_out_does_not_start_before_the_node_was_ready(world):
    """No model can use a node before it was ready."""
    world.put(a_submission())
    request_node(a_node_service(world))
    world.models.withdraw(world.models.get(MODEL), world.clock())
    world.stacks.hangs = True
    reconcile(world, passes=5)

    assert world.nodes.get(NODE).idle_since == 0.0
    assert world.nodes.get(NODE).should_run


def test_steady_node_is_not_probed_in_every_pass(ready):
    """One list of all stacks serves a pass, because reconciling a node costs a probe and two queries."""
    reconciler = a_reconciler(ready)
    reconciler.run_pass()
    wire = Wire()
    quiet = a_reconciler(ready.through(wire))
    quiet = replace(
        quiet,
        schedule=reconciler.schedule,
        superseded=replace(quiet.superseded, schedule=reconciler.superseded.schedule),
    )
    quiet.run_pass()

    assert wire.calls == ["dynamodb.scan training_table", "dynamodb.scan node_table", "stacks.all"]


class TestUnownedStacks:
    """Stacks with our tag that no current generation owns."""

    @pytest.fixture
    def superseded(self, ready):
        """Put a record whose generation 3 has ended, while the stack of generation 1 exists."""
        ready.put(
            replace(
                ready.nodes.get(NODE),
                generation=3,
                status=NodeStatus.ABSENT,
                desired_state=STOPPED,
            )
        )
        return ready

    def test_superseded_stack_is_deleted(self, superseded, logs):
        """A process paused between its claim and its launch may create a stack of a past generation."""
        reconcile(superseded)

        assert superseded.stacks.standing(NODE) == []
        assert superseded.secrets.passwords == {}
        assert "stack.unowned" in [entry["event"] for entry in logs]

    def test_recent_stack_is_kept(self, superseded):
        """The record of a recently created stack may not be written yet."""
        superseded.stacks.stacks[NODE, 1].created_at = superseded.clock.now
        reconcile(superseded, passes=2)

        assert len(superseded.stacks.standing(NODE)) == 1

    def test_orphan_is_only_logged(self, ready, logs):
        """A stack without a record is kept, because the table may have been restored from a backup."""
        ready.remove("node_table")
        reconcile(ready, passes=5)

        assert len(ready.stacks.standing(NODE)) == 1
        assert [entry["ownership"] for entry in logs if entry["event"] == "stack.unowned"] == ["orphan"]

    def test_undeletable_stack_is_deleted_by_force_once_an_hour(self, superseded):
        """The first deletion is plain; each later one is forced and follows an hour after the one before."""
        superseded.stacks.undeletable = True
        reconciler = a_reconciler(superseded)
        for _ in range(40):
            reconciler.run_pass()
            superseded.clock.tick(600)
        how = [deletion for _, _, deletion in superseded.stacks.deleted]

        assert how[0] is Deletion.PLAIN
        assert set(how[1:]) == {Deletion.BY_FORCE}
        assert 5 <= len(how) <= 8

    def test_update_is_cancelled_before_the_deletion(self, superseded):
        """CloudFormation does not delete a stack that is being updated."""
        superseded.stacks.stacks[NODE, 1].phase = StackPhase.UPDATING
        a_reconciler(superseded).run_pass()

        assert superseded.stacks.repaired == ["cancel update"]


def test_two_reconcilers_can_run_side_by_side(ready):
    """Two reconcilers retrieve a model and stop its node as one does."""
    ready.put(a_model(**DONE))
    for _ in range(12):
        a_reconciler(ready).run_pass()
        a_reconciler(ready).run_pass()
        ready.clock.tick(IDLE_TIMEOUT)

    assert "download_link" in ready.item("model_table", MODEL)
    assert ready.stacks.launched == [(NODE, 1)]
    assert ready.stacks.standing(NODE) == []


def test_listed_stack_of_a_generation_that_has_ended_is_not_deleted_again(ready, reconciler):
    """The list of stacks was read before another process recorded the end of the generation."""
    listed = list(ready.stacks.all())

    def end_generation():
        ready.put(replace(ready.nodes.get(NODE), status=NodeStatus.ABSENT, stack_id=None))
        ready.stacks.stacks.clear()
        return iter(listed)

    ready.stacks.all = end_generation
    reconciler.run_pass()

    assert ready.nodes.get(NODE).status is NodeStatus.DEPLOYING
    assert ready.nodes.get(NODE).generation == 2
    assert ready.stacks.deleted == []


class TestRun:
    """The process: passes, and attention to requests beside them."""

    def test_passes_continue_until_the_process_stops(self, ready, reconciler):
        """The pause between passes is the interval, give or take a quarter."""
        ready.put(a_model(**DONE))
        waits = run(reconciler, passes=2)

        assert ready.bucket.files == {MODEL: b"trained"}
        assert len(waits) == 3
        assert all(0.75 * PASS <= seconds <= 1.25 * PASS for seconds in waits)

    def test_requests_are_attended_to_between_passes(self, world, nodes, reconciler):
        """A request is attended to without a pass."""
        world.put(a_submission())
        request_node(nodes)
        run(reconciler, passes=0, looks=1)

        assert world.stacks.launched == [(NODE, 1)]

    def test_long_pass_does_not_delay_requests(self, world, nodes, reconciler):
        """Requests have a thread of their own; here the pass ends only when the node is launched."""
        world.put(a_submission())
        request_node(nodes)
        launched = Event()
        world.stacks.launch = setting(launched, world.stacks.launch)
        world.stacks.all = lambda: iter(() if launched.wait(10) else pytest.fail("not launched"))
        run(reconciler, passes=1, looks=1)

        assert world.stacks.launched == [(NODE, 1)]

    def test_step_that_waits_for_a_thread_is_started_once(self, world, reconciler, monkeypatch):
        """Its mark stays until it starts, so that every look finds it again."""
        names = [f"dataset {number}" for number in range(3 * THREADS)]
        for name in names:
            world.nodes.request(name, world.clock(), "ada")
        taken, all_looked = [], Event()
        take = type(world.nodes).take_attention

        def slow(nodes, node_id):
            all_looked.wait(10)
            taken.append(node_id)
            take(nodes, node_id)

        monkeypatch.setattr(type(world.nodes), "take_attention", slow)
        run(reconciler, passes=0, looks=5, after_looks=all_looked.set)

        assert sorted(taken) == sorted(map(node_id_of, names))

    @pytest.mark.parametrize("error", [Upstream("away"), KeyError("node_id")])
    def test_failed_attention_does_not_prevent_the_next(
        self, world, nodes, reconciler, monkeypatch, logs, error
    ):
        """The index may be throttled, or hold an unreadable item."""
        world.put(a_submission())
        request_node(nodes)
        read, errors = type(world.nodes).needing_attention, [error]

        def faulty(self):
            if errors:
                raise errors.pop()
            return read(self)

        monkeypatch.setattr(type(world.nodes), "needing_attention", faulty)
        run(reconciler, passes=0, looks=2)

        assert world.stacks.launched == [(NODE, 1)]
        assert [entry["what"] for entry in logs if entry["event"] == "reconcile.failed"] == ["attention"]

    def test_failed_step_is_left_to_the_next_pass(self, world, nodes, reconciler):
        """The mark is removed before the step, so that it is not repeated every second."""
        world.put(a_submission())
        request_node(nodes)
        world.stacks.away = True
        reconciler.attend()
        marked = list(world.nodes.needing_attention())
        world.stacks.away = False
        reconciler.run_pass()

        assert marked == []
        assert world.stacks.launched == [(NODE, 1)]

    def test_overtaken_step_is_repeated_from_the_new_record(self, ready, logs):
        """If the node is retired between read and write of a step, the next step reads the record again."""
        ready.server.silent = True
        wire = Wire()

        def retire_once(call):
            if call == "server.answers" and ready.nodes.get(NODE).should_run:
                ready.nodes.let_go(ready.nodes.get(NODE))

        wire.passed = retire_once
        a_reconciler(ready.through(wire)).run_pass()

        assert ready.nodes.get(NODE).status is NodeStatus.RETIRING
        assert [entry for entry in logs if entry["event"] == "reconcile.failed"] == []


def run(reconciler, *, passes, looks=0, after_looks=lambda: None):
    """Run the process for so many passes and looks for requests; return how long it waited for passes."""
    waits, left = [], {"passes": passes, "looks": looks}
    over = Barrier(2)

    def wait(seconds):
        kind = "looks" if current_thread().name == "attention" else "passes"
        if kind == "passes":
            waits.append(seconds)
        left[kind] -= 1
        if left[kind] < 0:
            if kind == "looks":
                after_looks()
            while kind == "looks" and looks and list(reconciler.nodes.needing_attention()):
                sleep(0.001)  # until each step has started
            over.wait(10)  # both threads have finished
            return True
        return False

    reconciler.run(wait)
    return waits


def setting(event, call):
    """Set an event after each call."""

    def wrapper(*arguments):
        result = call(*arguments)
        event.set()
        return result

    return wrapper
