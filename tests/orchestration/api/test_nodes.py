"""POST /create and /delete: exact responses."""

import pytest

from orchestration.domain.node import DesiredState, node_id_of
from tests.builders import DATASET, DEVELOPER, MODEL, a_model, a_submission
from tests.processes import QUOTA, UPLOAD_TOKENS, reconcile
from tests.web import bearer

RUNNING, STOPPED = DesiredState

CREATE = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["y"]}
NODE = node_id_of(DATASET)


@pytest.fixture
def create(post, world):
    world.put(a_submission())
    return lambda **changes: post("/create", CREATE | changes, bearer())


@pytest.fixture
def delete(post):
    return lambda body, username=DEVELOPER.username: post("/delete", body, bearer(username))


def test_first_response_is_deploying(create):
    """It has a reason and no `error`, which would end the library's polling."""
    answer = create()

    assert answer.status_code == 202
    assert answer.json == {"status": "deploying", "reason": "The node is being launched."}


def test_ready_response_contains_the_bare_host(create, world):
    """`nodeURL` has no port or scheme, because the library adds its own."""
    create()
    reconcile(world, passes=4)
    answer = create()

    assert answer.status_code == 200
    assert answer.json == {
        "status": "ready",
        "nodeURL": world.nodes.get(NODE).address,
        "upload_token": answer.json["upload_token"],
    }
    assert UPLOAD_TOKENS.is_valid(answer.json["upload_token"], NODE, MODEL, "1")
    assert ":" not in answer.json["nodeURL"]


def test_columns_are_recorded_as_sent(create, world):
    """Their order and non-ASCII characters are kept."""
    create(features=["é", "a b", "é"], labels=["y"])

    assert world.models.get(MODEL).features == ("é", "a b", "é")


COLUMNS = {
    "the most columns": (["x"] * 600, ["y"] * 400, 202),
    "one feature too many": (["x"] * 601, ["y"] * 400, 400),
    "one label too many": (["x"] * 600, ["y"] * 401, 400),
    "very many": (["x"] * 30_000, ["y"], 400),
    "the longest names": (["x" * 500] * 30, ["y" * 500] * 2, 202),
    "one byte too long": (["x" * 500] * 30, ["y" * 500, "y" * 500, "y"], 400),
    "the longest names that aren't ASCII": (["\u00fc" * 500] * 15, ["\u00fc" * 500], 202),
    "one byte too long, not ASCII": (["\u00fc" * 500] * 15, ["\u00fc" * 500, "y"], 400),
    "four bytes a letter": (["\U0001f493" * 512] * 8, ["y"], 400),
}


@pytest.mark.parametrize(("features", "labels", "status"), COLUMNS.values(), ids=COLUMNS)
def test_columns_are_limited(create, world, features, labels, status):
    """Every phone of the dataset downloads them, and they share the model's item with its history."""
    answer = create(features=features, labels=labels)

    assert answer.status_code == status
    assert world.models.get(MODEL).is_accepted is (status == 202)
    if status == 400:
        assert "at most 1,000 columns" in answer.json["error"] or "at most 16 kB" in answer.json["error"]


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"model_id": "unknown"}, 404, "no model"),
        ({"dataset_id": "other"}, 400, "another dataset"),
    ],
)
def test_invalid_request_ends_the_polling(create, world, changes, status, message):
    """Only `error` stops the library."""
    answer = create(**changes)

    assert answer.status_code == status
    assert message in answer.json["error"]
    assert world.stacks.launched == []


def test_model_of_another_user_is_forbidden(create, post, world):
    """The token identifies the caller, not the body."""
    create()
    before = world.dynamodb.items("model_table")
    answer = post("/create", CREATE | {"owner_name": "ada", "user_id": "ada"}, bearer("devi"))

    assert answer.status_code == 403
    assert "error" in answer.json
    assert world.dynamodb.items("model_table") == before


def test_withdrawn_model_is_a_conflict(create, world):
    """The error asks for a new name."""
    create()
    world.models.withdraw(world.models.get(MODEL), 0.0)
    answer = create()

    assert answer.status_code == 409
    assert "new name" in answer.json["error"]


def test_failure_of_cloudformation_does_not_affect_a_request(create, world):
    """The web process never calls CloudFormation."""
    world.stacks.away = True

    assert create().status_code == 202


def test_owner_retires_a_node(delete, world):
    """The response doesn't wait for the deletion of the stack."""
    world.nodes.request(DATASET, world.clock(), "ada")
    answer = delete({"dataset_id": DATASET})

    assert answer.status_code == 202
    assert answer.json == {"status": f"The node of dataset {DATASET} is going down."}
    assert not world.nodes.get(NODE).should_run


def test_retiring_a_missing_node_is_no_error(delete):
    """A repeated request succeeds."""
    answer = delete({"dataset_id": DATASET})

    assert answer.status_code == 200
    assert answer.json == {"status": f"Dataset {DATASET} has no node."}


def test_node_with_unfinished_models_is_a_conflict_unless_forced(delete, world):
    """The 409 names the models; `force` retires the node anyway."""
    world.put(a_model())
    world.nodes.request(DATASET, world.clock(), "ada")
    refused = delete({"dataset_id": DATASET})
    desired_state = world.nodes.get(NODE).desired_state
    forced = delete({"dataset_id": DATASET, "force": True})

    assert (refused.status_code, forced.status_code) == (409, 202)
    assert MODEL in refused.json["error"]
    assert desired_state is RUNNING
    assert not world.nodes.get(NODE).should_run


@pytest.mark.parametrize("username", ["ada", "mallory"])
def test_only_the_owner_retires_a_node(delete, world, username):
    """Other users get a 403."""
    world.nodes.request(DATASET, world.clock(), "ada")
    answer = delete({"dataset_id": DATASET, "force": True}, username)

    assert answer.status_code == 403
    assert world.nodes.get(NODE).should_run


def test_owner_withdraws_a_model(delete, world):
    """The response is a 200 with a sentence."""
    world.put(a_model())
    answer = delete({"model_id": MODEL}, "ada")

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is withdrawn."}
    assert not world.models.get(MODEL).is_active


def test_only_the_owner_withdraws_a_model(delete, world):
    """The dataset's owner can't."""
    world.put(a_model())

    assert delete({"model_id": MODEL}).status_code == 403
    assert world.models.get(MODEL).is_active


def test_exhausted_quota_is_a_429(create, world):
    """`error` stops the library; Retry-After is for other clients."""
    counter = {"node_id": "quota:all", "awake": QUOTA.in_all}
    world.dynamodb.put_item(TableName="node_table", Item=counter)
    answer = create()

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "60"
    assert answer.json == {"error": "No more than 5 nodes may run at once in all."}
