"""What a phone is told."""

import pytest

from orchestration.domain.errors import NotFound, Unauthenticated
from orchestration.domain.node import NodeStatus, Wish
from orchestration.requests.devices import Work
from tests.builders import DATASET, LEGACY_KEY, MODEL, a_dataset, a_model, a_node, a_submission

UP = {"wish": Wish.UP, "status": NodeStatus.READY, "address": "node.test"}


@pytest.fixture
def work(catalogue):
    return lambda dataset_id=DATASET: catalogue.work(dataset_id, api_key=LEGACY_KEY)


def test_the_first_contact_marks_the_dataset_once(work, world):
    """The marketplace shows it only after that."""
    world.put(a_dataset(is_set_up=False))
    first, second = work(), work()

    assert first == Work(f"{DATASET} is properly configured", is_first_contact=True)
    assert world.datasets.get(DATASET).is_set_up
    assert second == Work("no node available yet")


@pytest.mark.parametrize(
    "node",
    [
        None,
        a_node(**UP | {"status": NodeStatus.DEPLOYING}),
        a_node(**UP | {"status": NodeStatus.RETIRING}),
        a_node(**UP | {"status": NodeStatus.ABSENT}),
        a_node(**UP | {"wish": Wish.DOWN}),
        a_node(**UP | {"address": None}),
    ],
    ids=["none", "deploying", "retiring", "absent", "wished down", "without an address"],
)
def test_while_no_node_is_up_a_phone_waits(work, world, node):
    """Nobody is sent to a node that isn't there or goes away."""
    world.put(a_model())
    if node:
        world.put(node)

    assert work() == Work("no node available yet")


def test_models_that_train_are_listed_with_the_node(work, world):
    """Neither complete nor withdrawn ones, nor what /create never accepted, nor another dataset's."""
    world.put(a_node(**UP))
    training = [a_model(), a_model(model_id="second", percent_complete=99)]
    others = [
        a_model(model_id="complete", percent_complete=100, is_active=False),
        a_model(model_id="100 but active", percent_complete=100),
        a_model(model_id="withdrawn", is_active=False),
        a_submission(model_id="left behind"),
        a_model(model_id="elsewhere", dataset_id="steps"),
    ]
    for model in (*training, *others):
        world.put(model)

    assert work() == Work(address="node.test", models=tuple(training))


def test_a_node_without_models_is_still_an_address(work, world):
    """An empty list is an answer that the pod reads."""
    world.put(a_node(**UP))

    assert work() == Work(address="node.test", models=())


def test_a_key_that_does_not_open_the_dataset_changes_nothing(catalogue, world):
    """Not even the first contact."""
    world.put(a_dataset(is_set_up=False))

    with pytest.raises(Unauthenticated):
        catalogue.work(DATASET, api_key="wrong")
    assert not world.datasets.get(DATASET).is_set_up


def test_an_unknown_dataset_is_not_found(work):
    """Whatever the key."""
    with pytest.raises(NotFound):
        work("nowhere")


def test_a_phone_causes_no_call_outside_the_tables(world, catalogue):
    """One process must not starve while another call waits for CloudFormation or a node."""
    world.stacks.away = True
    world.server.silent = True
    world.put(a_node(**UP))
    world.put(a_model())

    assert [model.model_id for model in catalogue.work(DATASET, api_key=LEGACY_KEY).models] == [MODEL]
