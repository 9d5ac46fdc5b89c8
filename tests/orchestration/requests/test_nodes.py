"""`/create` and `/delete`, together with the reconciler that acts on them."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from orchestration.domain.errors import (
    AccessDenied,
    Conflict,
    InvalidRequest,
    NodeFailed,
    NotFound,
    QuotaExceeded,
    StackFailed,
)
from orchestration.domain.node import DesiredState, NodeStatus, node_id_of
from tests.builders import (
    DATASET,
    DEVELOPER,
    MODEL,
    SCIENTIST,
    STRANGER,
    a_dataset,
    a_model,
    a_submission,
    a_user,
)
from tests.fakes import Wire
from tests.processes import (
    BUDGET,
    DEADLINE,
    PASS,
    QUOTA,
    a_node_service,
    a_reconciler,
    attend,
    reconcile,
    request_node,
)

RUNNING, STOPPED = DesiredState

NODE = node_id_of(DATASET)
OTHER_DATASET = "steps"


@pytest.fixture
def submitted(world):
    """Put the model's item as artificienlib writes it before `/create`."""
    world.put(a_submission())


@pytest.fixture
def ready(world, submitted, nodes):
    """Launch the node for a model that trains, and return the world."""
    request_node(nodes)
    return reconcile(world, passes=5)


