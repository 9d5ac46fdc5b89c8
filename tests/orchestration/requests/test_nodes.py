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
    Upstream,
)
from orchestration.domain.node import NodeStatus, Wish, node_id_of
from orchestration.requests.nodes import NodeRequest
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
from tests.processes import BUDGET, DEADLINE, QUOTA, a_node_service, a_reconciler, a_request, settle

NODE = node_id_of(DATASET)
OTHER_DATASET = "steps"


@pytest.fixture
def submitted(world):
    """The model's item, as artificienlib has just written it."""
    world.put(a_submission())


@pytest.fixture
def ready(world, submitted, nodes):
    """A node that is up, for a model that trains."""
    nodes.request(a_request(), caller=SCIENTIST)
    return settle(world, sweeps=5)


@pytest.mark.usefixtures("submitted")
class TestCreate:
    def test_the_first_request_launches_and_says_so(self, nodes, world):
        """The answer comes at once; it never waits for the node."""
        answer = nodes.request(a_request(), caller=SCIENTIST)

        assert world.stacks.launched == [(NODE, 1)]
        assert not answer.is_ready
        assert answer.address is None
        assert answer.reason == "The node is being launched."

    def test_a_second_request_does_not_launch_again(self, nodes, world):
        """A node that is deploying is waited for."""
        for _ in range(5):
            nodes.request(a_request(), caller=SCIENTIST)

        assert world.stacks.launched == [(NODE, 1)]
        assert world.secrets.made == 1

    def test_polling_alone_brings_a_node_up(self, nodes, world):
        """/create takes the same steps as the reconciler: absent, creating, ready."""
        answers = [nodes.request(a_request(), caller=SCIENTIST) for _ in range(3)]

        assert [answer.is_ready for answer in answers] == [False, False, True]
        assert answers[1].reason == "The node's stack is being created."
        assert answers[2].address == world.nodes.get(NODE).address

    def test_a_complete_stack_is_not_ready_before_the_node_itself_answered(self, nodes, world):
        """A stack is complete long before a client can connect."""
        world.server.silent = True
        before = [nodes.request(a_request(), caller=SCIENTIST) for _ in range(6)][-1]
        world.server.silent = False
        after = nodes.request(a_request(), caller=SCIENTIST)

        assert not before.is_ready
        assert before.reason == "The stack is complete; the node itself doesn't answer yet."
        assert after.is_ready

    def test_features_and_labels_are_recorded(self, nodes, world):
        """Phones and the marketplace read them from the model's item."""
        nodes.request(a_request(features=("x", "y"), labels=("z",)), caller=SCIENTIST)

        assert world.models.get(MODEL).features == ("x", "y")
        assert world.models.get(MODEL).labels == ("z",)

    def test_features_are_recorded_once(self, world):
        """The library asks every 30 seconds with the same words; the item is written once."""
        wire = Wire()
        for _ in range(2):
            a_node_service(world.through(wire)).request(a_request(), caller=SCIENTIST)

        assert wire.calls.count("dynamodb.update_item model_table") == 1

    def test_when_the_node_is_ready_model_and_dataset_show_where(self, ready):
        """The marketplace reads node_URL, hasNode and nodeURL."""
        address = ready.nodes.get(NODE).address

        assert ready.models.get(MODEL).node_address == address
        assert ready.datasets.get(DATASET).node_address == address

    def test_a_second_model_is_shown_the_node_that_is_up(self, nodes, ready):
        """It needs no launch and no wait."""
        ready.put(a_submission(model_id="second"))
        answer = nodes.request(a_request(model_id="second"), caller=SCIENTIST)

        assert answer.is_ready
        assert ready.models.get("second").node_address == answer.address
        assert len(ready.stacks.launched) == 1

    def test_an_id_is_looked_up_as_sent_and_then_in_lower_case(self, nodes, world):
        """A model id with a capital letter gave 500 once."""
        nodes.request(a_request(model_id="Net-1-ADA"), caller=SCIENTIST)

        assert world.models.get(MODEL).is_accepted
        assert world.models.get(MODEL).name_on_node == "Net-1-ADA"

    def test_an_id_in_its_own_letter_case_comes_first(self, nodes, world):
        """The library writes the item in the case it sends."""
        world.put(a_submission(model_id="Net-1-ada"))
        nodes.request(a_request(model_id="Net-1-ada"), caller=SCIENTIST)

        assert world.models.get("Net-1-ada").is_accepted
        assert not world.models.get(MODEL).is_accepted

    def test_the_cause_of_a_failed_launch_is_in_the_answer(self, nodes, world):
        """A failed stack was "deploying, please wait" for ever once."""
        world.stacks.failure = "Service: the image can't be pulled."
        nodes.request(a_request(), caller=SCIENTIST)
        answers = [nodes.request(a_request(), caller=SCIENTIST).reason for _ in range(9)]

        assert len(set(answers)) > 2, "it is told what is going on as well"
        assert all("The last launch failed: Service: the image can't be pulled." in a for a in answers[1:])

    def test_after_a_failed_launch_the_next_one_can_succeed(self, nodes, world):
        """The broken stack goes first, then a new generation comes; the old cause is forgotten."""
        world.stacks.failure = "Service: no capacity."
        nodes.request(a_request(), caller=SCIENTIST)
        settle(world, sweeps=2)
        world.stacks.failure = ""
        settle(world, sweeps=10)

        assert nodes.request(a_request(), caller=SCIENTIST).is_ready
        assert world.nodes.get(NODE).failure == ""
        assert world.nodes.get(NODE).generation > 1
        assert world.stacks.most_at_once == 1

    def test_a_refused_launch_is_tried_again_and_its_cause_is_told(self, nodes, world):
        """No quota, no cluster: the data scientist hears it, and a later try may do."""
        world.stacks.refusal = "LimitExceeded: 2,000 stacks."
        refused = nodes.request(a_request(), caller=SCIENTIST)
        world.stacks.refusal = ""
        at_once = nodes.request(a_request(), caller=SCIENTIST)
        world.clock.tick(30)
        nodes.request(a_request(), caller=SCIENTIST)

        assert "LimitExceeded: 2,000 stacks." in refused.reason
        assert "LimitExceeded: 2,000 stacks." in at_once.reason
        assert world.stacks.launched == [(NODE, 1)]
        assert world.nodes.get(NODE).attempts == 2

    def test_a_launch_past_its_deadline_is_given_up_and_tried_anew(self, nodes, world):
        """A stack that never completes is not waited for for ever."""
        world.stacks.hangs = True
        nodes.request(a_request(), caller=SCIENTIST)
        world.clock.tick(DEADLINE + 1)
        given_up = nodes.request(a_request(), caller=SCIENTIST)
        world.stacks.hangs = False
        settle(world, sweeps=6)

        assert "longer than 600 s" in given_up.reason
        assert world.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [2]

    def test_cloudformation_that_does_not_answer_is_an_error_for_the_caller(self, nodes, world):
        """The wish is written down all the same, and the next one who looks goes on from there."""
        world.stacks.away = True
        with pytest.raises(Upstream, match="CloudFormation"):
            nodes.request(a_request(), caller=SCIENTIST)
        world.stacks.away = False
        settle(world, sweeps=5)

        assert world.nodes.get(NODE).status is NodeStatus.READY

    def test_a_request_while_the_node_goes_down_gets_the_next_one(self, nodes, ready):
        """The stack that goes is let go; a new generation follows it."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        a_reconciler(ready).sweep()
        while_going = nodes.request(a_request(), caller=SCIENTIST)
        settle(ready, sweeps=5)

        assert while_going.reason.startswith("The previous stack is going down first.")
        assert nodes.request(a_request(), caller=SCIENTIST).is_ready
        assert ready.stacks.launched == [(NODE, 1), (NODE, 2)]
        assert ready.stacks.most_at_once == 1


WHO_MAY_NOT = {
    "no such model": (a_request(model_id="nobody's"), SCIENTIST, NotFound, "no model"),
    "somebody else's model": (a_request(), STRANGER, AccessDenied, "somebody else"),
    "a model of another dataset": (
        a_request(dataset_id=OTHER_DATASET),
        SCIENTIST,
        InvalidRequest,
        "another dataset",
    ),
    "no such dataset": (
        a_request(dataset_id="gone", model_id="orphan"),
        SCIENTIST,
        NotFound,
        "no dataset 'gone'",
    ),
    "a dataset that is not bought": (
        a_request(dataset_id=OTHER_DATASET, model_id="unpaid"),
        SCIENTIST,
        AccessDenied,
        "not purchased",
    ),
    "a login without an account": (a_request(model_id="ghostly"), STRANGER, AccessDenied, "no account"),
    "a withdrawn model": (a_request(model_id="withdrawn"), SCIENTIST, Conflict, "complete or withdrawn"),
}


@pytest.mark.parametrize(("request_", "caller", "error", "words"), WHO_MAY_NOT.values(), ids=WHO_MAY_NOT)
def test_who_is_not_entitled_is_told_why_and_nothing_changes(world, nodes, request_, caller, error, words):
    """Owner, dataset and purchase are checked before anything is written or launched."""
    world.put(a_dataset(dataset_id=OTHER_DATASET))
    world.put(a_submission())
    world.put(a_submission(model_id="orphan", dataset_id="gone"))
    world.put(a_submission(model_id="unpaid", dataset_id=OTHER_DATASET))
    world.put(a_submission(model_id="ghostly", owner=STRANGER.username))
    world.put(a_model(model_id="withdrawn", is_active=False))
    before = world.dynamodb.items("model_table")

    with pytest.raises(error, match=words):
        nodes.request(request_, caller=caller)

    assert world.dynamodb.items("model_table") == before
    assert world.nodes.get(NODE).wish is Wish.DOWN
    assert world.stacks.launched == []
    assert world.secrets.made == 0


@pytest.mark.parametrize("position", range(1, 30))
def test_two_at_once_launch_once(world, position):
    """Whatever the second request interrupts, one stack, one secret, and the same answer in the end."""
    world.put(a_submission())
    second = a_node_service(world)
    wire = Wire(position, lambda: second.request(a_request(), caller=SCIENTIST))
    first = a_node_service(world.through(wire))
    first.request(a_request(), caller=SCIENTIST)
    settle(world, sweeps=5)

    assert world.stacks.launched == [(NODE, 1)]
    assert list(world.secrets.passwords) == [(NODE, 1)]
    assert second.request(a_request(), caller=SCIENTIST) == first.request(a_request(), caller=SCIENTIST)


class TestRetire:
    def test_the_owner_gives_up_a_node_that_nobody_needs(self, nodes, world, ready):
        """It is wished down; the reconciler takes it down."""
        ready.models.withdraw(ready.models.get(MODEL), 0.0)
        node = nodes.retire(DATASET, caller=DEVELOPER, force=False)
        settle(world, sweeps=4)

        assert node.wish is Wish.DOWN
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
        assert ready.nodes.get(NODE).wish is Wish.UP

    def test_force_takes_it_down_all_the_same(self, nodes, ready):
        """The owner's word is the last."""
        nodes.retire(DATASET, caller=DEVELOPER, force=True)
        settle(ready, sweeps=4)

        assert ready.stacks.standing(NODE) == []
        assert ready.models.get(MODEL).node_address is None
        assert ready.models.get(MODEL).is_training

    def test_only_the_owner_of_the_dataset_may(self, nodes, ready):
        """Not even the data scientist whose model is on it."""
        with pytest.raises(AccessDenied, match="owner"):
            nodes.retire(DATASET, caller=SCIENTIST, force=True)
        assert ready.nodes.get(NODE).wish is Wish.UP

    def test_an_unknown_dataset_is_not_found(self, nodes):
        """It has no owner either."""
        with pytest.raises(NotFound):
            nodes.retire("nowhere", caller=DEVELOPER, force=True)

    def test_without_a_node_there_is_nothing_to_do(self, nodes, world):
        """Never asked for, or gone already: no error."""
        never = nodes.retire(DATASET, caller=DEVELOPER, force=False)
        world.nodes.ask(DATASET, world.clock(), "ada")
        world.nodes.let_go(world.nodes.get(NODE))
        gone = nodes.retire(DATASET, caller=DEVELOPER, force=False)

        assert never is None
        assert gone is None

    @pytest.mark.usefixtures("ready")
    def test_a_create_in_between_wins(self, world):
        """The node that somebody has just been promised isn't taken away."""
        world.models.withdraw(world.models.get(MODEL), 0.0)
        world.put(a_submission(model_id="next"))
        create = a_node_service(world)
        world.clock.tick(1)
        wire = Wire(3, lambda: create.request(a_request(model_id="next"), caller=SCIENTIST))
        retire = a_node_service(world.through(wire))

        with pytest.raises(Conflict):
            retire.retire(DATASET, caller=DEVELOPER, force=False)
        assert world.nodes.get(NODE).wish is Wish.UP

    @pytest.mark.usefixtures("ready")
    @pytest.mark.parametrize("position", range(1, 6))
    def test_a_create_at_any_point_of_a_retirement_gets_its_node(self, world, position):
        """Either the owner hears of it, or the node comes up again: nobody waits for ever."""
        world.models.withdraw(world.models.get(MODEL), 0.0)
        world.put(a_submission(model_id="next"))
        request = a_request(model_id="next")
        create = a_node_service(world)
        world.clock.tick(1)
        wire = Wire(position, lambda: create.request(request, caller=SCIENTIST))
        retire = a_node_service(world.through(wire))
        with suppress(Conflict):
            retire.retire(DATASET, caller=DEVELOPER, force=False)
        create.request(request, caller=SCIENTIST)
        settle(world, sweeps=8)

        assert create.request(request, caller=SCIENTIST).is_ready
        assert len(world.stacks.standing(NODE)) == 1
        assert world.stacks.most_at_once == 1


