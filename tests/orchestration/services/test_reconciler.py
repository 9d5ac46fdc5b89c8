"""Sweeps: what is due is retrieved, what nobody needs goes, trouble stays where it is."""

import pytest

from orchestration.domain.errors import NodeUnreachable, UnusableModel, Upstream
from orchestration.domain.node import NodeStatus, Wish, node_id_of
from tests.builders import DATASET, MODEL, SCIENTIST, a_dataset, a_model, a_node, a_submission
from tests.processes import GRACE, a_node_service, a_reconciler, a_request, settle

NODE = node_id_of(DATASET)
DONE = {"is_active": False, "percent_complete": 100, "retrieval_due": True}


@pytest.fixture
def awake(world):
    """A node that is up, with one model in training on it."""
    world.models.add(a_submission())
    a_node_service(world).request(a_request(), caller=SCIENTIST)
    settle(world, sweeps=4)
    assert world.nodes.get(NODE).status is NodeStatus.READY
    return world


def test_a_complete_model_is_brought_home(awake, reconciler):
    """The file is in the bucket, the owner has a link, nothing is due any more."""
    awake.models.add(a_model(**DONE))
    reconciler.sweep()
    model = awake.models.get(MODEL)

    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.models.links == {MODEL: f"https://link.test/{MODEL}/{model.download_key}"}
    assert not model.retrieval_due


@pytest.mark.parametrize(
    "trouble", [NodeUnreachable("It did not answer."), UnusableModel("Other shapes."), Upstream("S3.")]
)
def test_a_retrieval_that_fails_is_tried_again_until_it_works(awake, reconciler, trouble):
    """A model was left at 100 % with no file once; the cause is kept while it isn't safe."""
    awake.models.add(a_model(**DONE))
    awake.server.troubles[MODEL] = [trouble] * 30
    causes = []
    for _ in range(30):
        reconciler.sweep()
        awake.clock.tick(GRACE)
        causes.append(awake.models.causes[MODEL])
    node = awake.nodes.get(NODE)
    reconciler.sweep()

    assert set(causes) == {str(trouble)}
    assert (node.status, node.wish) == (NodeStatus.READY, Wish.UP)
    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.models.causes == {}


def test_a_node_goes_only_when_its_model_is_safe(awake, reconciler):
    """However long the bucket is away."""
    awake.models.add(a_model(**DONE))
    awake.bucket.away = True
    for _ in range(10):
        reconciler.sweep()
        awake.clock.tick(GRACE * 10)
    waiting = len(awake.stacks.standing(NODE))
    awake.bucket.away = False
    settle(awake)

    assert waiting == 1
    assert awake.bucket.files == {MODEL: b"trained"}
    assert awake.stacks.standing(NODE) == []


def test_a_silent_node_keeps_its_unretrieved_model(awake, reconciler):
    """It is asked only when it answers; until then nothing is given up."""
    awake.models.add(a_model(**DONE))
    awake.server.silent = True
    settle(awake)
    awake.server.silent = False
    still_due = awake.models.get(MODEL).retrieval_due
    reconciler.sweep()

    assert still_due
    assert awake.bucket.files == {MODEL: b"trained"}


def test_one_model_in_trouble_does_not_keep_the_others_on_its_node(awake, reconciler):
    """Each is retrieved on its own."""
    awake.models.add(a_model(model_id="a bad one", **DONE))
    awake.models.add(a_model(**DONE))
    awake.server.troubles["a bad one"] = [UnusableModel("It can't be read.")] * 5
    reconciler.sweep()

    assert awake.bucket.files == {MODEL: b"trained"}


@pytest.mark.parametrize("trouble", [Upstream("away"), ValueError("a malformed item"), KeyError("x")])
def test_one_node_in_trouble_does_not_keep_the_others_waiting(world, logs, trouble, monkeypatch):
    """Expected or not: it is logged, and the sweep goes on."""
    world.nodes.add(a_node("bad", wish=Wish.UP))
    world.datasets.add(a_dataset(dataset_id="good"))
    world.nodes.add(a_node("good", wish=Wish.UP))
    describe = world.stacks.describe

    def faulty(node):
        if node.dataset_id == "bad":
            raise trouble
        return describe(node)

    monkeypatch.setattr(world.stacks, "describe", faulty)
    a_reconciler(world).sweep()

    assert world.stacks.launched == [(node_id_of("good"), 1)]
    assert [entry["node_id"] for entry in logs if entry["event"] == "node.not_reconciled"] == [
        node_id_of("bad")
    ]