@pytest.mark.usefixtures("submitted")
class TestRequest:
    def test_request_is_recorded_and_answered(self, nodes, world):
        """The web process only writes to tables and does not wait for the reconciler."""
        answer = request_node(nodes)

        assert answer.address is None
        assert answer.reason == "The node is being launched."
        assert world.nodes.get(NODE).should_run
        assert world.nodes.needing_attention() == [NODE]
        assert (world.stacks.launched, world.secrets.made, world.node_databases.logins) == ([], 0, {})

    def test_reconciler_launches_the_node_at_once(self, nodes, world):
        """A marked node is attended to before the next pass."""
        request_node(nodes)
        attend(world)

        assert world.stacks.launched == [(NODE, 1)]

    def test_second_request_does_not_launch_again(self, nodes, world):
        """A node that is deploying is not launched a second time."""
        for _ in range(5):
            request_node(nodes)
            attend(world)

        assert world.stacks.launched == [(NODE, 1)]
        assert world.secrets.made == 1

    def test_polling_speeds_up_a_launch(self, nodes, world):
        """Each request makes the reconciler take a step: absent, creating, ready."""
        answers = []
        for _ in range(4):
            answers.append(request_node(nodes))
            attend(world)

        assert [answer.address is not None for answer in answers] == [False, False, False, True]
        assert answers[2].reason == "The node's stack is being created."
        assert answers[3].address == world.nodes.get(NODE).address

    def test_node_is_not_ready_before_it_answers(self, nodes, world):
        """CloudFormation completes a stack before the node in it accepts connections."""
        world.server.silent = True
        request_node(nodes)
        reconcile(world, passes=5)
        before = request_node(nodes)
        world.server.silent = False
        reconcile(world, passes=1)
        after = request_node(nodes)

        assert before.address is None
        assert before.reason == "The stack is complete; the node itself doesn't answer yet."
        assert after.address

    def test_silent_node_is_said_to_have_served(self, nodes, ready):
        """Until it is replaced and after that, with the time at which it was first seen to be silent."""
        ready.server.silent = True
        since = f"{datetime.fromtimestamp(ready.clock(), UTC):%Y-%m-%d %H:%M:%S} UTC"
        reconcile(ready, passes=1)
        answers = []
        while ready.nodes.get(NODE).generation == 1:
            answers.append(request_node(nodes).reason)
            reconcile(ready, passes=1)
        answers.append(request_node(nodes).reason)

        assert len(answers) > DEADLINE / PASS
        assert all(f"served before, but it has not answered since {since}." in answer for answer in answers)
        assert not any("yet" in answer for answer in answers)

    def test_features_and_labels_are_recorded(self, nodes, world):
        """Devices and the marketplace read features and labels from the model's item."""
        request_node(nodes, features=("x", "y"), labels=("z",))

        assert world.models.get(MODEL).features == ("x", "y")
        assert world.models.get(MODEL).labels == ("z",)

    def test_features_are_recorded_once(self, world):
        """The library sends the same request every 30 seconds; the item is written once."""
        wire = Wire()
        for _ in range(2):
            request_node(a_node_service(world.through(wire)))

        for table in ("training_table", "model_table"):
            assert wire.calls.count(f"dynamodb.update_item {table}") == 1

    def test_model_and_dataset_show_the_address_of_a_ready_node(self, ready):
        """The marketplace reads `node_URL`, `hasNode` and `nodeURL`."""
        address = ready.nodes.get(NODE).address

        assert ready.models.get(MODEL).node_address == address
        assert ready.datasets.get(DATASET).node_address == address

    def test_second_model_gets_the_address_of_the_running_node(self, nodes, ready):
        """The second model needs no launch, and its item shows the address at once."""
        ready.put(a_submission(model_id="second"))
        answer = request_node(nodes, model_id="second")

        assert answer.address
        assert ready.models.get("second").node_address == answer.address
        assert len(ready.stacks.launched) == 1

    def test_id_is_looked_up_as_sent_and_then_in_lower_case(self, nodes, world):
        """The node stores the model under the id as it was sent."""
        request_node(nodes, model_id="Net-1-ADA")

        assert world.models.get(MODEL).is_accepted
        assert world.models.get(MODEL).name_on_node == "Net-1-ADA"

    def test_exact_letter_case_takes_precedence(self, nodes, world):
        """The library writes the item with the letter case that it sends."""
        world.put(a_submission(model_id="Net-1-ada"))
        request_node(nodes, model_id="Net-1-ada")

        assert world.models.get("Net-1-ada").is_accepted
        assert not world.models.get(MODEL).is_accepted

    def test_failure_of_the_last_launch_is_in_every_answer(self, nodes, world):
        """The answer names the last failure and the current step."""
        world.stacks.failure = "Service: the image can't be pulled."
        answers = []
        for _ in range(11):
            answers.append(request_node(nodes).reason)
            attend(world)

        assert len(set(answers)) > 2
        assert all("The node failed before: Service: the image can't be pulled." in a for a in answers[3:])

    def test_launch_after_a_failed_one_can_succeed(self, nodes, world):
        """The broken stack is deleted, the next generation starts, and the recorded failure is cleared."""
        world.stacks.failure = "Service: no capacity."
        request_node(nodes)
        reconcile(world, passes=3)
        world.stacks.failure = ""
        reconcile(world, passes=10)

        assert request_node(nodes).address
        assert world.nodes.get(NODE).failure == ""
        assert world.nodes.get(NODE).generation > 1
        assert world.stacks.most_at_once == 1

    def test_refused_launch_is_tried_again_and_explained(self, nodes, world):
        """The answer gives CloudFormation's reason, and a later attempt may succeed."""
        world.stacks.refusal = "LimitExceeded: 2,000 stacks."
        request_node(nodes)
        attend(world)
        refused = request_node(nodes)
        world.stacks.refusal = ""
        attend(world)
        launched_at_once = list(world.stacks.launched)
        world.clock.tick(30)
        reconcile(world, passes=1)

        assert "LimitExceeded: 2,000 stacks." in refused.reason
        assert launched_at_once == []
        assert world.stacks.launched == [(NODE, 1)]
        assert world.nodes.get(NODE).attempts == 2

    def test_launch_that_exceeds_its_deadline_is_replaced(self, nodes, world):
        """A stack that never completes is deleted after the deadline."""
        world.stacks.hangs = True
        request_node(nodes)
        attend(world)
        world.clock.tick(DEADLINE + 1)
        reconcile(world, passes=1)
        failed = request_node(nodes)
        world.stacks.hangs = False
        reconcile(world, passes=6)

        assert "longer than 600 s" in failed.reason
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [2]

    def test_request_is_recorded_while_cloudformation_is_unavailable(self, nodes, world):
        """The caller gets an answer, and the reconciler continues once CloudFormation answers again."""
        world.stacks.away = True
        answer = request_node(nodes)
        attend(world)
        world.stacks.away = False
        reconcile(world, passes=5)

        assert answer.reason == "The node is being launched."
        assert world.nodes.get(NODE).status is NodeStatus.READY

    def test_request_during_a_deletion_gets_the_next_generation(self, nodes, ready):
        """Two stacks of a node never exist at the same time."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        attend(ready)
        during_deletion = request_node(nodes)
        reconcile(ready, passes=5)

        assert during_deletion.reason.startswith("The previous stack is going down first.")
        assert request_node(nodes).address
        assert ready.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert ready.stacks.most_at_once == 1


REFUSED = {
    "no such model": ({"model_id": "unknown"}, SCIENTIST, NotFound, "no model"),
    "model of another owner": ({}, STRANGER, AccessDenied, "another user"),
    "a model of another dataset": (
        {"dataset_id": OTHER_DATASET},
        SCIENTIST,
        InvalidRequest,
        "another dataset",
    ),
    "no such dataset": (
        {"dataset_id": "gone", "model_id": "orphan"},
        SCIENTIST,
        NotFound,
        "no dataset 'gone'",
    ),
    "a dataset that is not bought": (
        {"dataset_id": OTHER_DATASET, "model_id": "unpaid"},
        SCIENTIST,
        AccessDenied,
        "not purchased",
    ),
    "a login without an account": ({"model_id": "ghostly"}, STRANGER, AccessDenied, "no account"),
    "a withdrawn model": ({"model_id": "withdrawn"}, SCIENTIST, Conflict, "was withdrawn"),
}


@pytest.mark.parametrize(("changes", "caller", "error", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_request_changes_nothing(world, nodes, changes, caller, error, words):
    """Owner, dataset and purchase are checked before anything is written or launched."""
    world.put(a_dataset(dataset_id=OTHER_DATASET))
    world.put(a_submission())
    world.put(a_submission(model_id="orphan", dataset_id="gone"))
    world.put(a_submission(model_id="unpaid", dataset_id=OTHER_DATASET))
    world.put(a_submission(model_id="ghostly", owner=STRANGER.username))
    world.put(a_model(model_id="withdrawn", is_active=False))
    before = [world.dynamodb.items(table) for table in ("model_table", "training_table")]

    with pytest.raises(error, match=words):
        request_node(nodes, caller=caller, **changes)

    assert [world.dynamodb.items(table) for table in ("model_table", "training_table")] == before
    assert not world.nodes.get(NODE).should_run
    assert world.stacks.launched == []
    assert world.secrets.made == 0


@pytest.mark.parametrize("position", range(1, 16))
def test_two_requests_at_once_launch_once(world, position):
    """A second request and its reconciler step may interrupt any call of the first request."""
    world.put(a_submission())
    second = a_node_service(world)

    def interrupt():
        request_node(second)
        attend(world)

    first = a_node_service(world.through(Wire(position, interrupt)))
    request_node(first)
    attend(world)
    reconcile(world, passes=5)

    assert world.stacks.launched == [(NODE, 1)]
    assert list(world.secrets.passwords) == [(NODE, 1)]
    assert request_node(second) == request_node(first)
    assert request_node(first).address


@pytest.mark.parametrize("position", range(1, 25))
def test_two_reconcilers_at_once_launch_once(world, nodes, position):
    """A second reconciler may interrupt any call of the first; one stack and one secret are created."""
    world.put(a_submission())
    request_node(nodes)
    wire = Wire(position, lambda: a_reconciler(world).run_pass())
    a_reconciler(world.through(wire)).attend()
    reconcile(world, passes=5)

    assert world.stacks.launched == [(NODE, 1)]
    assert list(world.secrets.passwords) == [(NODE, 1)]
    assert world.nodes.get(NODE).status is NodeStatus.READY


class TestRetire:
    def test_owner_retires_an_unneeded_node(self, nodes, world, ready):
        """Retiring sets the desired state to stopped; the reconciler deletes stack, secret and address."""
        ready.models.withdraw(ready.models.get(MODEL), 0.0)
        is_retiring = nodes.retire(DATASET, caller=DEVELOPER, force=False)
        reconcile(world, passes=4)

        assert is_retiring
        assert world.stacks.standing(NODE) == []
        assert world.secrets.passwords == {}
        assert world.datasets.get(DATASET).node_address is None

    @pytest.mark.parametrize(
        "holding", [a_model(), a_model(is_active=False, percent_complete=100, retrieval_due=True)]
    )
    def test_unfinished_models_prevent_retirement(self, nodes, ready, holding):
        """Models that train, or are not yet in the bucket, cause a conflict; nothing changes."""
        ready.put(holding)

        with pytest.raises(Conflict, match="Unfinished models are on this node: 'net-1-ada'"):
            nodes.retire(DATASET, caller=DEVELOPER, force=False)
        assert ready.nodes.get(NODE).should_run

    def test_force_retires_a_needed_node(self, nodes, ready):
        """With `force`, the node is retired although a model trains on it."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(ready, passes=4)

        assert ready.stacks.standing(NODE) == []
        assert ready.models.get(MODEL).node_address is None
        assert ready.models.get(MODEL).is_training

    def test_only_the_owner_of_the_dataset_may_retire(self, nodes, ready):
        """The data scientist whose model trains on the node may not retire it."""
        with pytest.raises(AccessDenied, match="owner"):
            nodes.retire(DATASET, caller=SCIENTIST, force=True)
        assert ready.nodes.get(NODE).should_run

    def test_unknown_dataset_is_not_found(self, nodes):
        """Retiring the node of an unknown dataset raises NotFound."""
        with pytest.raises(NotFound):
            nodes.retire("nowhere", caller=DEVELOPER, force=True)

    def test_retiring_a_stopped_node_returns_false(self, nodes, world):
        """A node that was never requested, or is stopped already, is no error."""
        never = nodes.retire(DATASET, caller=DEVELOPER, force=False)
        world.nodes.request(DATASET, world.clock(), "ada")
        world.nodes.let_go(world.nodes.get(NODE))
        gone = nodes.retire(DATASET, caller=DEVELOPER, force=False)

        assert not never
        assert not gone

    @pytest.mark.usefixtures("ready")
    def test_create_during_a_retirement_takes_precedence(self, world):
        """A node that has just been requested is not retired."""
        world.models.withdraw(world.models.get(MODEL), 0.0)
        world.put(a_submission(model_id="next"))
        create = a_node_service(world)
        world.clock.tick(1)
        wire = Wire(3, lambda: request_node(create, model_id="next"))
        retire = a_node_service(world.through(wire))

        with pytest.raises(Conflict):
            retire.retire(DATASET, caller=DEVELOPER, force=False)
        assert world.nodes.get(NODE).should_run

    @pytest.mark.usefixtures("ready")
    @pytest.mark.parametrize("position", range(1, 6))
    def test_create_at_any_point_of_a_retirement_gets_its_node(self, world, position):
        """Either the retirement raises Conflict, or the node is launched again."""
        world.models.withdraw(world.models.get(MODEL), 0.0)
        world.put(a_submission(model_id="next"))
        create = a_node_service(world)
        world.clock.tick(1)
        wire = Wire(position, lambda: request_node(create, model_id="next"))
        retire = a_node_service(world.through(wire))
        with suppress(Conflict):
            retire.retire(DATASET, caller=DEVELOPER, force=False)
        request_node(create, model_id="next")
        reconcile(world, passes=8)

        assert request_node(create, model_id="next").address
        assert len(world.stacks.standing(NODE)) == 1
        assert world.stacks.most_at_once == 1


