"""The whole story of /create and /delete."""

from contextlib import suppress

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
    """The model's item, as artificienlib has just written it."""
    world.put(a_submission())


@pytest.fixture
def ready(world, submitted, nodes):
    """A node that is up, for a model that trains."""
    request_node(nodes)
    return reconcile(world, passes=5)


@pytest.mark.usefixtures("submitted")
class TestRequest:
    def test_request_is_recorded_and_answered(self, nodes, world):
        """The web process calls nothing but tables; the reconciler is not waited for."""
        answer = request_node(nodes)

        assert answer.address is None
        assert answer.reason == "The node is being launched."
        assert world.nodes.get(NODE).should_run
        assert world.nodes.needing_attention() == [NODE]
        assert (world.stacks.launched, world.secrets.made, world.node_databases.logins) == ([], 0, {})

    def test_reconciler_launches_the_node_at_once(self, nodes, world):
        """It does not wait for the next pass."""
        request_node(nodes)
        attend(world)

        assert world.stacks.launched == [(NODE, 1)]

    def test_second_request_does_not_launch_again(self, nodes, world):
        """A node that is deploying is waited for."""
        for _ in range(5):
            request_node(nodes)
            attend(world)

        assert world.stacks.launched == [(NODE, 1)]
        assert world.secrets.made == 1

    def test_polling_speeds_a_launch_up(self, nodes, world):
        """Each request makes the reconciler take a step: absent, creating, ready."""
        answers = []
        for _ in range(4):
            answers.append(request_node(nodes))
            attend(world)

        assert [answer.address is not None for answer in answers] == [False, False, False, True]
        assert answers[2].reason == "The node's stack is being created."
        assert answers[3].address == world.nodes.get(NODE).address

    def test_node_is_not_ready_before_it_answered_itself(self, nodes, world):
        """A stack is complete long before a client can connect."""
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

    def test_features_and_labels_are_recorded(self, nodes, world):
        """Phones and the marketplace read them from the model's item."""
        request_node(nodes, features=("x", "y"), labels=("z",))

        assert world.models.get(MODEL).features == ("x", "y")
        assert world.models.get(MODEL).labels == ("z",)

    def test_features_are_recorded_once(self, world):
        """The library sends the same request every 30 seconds; the item is written once."""
        wire = Wire()
        for _ in range(2):
            request_node(a_node_service(world.through(wire)))

        assert wire.calls.count("dynamodb.update_item model_table") == 1

    def test_model_and_dataset_show_the_address_of_a_ready_node(self, ready):
        """The marketplace reads node_URL, hasNode and nodeURL."""
        address = ready.nodes.get(NODE).address

        assert ready.models.get(MODEL).node_address == address
        assert ready.datasets.get(DATASET).node_address == address

    def test_second_model_gets_the_address_of_the_running_node(self, nodes, ready):
        """It needs no launch, and its item shows the address at once."""
        ready.put(a_submission(model_id="second"))
        answer = request_node(nodes, model_id="second")

        assert answer.address
        assert ready.models.get("second").node_address == answer.address
        assert len(ready.stacks.launched) == 1

    def test_id_is_looked_up_as_sent_and_then_in_lower_case(self, nodes, world):
        """The node knows the model by the name that was sent."""
        request_node(nodes, model_id="Net-1-ADA")

        assert world.models.get(MODEL).is_accepted
        assert world.models.get(MODEL).name_on_node == "Net-1-ADA"

    def test_id_in_its_own_letter_case_comes_first(self, nodes, world):
        """The library writes the item in the case it sends."""
        world.put(a_submission(model_id="Net-1-ada"))
        request_node(nodes, model_id="Net-1-ada")

        assert world.models.get("Net-1-ada").is_accepted
        assert not world.models.get(MODEL).is_accepted

    def test_failure_of_the_last_launch_is_in_every_answer(self, nodes, world):
        """Beside what is being waited for."""
        world.stacks.failure = "Service: the image can't be pulled."
        answers = []
        for _ in range(11):
            answers.append(request_node(nodes).reason)
            attend(world)

        assert len(set(answers)) > 2
        assert all("The last launch failed: Service: the image can't be pulled." in a for a in answers[3:])

    def test_launch_after_a_failed_one_can_succeed(self, nodes, world):
        """The broken stack is deleted, then the next generation starts; the old failure is forgotten."""
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
        """No quota, no cluster: the data scientist is told, and a later attempt may succeed."""
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
        """A stack that never completes is not waited for without end."""
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

    def test_request_is_recorded_while_cloudformation_is_away(self, nodes, world):
        """The caller is not affected, and the reconciler goes on when CloudFormation is back."""
        world.stacks.away = True
        answer = request_node(nodes)
        attend(world)
        world.stacks.away = False
        reconcile(world, passes=5)

        assert answer.reason == "The node is being launched."
        assert world.nodes.get(NODE).status is NodeStatus.READY

    def test_request_while_the_node_goes_down_gets_the_next_generation(self, nodes, ready):
        """Two stacks of a node never stand at once."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        attend(ready)
        while_going = request_node(nodes)
        reconcile(ready, passes=5)

        assert while_going.reason.startswith("The previous stack is going down first.")
        assert request_node(nodes).address
        assert ready.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert ready.stacks.most_at_once == 1


WHO_MAY_NOT = {
    "no such model": ({"model_id": "nobody's"}, SCIENTIST, NotFound, "no model"),
    "somebody else's model": ({}, STRANGER, AccessDenied, "somebody else"),
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
    "a withdrawn model": ({"model_id": "withdrawn"}, SCIENTIST, Conflict, "complete or withdrawn"),
}


@pytest.mark.parametrize(("changes", "caller", "error", "words"), WHO_MAY_NOT.values(), ids=WHO_MAY_NOT)
def test_who_is_not_entitled_is_told_why_and_nothing_changes(world, nodes, changes, caller, error, words):
    """Owner, dataset and purchase are checked before anything is written or launched."""
    world.put(a_dataset(dataset_id=OTHER_DATASET))
    world.put(a_submission())
    world.put(a_submission(model_id="orphan", dataset_id="gone"))
    world.put(a_submission(model_id="unpaid", dataset_id=OTHER_DATASET))
    world.put(a_submission(model_id="ghostly", owner=STRANGER.username))
    world.put(a_model(model_id="withdrawn", is_active=False))
    before = world.dynamodb.items("model_table")

    with pytest.raises(error, match=words):
        request_node(nodes, caller=caller, **changes)

    assert world.dynamodb.items("model_table") == before
    assert not world.nodes.get(NODE).should_run
    assert world.stacks.launched == []
    assert world.secrets.made == 0


@pytest.mark.parametrize("position", range(1, 12))
def test_two_requests_at_once_launch_once(world, position):
    """Whatever call of the first request the second one interrupts, and its step of the reconciler."""
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
    """Whatever call of the first one the second one interrupts: one stack, one secret."""
    world.put(a_submission())
    request_node(nodes)
    wire = Wire(position, lambda: a_reconciler(world).run_pass())
    a_reconciler(world.through(wire)).attend()
    reconcile(world, passes=5)

    assert world.stacks.launched == [(NODE, 1)]
    assert list(world.secrets.passwords) == [(NODE, 1)]
    assert world.nodes.get(NODE).status is NodeStatus.READY


class TestRetire:
    def test_the_owner_gives_up_a_node_that_nobody_needs(self, nodes, world, ready):
        """It is wished down; the reconciler takes it down."""
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
    def test_unfinished_models_hold_it(self, nodes, ready, holding):
        """Training, or complete but not yet safe in the bucket: 409, and nothing changes."""
        ready.put(holding)

        with pytest.raises(Conflict, match="Unfinished models are on this node: 'net-1-ada'"):
            nodes.retire(DATASET, caller=DEVELOPER, force=False)
        assert ready.nodes.get(NODE).should_run

    def test_force_takes_it_down_all_the_same(self, nodes, ready):
        """The owner's word is the last."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        reconcile(ready, passes=4)

        assert ready.stacks.standing(NODE) == []
        assert ready.models.get(MODEL).node_address is None
        assert ready.models.get(MODEL).is_training

    def test_only_the_owner_of_the_dataset_may(self, nodes, ready):
        """Not even the data scientist whose model is on it."""
        with pytest.raises(AccessDenied, match="owner"):
            nodes.retire(DATASET, caller=SCIENTIST, force=True)
        assert ready.nodes.get(NODE).should_run

    def test_an_unknown_dataset_is_not_found(self, nodes):
        """It has no owner either."""
        with pytest.raises(NotFound):
            nodes.retire("nowhere", caller=DEVELOPER, force=True)

    def test_without_a_node_there_is_nothing_to_do(self, nodes, world):
        """Never asked for, or gone already: no error."""
        never = nodes.retire(DATASET, caller=DEVELOPER, force=False)
        world.nodes.request(DATASET, world.clock(), "ada")
        world.nodes.let_go(world.nodes.get(NODE))
        gone = nodes.retire(DATASET, caller=DEVELOPER, force=False)

        assert not never
        assert not gone

    @pytest.mark.usefixtures("ready")
    def test_a_create_in_between_wins(self, world):
        """The node that somebody has just been promised isn't taken away."""
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
    def test_a_create_at_any_point_of_a_retirement_gets_its_node(self, world, position):
        """Either the owner hears of it, or the node comes up again: nobody waits for ever."""
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