def test_a_table_that_does_not_answer_is_asked_again_next_time(awake, reconciler, logs):
    """A sweep ends quietly, and the one after it goes on."""
    awake.nodes.away = True
    reconciler.sweep()
    awake.nodes.away = False
    reconciler.sweep()

    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["sweep.interrupted"]


def test_a_node_in_use_is_left_alone(awake, reconciler):
    """A model that trains holds it, for however long."""
    for _ in range(20):
        reconciler.sweep()
        awake.clock.tick(GRACE)

    assert awake.nodes.get(NODE).idle_since == 0.0
    assert len(awake.stacks.standing(NODE)) == 1


def test_an_idle_node_goes_after_its_grace(awake, reconciler):
    """Not at once: the next model may be on its way."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.sweep()
    idle_since = awake.clock.now
    awake.clock.tick(GRACE - 1)
    reconciler.sweep()
    just_before = awake.nodes.get(NODE)
    awake.clock.tick(1)
    reconciler.sweep()

    assert just_before.idle_since == idle_since
    assert just_before.wish is Wish.UP
    assert awake.nodes.get(NODE).wish is Wish.DOWN


def test_the_grace_begins_anew_when_somebody_needs_the_node_in_between(awake, reconciler):
    """Idle means without a break."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.sweep()
    awake.clock.tick(GRACE - 1)
    awake.models.add(a_model(model_id="next"))
    reconciler.sweep()
    awake.models.withdraw(awake.models.get("next"), awake.clock())
    awake.clock.tick(GRACE)
    reconciler.sweep()

    assert awake.nodes.get(NODE).wish is Wish.UP
    assert awake.nodes.get(NODE).idle_since == awake.clock.now


def test_asking_for_the_node_ends_its_idleness(awake, reconciler):
    """/create counts before the index shows its model."""
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    reconciler.sweep()
    awake.nodes.ask(DATASET, awake.clock())

    assert awake.nodes.get(NODE).idle_since == 0.0


def test_a_submission_that_create_never_accepted_holds_no_node(awake):
    """A failed /create leaves such an item behind, for ever."""
    awake.models.add(a_submission(model_id="left behind"))
    awake.models.withdraw(awake.models.get(MODEL), awake.clock())
    settle(awake)

    assert awake.stacks.standing(NODE) == []


def test_a_forced_retirement_still_brings_home_what_is_due_while_it_can(awake, reconciler):
    """The first sweep after it takes the stack down: what was not fetched stays due for the next life."""
    awake.models.add(a_model(**DONE))
    awake.nodes.let_go(awake.nodes.get(NODE))
    settle(awake)
    due = awake.models.get(MODEL).retrieval_due
    awake.nodes.ask(DATASET, awake.clock())
    settle(awake)

    assert due
    assert awake.bucket.files == {MODEL: b"trained"}


def test_two_reconcilers_side_by_side_do_no_harm(awake):
    """Any number of it may run."""
    awake.models.add(a_model(**DONE))
    for _ in range(12):
        a_reconciler(awake).sweep()
        a_reconciler(awake).sweep()
        awake.clock.tick(GRACE)

    assert awake.models.links.keys() == {MODEL}
    assert awake.stacks.launched == [(NODE, 1)]
    assert awake.stacks.standing(NODE) == []


def test_it_runs_until_it_is_told_to_stop(awake, reconciler):
    """One sweep for each wait that ends without the word."""
    waits = iter([False, False, True])
    awake.models.add(a_model(**DONE))
    reconciler.run(lambda: next(waits))

    assert awake.bucket.files == {MODEL: b"trained"}
    with pytest.raises(StopIteration):
        next(waits)