def test_purchase_of_another_account_does_not_count(world, nodes):
    """A caller can't use the model of another account, even after buying the same dataset."""
    world.put(a_user(user_id="mallory@example.org", username=STRANGER.username))
    world.put(a_submission())

    with pytest.raises(AccessDenied):
        request_node(nodes, caller=STRANGER)
    assert world.stacks.launched == []


class TestQuota:
    @pytest.fixture(autouse=True)
    def _purchases(self, world):
        """Put one dataset more than a data scientist may have nodes running, with a model on each."""
        self.datasets = [f"dataset {number}" for number in range(QUOTA.per_buyer + 1)]
        world.put(a_user(purchased=frozenset(self.datasets)))
        for dataset in self.datasets:
            world.put(a_dataset(dataset_id=dataset))
            world.put(a_submission(model_id=f"on {dataset}", dataset_id=dataset))

    def request(self, world, nodes, dataset):
        answer = request_node(
            nodes, dataset_id=dataset, model_id=f"on {dataset}", features=("age",), labels=("y",)
        )
        attend(world)
        return answer

    @pytest.fixture
    def refused(self, world, nodes):
        """Request as many nodes as are allowed and one more, and return the id of the refused one."""
        for dataset in self.datasets[:-1]:
            self.request(world, nodes, dataset)
        with pytest.raises(QuotaExceeded, match=f"No more than {QUOTA.per_buyer} nodes may run at once"):
            self.request(world, nodes, self.datasets[-1])
        attend(world)
        return node_id_of(self.datasets[-1])

    def test_one_node_too_many_is_refused(self, world, refused):
        """The quota bounds the cost that a stolen token can cause."""
        assert len(world.stacks.launched) == QUOTA.per_buyer
        assert world.nodes.get(refused) is None

    def test_refused_request_does_not_start_a_node_later(self, models, world, refused):
        """The node is not launched later when the quota has room again."""
        models.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        reconcile(world, passes=40)

        assert refused not in {node for node, _ in world.stacks.launched}

    @pytest.mark.usefixtures("refused")
    def test_stopped_node_frees_its_quota(self, nodes, models, world):
        """After its model is withdrawn and the idle time-out is over, another node may be launched."""
        models.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        reconcile(world, passes=40)

        assert self.request(world, nodes, self.datasets[-1]).reason == "The node is being launched."
        assert len(world.stacks.launched) == QUOTA.per_buyer + 1

    def test_launch_checks_the_quota_again(self, world, nodes):
        """The check of a request is not binding; the launch enforces the quota."""
        for dataset in self.datasets:
            request_node(nodes, dataset_id=dataset, model_id=f"on {dataset}")
        attend(world)

        assert len(world.stacks.launched) == QUOTA.per_buyer
        started = {node for node, _ in world.stacks.launched}
        (late,) = [dataset for dataset in self.datasets if node_id_of(dataset) not in started]
        with pytest.raises(QuotaExceeded):
            self.request(world, nodes, late)
        assert world.nodes.get(node_id_of(late)).desired_state is STOPPED

    def test_request_for_a_launched_node_is_not_taken_back(self, world, nodes):
        """The reconciler launches the node before the request checks the quota, which is then used up."""
        for dataset in self.datasets[:-2]:
            self.request(world, nodes, dataset)
        wire = Wire()
        wire.passed = lambda call: attend(world) if call == "dynamodb.update_item node_table" else None
        last = self.datasets[-2]
        answer = self.request(world, a_node_service(world.through(wire)), last)

        assert answer.address is None
        assert world.nodes.get(node_id_of(last)).should_run

    def test_refused_request_does_not_stop_the_node_of_another_user(self, world, nodes):
        """The other user's node waits for its next launch."""
        for dataset in self.datasets[:-1]:
            self.request(world, nodes, dataset)
        last = self.datasets[-1]
        world.nodes.request(last, world.clock(), STRANGER.username)
        with pytest.raises(QuotaExceeded):
            request_node(nodes, dataset_id=last, model_id=f"on {last}")
        node = world.nodes.get(node_id_of(last))

        assert (node.should_run, node.requested_by) == (True, STRANGER.username)
        assert not world.models.get(f"on {last}").is_accepted


