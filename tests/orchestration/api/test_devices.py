"""POST /info: exact responses, because the pod counts keys and force-casts values."""

import pytest

from orchestration.adapters.dynamo import DynamoModels
from tests.builders import DATASET, MODEL, a_dataset, a_model, a_node, model_item, submitted_item
from tests.web import API_KEY, services_on


@pytest.fixture
def info(post):
    return lambda headers=API_KEY, dataset_id=DATASET: post("/info", {"dataset_id": dataset_id}, headers)


def test_first_request_confirms_the_setup(info, world):
    """The response has one key and the exact sentence that the pod expects."""
    world.put(a_dataset(is_set_up=False))
    answer = info()

    assert answer.status_code == 200
    assert answer.json == {"success": f"{DATASET} is properly configured"}
    assert world.datasets.get(DATASET).is_set_up


def test_dataset_without_node_returns_wait(info):
    """A response with one key means that there is nothing to train."""
    assert info().json == {"wait": "no node available yet"}


@pytest.mark.usefixtures("node")
def test_running_node_returns_models_and_host(info, world):
    """Each model is `[model_id, version, features, labels]`, all strings; `nodeURL` is a bare host."""
    world.put(a_model(hosted_as="Net-1-Ada"))
    answer = info()

    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json == {
        "models": [["Net-1-Ada", "1", ["age", "bmi"], ["progression"]]],
        "nodeURL": "node.test",
    }


@pytest.mark.usefixtures("node")
def test_node_without_models_returns_an_empty_list(info):
    """The response still has both keys."""
    assert info().json == {"models": [], "nodeURL": "node.test"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"api_key": ""},
        {"api_key": "wrong"},
        {"api_key": "art_…cafe".encode().decode("latin-1")},
        {"api-key": "x"},
    ],
    ids=["none", "empty", "wrong", "a hint", "with a hyphen"],
)
def test_missing_or_wrong_key_is_unauthenticated(info, headers):
    """The pod treats a 401 like a response without models."""
    answer = info(headers)

    assert answer.status_code == 401
    assert "error" in answer.json


def test_unknown_dataset_is_not_found(info):
    """The response is a 404 in JSON."""
    assert info(dataset_id="nowhere").status_code == 404


@pytest.mark.moto
@pytest.mark.usefixtures("node")
def test_malformed_rows_are_left_out(moto_table_of, world, shared_app, monkeypatch):
    """A null or a number in place of a string would crash the host app on the phone."""
    table = moto_table_of("model_table")
    rows = {
        "null version": {"version": None},
        "numeric version": {"version": 3},
        "numeric feature": {"features": ["age", 7]},
        "null feature": {"features": ["age", None]},
        "missing labels": {"labels": None},
        "labels as text": {"labels": "y"},
        "no features at all": {"features": []},
        "percent as text": {"percent_complete": "half"},
        "percent above 100": {"percent_complete": 150},
    }
    for name, faulty in rows.items():
        item = model_item(a_model(model_id=name)) | faulty
        table.client.put_item(TableName=table.name, Item=item)
    half_written = submitted_item(model_id="half-written")
    del half_written["version"]
    table.put(half_written)
    table.put(submitted_item(model_id="left behind"))
    table.put(model_item())
    world.models = DynamoModels(table)
    services_on(world).bind(shared_app)
    answer = shared_app.test_client().post("/info", json={"dataset_id": DATASET}, headers=API_KEY)

    assert answer.status_code == 200
    assert answer.json == {"models": [[MODEL, "1", ["age", "bmi"], ["progression"]]], "nodeURL": "node.test"}


def test_node_with_desired_state_stopped_is_not_returned(info, world):
    """A device would lose what it trains on a node that is about to be deleted."""
    world.put(a_node(status="ready", address="node.test"))

    assert info().json == {"wait": "no node available yet"}