def test_a_user_who_bought_it_from_a_second_account_is_somebody_else(world, nodes):
    """The caller's own row counts, not that of the model's owner."""
    world.put(a_user(user_id="mallory@example.org", username=STRANGER.username))
    world.put(a_submission())

    with pytest.raises(AccessDenied):
        request_node(nodes, caller=STRANGER)
    assert world.stacks.launched == []


class TestQuota:
    @pytest.fixture(autouse=True)
    def _purchases(self, world):
        """One more dataset than a data scientist may have awake, a model of theirs on each."""
        self.datasets = [f"dataset {number}" for number in range(QUOTA.per_buyer + 1)]
        world.put(a_user(purchased=frozenset(self.datasets)))
        for dataset in self.datasets:
            world.put(a_dataset(dataset_id=dataset))
            world.put(a_submission(model_id=f"on {dataset}", dataset_id=dataset))

    def ask(self, world, nodes, dataset):
        answer = request_node(
            nodes, dataset_id=dataset, model_id=f"on {dataset}", features=("age",), labels=("y",)
        )
        attend(world)
        return answer

    @pytest.fixture
    def refused(self, world, nodes):
        """As many nodes as are allowed, and the refused request for one more."""
        for dataset in self.datasets[:-1]:
            self.ask(world, nodes, dataset)
        with pytest.raises(QuotaExceeded, match=f"No more than {QUOTA.per_buyer} nodes may be awake"):
            self.ask(world, nodes, self.datasets[-1])
        attend(world)
        return node_id_of(self.datasets[-1])

    def test_one_node_too_many_is_refused(self, world, refused):
        """A stolen token can't spend without bound."""
        assert len(world.stacks.launched) == QUOTA.per_buyer
        assert not world.nodes.get(refused).should_run

    def test_refused_request_does_not_start_a_node_later(self, models, world, refused):
        """Not even when there is room again: its caller waits no longer."""
        models.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        reconcile(world, passes=40)

        assert refused not in {node for node, _ in world.stacks.launched}

    @pytest.mark.usefixtures("refused")
    def test_stopped_node_makes_room(self, nodes, models, world):
        """Its model was withdrawn, its idle time-out is over."""
        models.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        reconcile(world, passes=40)

        assert self.ask(world, nodes, self.datasets[-1]).reason == "The node is being launched."
        assert len(world.stacks.launched) == QUOTA.per_buyer + 1

    def test_quota_that_is_used_up_after_the_check_holds_at_the_launch(self, world, nodes):
        """The check of the request is not binding; the next request is refused."""
        for dataset in self.datasets:
            request_node(nodes, dataset_id=dataset, model_id=f"on {dataset}")
        attend(world)

        assert len(world.stacks.launched) == QUOTA.per_buyer
        started = {node for node, _ in world.stacks.launched}
        (late,) = [dataset for dataset in self.datasets if node_id_of(dataset) not in started]
        with pytest.raises(QuotaExceeded):
            self.ask(world, nodes, late)
        assert world.nodes.get(node_id_of(late)).desired_state is STOPPED

    def test_request_is_not_taken_back_from_a_node_that_was_launched(self, world, nodes):
        """The last place was free when the reconciler took it, and is taken when the request looks."""
        for dataset in self.datasets[:-2]:
            self.ask(world, nodes, dataset)
        wire = Wire()
        wire.passed = lambda call: attend(world) if call == "dynamodb.update_item node_table" else None
        last = self.datasets[-2]
        answer = self.ask(world, a_node_service(world.through(wire)), last)

        assert answer.address is None
        assert world.nodes.get(node_id_of(last)).should_run


