"""`/create` for a model that the library has sent again: its item is as new, its record is not."""

import pytest

from orchestration.domain.cycle import Progress
from orchestration.domain.errors import Conflict, InvalidRequest
from orchestration.domain.node import node_id_of
from tests.builders import DATASET, MODEL, NOON, SCIENTIST, a_dataset, a_submission, a_user, submitted_item
from tests.processes import a_model_service, a_progress_service, reconcile, request_node

NODE = node_id_of(DATASET)
COLUMNS = {"features": ("age", "bmi"), "labels": ("progression",)}


@pytest.fixture
def hosted(world, nodes):
    """A model that its node hosts."""
    world.put(a_submission())
    request_node(nodes)
    reconcile(world, passes=5)
    world.models.record_hosted(world.models.get(MODEL), world.clock())
    return world


@pytest.fixture
def trained(hosted):
    """A trained model, whose node is stopped."""
    a_progress_service(hosted).record(MODEL, Progress(100), node=hosted.nodes.get(NODE))
    return reconcile(hosted)


def send_again(world, model_id=MODEL, **changes):
    """Write the whole item as artificienlib does."""
    item = submitted_item(model_id=model_id, **changes)
    world.dynamodb.put_item(TableName="model_table", Item=item)


def shown(world):
    item = world.item("model_table", MODEL)
    names = ("active_status", "percent_complete", "download_link", "dataset", "features")
    return {name: item.get(name) for name in names}


def costs(world):
    """Return what a launch would change."""
    counters = [item for item in world.dynamodb.items("node_table") if "dataset_id" not in item]
    return world.nodes.get(NODE), list(world.stacks.launched), counters


@pytest.mark.parametrize("later", [0, 60, 86_400])
@pytest.mark.parametrize("columns", [COLUMNS, {"features": ("x",), "labels": ("y",)}], ids=["same", "other"])
def test_trained_model_is_restored_and_refused(trained, nodes, later, columns):
    """It has its link and 100 per cent again; no node is launched, and no quota used."""
    before, paid = shown(trained), costs(trained)
    send_again(trained)
    trained.clock.tick(later)
    with pytest.raises(Conflict, match="already trained"):
        request_node(nodes, **columns)
    reconcile(trained)

    assert before["download_link"]
    assert (before["active_status"], before["percent_complete"]) == (0, 100)
    assert shown(trained) == before
    assert costs(trained) == paid
    assert trained.stacks.standing(NODE) == []


def test_trained_model_is_refused_in_any_spelling(trained, nodes):
    """The request comes within the hour after the model was complete."""
    send_again(trained, "Net-1-Ada")
    paid = costs(trained)
    with pytest.raises(Conflict, match="another name or version"):
        request_node(nodes, model_id="Net-1-Ada")
    reconcile(trained)

    assert costs(trained) == paid


def test_trained_model_is_restored_when_its_dataset_is_gone(trained, nodes):
    """The link stays valid, so the marketplace must show it."""
    before = shown(trained)
    trained.remove("dataset_table", DATASET)
    send_again(trained)
    with pytest.raises(Conflict, match="already trained"):
        request_node(nodes)

    assert shown(trained) == before


@pytest.mark.parametrize("state", ["hosted", "trained"])
def test_model_sent_again_for_another_dataset_is_restored(request, nodes, state):
    """A record never changes its dataset."""
    world = request.getfixturevalue(state)
    before = shown(world)
    world.put(a_dataset(dataset_id="steps"))
    world.put(a_user(purchased=frozenset({DATASET, "steps"})))
    send_again(world, dataset="steps")
    with pytest.raises((Conflict, InvalidRequest)):
        request_node(nodes, dataset_id="steps")

    assert shown(world) == before
    assert world.nodes.get(node_id_of("steps")) is None


def test_withdrawn_model_is_restored_and_refused(hosted, nodes):
    """It stays withdrawn."""
    a_model_service(hosted).withdraw(MODEL, caller=SCIENTIST)
    reconcile(hosted)
    before, paid = shown(hosted), costs(hosted)
    send_again(hosted)
    with pytest.raises(Conflict, match="was withdrawn"):
        request_node(nodes)
    reconcile(hosted)

    assert before["active_status"] == 0
    assert shown(hosted) == before
    assert costs(hosted) == paid


@pytest.mark.parametrize(
    "columns",
    [
        {"features": ("age",)},
        {"features": ("bmi", "age")},
        {"labels": ("y",)},
        {"features": ("progression",), "labels": ("age", "bmi")},
    ],
)
def test_hosted_model_keeps_its_columns(hosted, nodes, columns):
    """Devices have been given the first ones. The item is restored, and the training goes on."""
    before = shown(hosted)
    send_again(hosted)
    with pytest.raises(Conflict, match=r"trains already, on the features 'age', 'bmi' and .* 'progression'"):
        request_node(nodes, **columns)
    model = hosted.models.get(MODEL)

    assert (model.features, model.labels) == (("age", "bmi"), ("progression",))
    assert shown(hosted) == before
    assert request_node(nodes).address


def test_columns_may_be_replaced_before_the_upload(world, nodes):
    """No device has been given the first ones."""
    world.put(a_submission())
    request_node(nodes)
    request_node(nodes, features=("age",), labels=("y",))
    model = world.models.get(MODEL)

    assert (model.features, model.labels) == (("age",), ("y",))
    assert shown(world)["features"] == ["age"]


def test_model_is_uploaded_while_its_columns_are_replaced(world):
    """The write depends on it."""
    world.put(a_submission())
    model = world.models.accept(a_submission(), ("age",), ("y",), None, NOON)
    world.models.record_hosted(model, NOON)
    with pytest.raises(Conflict, match="trains already"):
        world.models.accept(model, ("bmi",), ("y",), None, NOON)

    assert world.models.get(MODEL).features == ("age",)