class TestWithdraw:
    def test_the_owner_ends_the_training(self, nodes, world):
        """The model is inactive and keeps no claim on its node."""
        world.put(a_model())
        nodes.withdraw(MODEL, caller=SCIENTIST)

        assert not world.models.get(MODEL).is_active
        assert world.models.get(MODEL).ended_at == world.clock.now

    def test_a_complete_model_loses_its_link_and_is_not_retrieved_any_more(self, nodes, world):
        """Withdrawing takes back what was handed out."""
        world.put(a_model(is_active=False, percent_complete=100, retrieval_due=True, download_key="k"))
        nodes.withdraw(MODEL, caller=SCIENTIST)

        assert world.models.get(MODEL).download_key is None
        assert world.models.to_retrieve(DATASET) == []

    def test_nobody_else_may(self, nodes, world):
        """Not even the dataset's owner."""
        world.put(a_model())

        for caller in (STRANGER, DEVELOPER):
            with pytest.raises(AccessDenied):
                nodes.withdraw(MODEL, caller=caller)
        assert world.models.get(MODEL).is_active

    def test_an_unknown_model_is_not_found(self, nodes):
        """A withdrawal never makes an item."""
        with pytest.raises(NotFound):
            nodes.withdraw("nobody's", caller=SCIENTIST)

    def test_twice_is_as_once(self, nodes, world):
        """A client that lost the answer may send it again."""
        world.put(a_model())
        first = nodes.withdraw(MODEL, caller=SCIENTIST)
        second = nodes.withdraw(MODEL, caller=SCIENTIST)

        assert first.model_id == second.model_id == MODEL

    def test_the_node_of_the_last_model_goes_after_it(self, nodes, ready):
        """A withdrawn model holds nothing awake."""
        nodes.withdraw(MODEL, caller=SCIENTIST)
        settle(ready)

        assert ready.stacks.standing(NODE) == []