@pytest.mark.usefixtures("submitted")
class TestBudget:
    def fail(self, world, nodes):
        """Launches fail, until the node is given up."""
        world.stacks.failure = "Service: no image of this name."
        request_node(nodes)
        for _ in range(60):
            if reconcile(world, passes=1).nodes.get(NODE).status is NodeStatus.FAILED:
                return
        pytest.fail("It was never given up.")

    def test_a_node_that_fails_time_and_again_is_given_up_with_its_cause(self, nodes, world):
        """`error` stops the library; a failed stack was "deploying" for ever once."""
        self.fail(world, nodes)

        with pytest.raises(NodeFailed, match="no image of this name"):
            request_node(nodes)
        assert len(world.stacks.launched) == BUDGET.attempts
        assert world.nodes.get(NODE).charged_to is None
        assert world.secrets.passwords == {}

    def test_until_the_cool_down_is_over_aws_is_not_even_asked(self, nodes, world):
        """Whoever asks, and however often the reconciler looks."""
        self.fail(world, nodes)
        world.stacks.away = True
        for _ in range(3):
            with pytest.raises(NodeFailed):
                request_node(nodes)

        assert world.nodes.get(NODE).status is NodeStatus.FAILED

    def test_asking_after_the_cool_down_opens_a_new_budget(self, nodes, world):
        """Not the reconciler: nobody may be waiting any more."""
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

    def test_refusals_count_as_well(self, nodes, world):
        """CloudFormation may not even begin."""
        world.stacks.refusal = "LimitExceeded: 2,000 stacks."
        request_node(nodes)
        reconcile(world, passes=10)

        with pytest.raises(NodeFailed, match="2,000 stacks"):
            request_node(nodes)

    def test_a_refusal_does_not_forget_a_stack_that_another_process_got(self, nodes, world, monkeypatch):
        """Two launch at once, one is refused, the other is not: its stack must not be left to nobody."""
        launch = world.stacks.launch

        def other_got_it(node, secret):
            launch(node, secret)
            raise StackFailed("LimitExceeded: 2,000 stacks.")

        monkeypatch.setattr(world.stacks, "launch", other_got_it)
        request_node(nodes)
        reconcile(world, passes=10)

        assert world.nodes.get(NODE).status is NodeStatus.READY
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [1]
        assert len(world.secrets.passwords) == 1