@pytest.mark.usefixtures("submitted")
class TestBudget:
    def fail(self, world, nodes):
        """Let launches fail until the reconciler stops retrying."""
        world.stacks.failure = "Service: no image of this name."
        request_node(nodes)
        for _ in range(60):
            if reconcile(world, passes=1).nodes.get(NODE).status is NodeStatus.FAILED:
                return
        pytest.fail("The node never became FAILED.")

    def test_repeated_failures_end_in_an_error_with_the_reason(self, nodes, world):
        """After the allowed attempts the request raises NodeFailed with the reason."""
        self.fail(world, nodes)

        with pytest.raises(NodeFailed, match="no image of this name"):
            request_node(nodes)
        assert len(world.stacks.launched) == BUDGET.attempts
        assert world.nodes.get(NODE).charged_to is None
        assert world.secrets.passwords == {}

    def test_failed_node_causes_no_calls_during_the_cool_down(self, nodes, world):
        """Requests and passes of the reconciler do not call CloudFormation until the cool-down is over."""
        self.fail(world, nodes)
        world.stacks.away = True
        for _ in range(3):
            with pytest.raises(NodeFailed):
                request_node(nodes)

        assert world.nodes.get(NODE).status is NodeStatus.FAILED

    def test_request_after_the_cool_down_starts_a_new_budget(self, nodes, world):
        """The reconciler alone does not retry; a new request does."""
        self.fail(world, nodes)
        world.clock.tick(BUDGET.cool_down)
        reconcile(world, passes=10)
        launched_alone = len(world.stacks.launched)
        world.stacks.failure = ""
        at_once = request_node(nodes)
        reconcile(world, passes=10)

        assert launched_alone == BUDGET.attempts
        assert at_once.reason.startswith("The node is being launched.")
        assert request_node(nodes).address
        assert world.nodes.get(NODE).attempts == 0

    def test_refused_launches_count_as_attempts(self, nodes, world):
        """A launch that CloudFormation refuses uses up the budget like one that fails."""
        world.stacks.refusal = "LimitExceeded: 2,000 stacks."
        request_node(nodes)
        reconcile(world, passes=10)

        with pytest.raises(NodeFailed, match="2,000 stacks"):
            request_node(nodes)

    def test_refused_launch_keeps_the_stack_of_another_process(self, nodes, world, monkeypatch):
        """If two processes launch at once and one is refused, the other's stack stays in the record."""
        launch = world.stacks.launch

        def launched_by_another(node, secret):
            launch(node, secret)
            raise StackFailed("LimitExceeded: 2,000 stacks.")

        monkeypatch.setattr(world.stacks, "launch", launched_by_another)
        request_node(nodes)
        reconcile(world, passes=10)

        assert world.nodes.get(NODE).status is NodeStatus.READY
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [1]
        assert len(world.secrets.passwords) == 1