def test_a_user_who_bought_it_from_a_second_account_is_somebody_else(world, nodes):
    """The caller's own row counts, not that of the model's owner."""
    world.put(a_user(user_id="mallory@example.org", username=STRANGER.username))
    world.put(a_submission())

    with pytest.raises(AccessDenied):
        nodes.request(a_request(), caller=STRANGER)
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

    def ask(self, nodes, dataset):
        wanted = NodeRequest(dataset, f"on {dataset}", ("age",), ("y",))
        return nodes.request(wanted, caller=SCIENTIST)

    def test_one_node_too_many_is_refused(self, nodes, world):
        """A stolen token can't spend without bound."""
        for dataset in self.datasets[:-1]:
            self.ask(nodes, dataset)
        with pytest.raises(QuotaExceeded):
            self.ask(nodes, self.datasets[-1])

        assert len(world.stacks.launched) == QUOTA.per_buyer

    def test_what_was_refused_does_not_come_up_by_itself(self, nodes, world):
        """Not even when there is room again: nobody waits for it any more."""
        for dataset in self.datasets[:-1]:
            self.ask(nodes, dataset)
        with pytest.raises(QuotaExceeded):
            self.ask(nodes, self.datasets[-1])
        nodes.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        settle(world, sweeps=40)

        assert node_id_of(self.datasets[-1]) not in {node for node, _ in world.stacks.launched}

    def test_a_node_that_is_gone_makes_room(self, nodes, world):
        """Its model was withdrawn, its grace is over."""
        for dataset in self.datasets[:-1]:
            self.ask(nodes, dataset)
        nodes.withdraw(f"on {self.datasets[0]}", caller=SCIENTIST)
        settle(world, sweeps=40)

        assert not self.ask(nodes, self.datasets[-1]).is_ready


