"""POST /info: exact responses, because the pod counts keys and force-casts values."""

import pytest

from orchestration.adapters.dynamo import DynamoModels, ModelItems
from tests.builders import DATASET, LEGACY_KEY, MODEL, a_dataset, a_model, a_node, model_item
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


@pytest.mark.parametrize("key", ["wrong", "art_" + "x" * 51, LEGACY_KEY])
def test_response_does_not_say_whether_a_dataset_exists(info, world, key):
    """The key is wrong, or that of another developer; status, headers and body are the same."""
    world.put(a_dataset(dataset_id="elsewhere", owner="otto"))
    known, *unknown = (
        info({"api_key": key}, dataset_id) for dataset_id in ("elsewhere", "nowhere", "x" * 512)
    )

    assert known.status_code == 401
    for answer in unknown:
        assert (answer.status_code, answer.data) == (known.status_code, known.data)
        assert answer.headers == known.headers


@pytest.mark.moto
@pytest.mark.usefixtures("node")
def test_malformed_rows_are_left_out(moto_table_of, world, shared_app, monkeypatch):
    """A null or a number in place of a string would crash the host app on the phone."""
    table = moto_table_of("training_table")
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
    half_written = model_item(a_model(model_id="half-written"))
    del half_written["version"]
    table.put(half_written)
    table.put(model_item())
    world.models = DynamoModels(table, ModelItems(moto_table_of("model_table")))
    services_on(world).bind(shared_app)
    answer = shared_app.test_client().post("/info", json={"dataset_id": DATASET}, headers=API_KEY)

    assert answer.status_code == 200
    assert answer.json == {"models": [[MODEL, "1", ["age", "bmi"], ["progression"]]], "nodeURL": "node.test"}


def test_node_with_desired_state_stopped_is_not_returned(info, world):
    """A device would lose what it trains on a node that is about to be deleted."""
    world.put(a_node(status="ready", address="node.test"))

    assert info().json == {"wait": "no node available yet"}