@pytest.mark.usefixtures("submitted")
class TestBudget:
    def fail(self, world, nodes):
        """Launches fail, until the node is given up."""
        world.stacks.failure = "Service: no image of this name."
        nodes.request(a_request(), caller=SCIENTIST)
        for _ in range(60):
            if settle(world, sweeps=1).nodes.get(NODE).status is NodeStatus.FAILED:
                return
        pytest.fail("It was never given up.")

    def test_a_node_that_fails_time_and_again_is_given_up_with_its_cause(self, nodes, world):
        """`error` stops the library; a failed stack was "deploying" for ever once."""
        self.fail(world, nodes)

        with pytest.raises(NodeFailed, match="no image of this name"):
            nodes.request(a_request(), caller=SCIENTIST)
        assert len(world.stacks.launched) == BUDGET.attempts
        assert world.nodes.get(NODE).charged_to is None
        assert world.secrets.passwords == {}

    def test_until_the_cool_down_is_over_aws_is_not_even_asked(self, nodes, world):
        """Whoever asks, and however often the reconciler looks."""
        self.fail(world, nodes)
        world.stacks.away = True
        for _ in range(3):
            with pytest.raises(NodeFailed):
                nodes.request(a_request(), caller=SCIENTIST)

        assert world.nodes.get(NODE).status is NodeStatus.FAILED

    def test_asking_after_the_cool_down_opens_a_new_budget(self, nodes, world):
        """Not the reconciler: nobody may be waiting any more."""
        self.fail(world, nodes)
        world.clock.tick(BUDGET.cool_down)
        settle(world, sweeps=10)
        launched_alone = len(world.stacks.launched)
        world.stacks.failure = ""
        nodes.request(a_request(), caller=SCIENTIST)
        settle(world, sweeps=10)

        assert launched_alone == BUDGET.attempts
        assert nodes.request(a_request(), caller=SCIENTIST).is_ready
        assert world.nodes.get(NODE).attempts == 0

    def test_refusals_count_as_well(self, nodes, world):
        """CloudFormation may not even begin."""
        world.stacks.refusal = "LimitExceeded: 2,000 stacks."
        nodes.request(a_request(), caller=SCIENTIST)
        settle(world, sweeps=10)

        with pytest.raises(NodeFailed, match="2,000 stacks"):
            nodes.request(a_request(), caller=SCIENTIST)

    def test_a_refusal_does_not_forget_a_stack_that_another_process_got(self, nodes, world, monkeypatch):
        """Two launch at once, one is refused, the other is not: its stack must not be left to nobody."""
        launch = world.stacks.launch

        def other_got_it(node, secret):
            launch(node, secret)
            raise StackFailed("LimitExceeded: 2,000 stacks.")

        monkeypatch.setattr(world.stacks, "launch", other_got_it)
        nodes.request(a_request(), caller=SCIENTIST)
        settle(world, sweeps=10)

        assert world.nodes.get(NODE).status is NodeStatus.READY
        assert [stack.generation for stack in world.stacks.standing(NODE)] == [1]
        assert len(world.secrets.passwords) == 1
