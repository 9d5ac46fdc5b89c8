"""POST /create and /delete, to the letter."""

import pytest

from orchestration.domain.node import DesiredState, node_id_of
from tests.builders import DATASET, DEVELOPER, MODEL, a_model, a_submission
from tests.processes import QUOTA, reconcile
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


def test_the_first_answer_is_deploying(create):
    """At once, with a reason; no `error`, or the library would give up."""
    answer = create()

    assert answer.status_code == 202
    assert answer.json == {"status": "deploying", "reason": "The node is being launched."}


def test_ready_names_the_bare_host(create, world):
    """`nodeURL` without port or scheme: the library adds its own."""
    create()
    reconcile(world, passes=4)
    answer = create()

    assert answer.status_code == 200
    assert answer.json == {"status": "ready", "nodeURL": world.nodes.get(NODE).address}
    assert ":" not in answer.json["nodeURL"]


def test_columns_are_recorded_as_sent(create, world):
    """In their order, with what isn't ASCII."""
    create(features=["é", "a b", "é"], labels=["y"])

    assert world.models.get(MODEL).features == ("é", "a b", "é")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model_id": "nobody's"}, 404, "no model"),
        ({"dataset_id": "nowhere"}, 400, "another dataset"),
    ],
)
def test_a_request_that_can_not_be_met_ends_the_polling(create, world, changes, status, words):
    """`error` is the only way to stop the library."""
    answer = create(**changes)

    assert answer.status_code == status
    assert words in answer.json["error"]
    assert world.stacks.launched == []


def test_somebody_elses_model_is_forbidden(create, post, world):
    """The owner came from the body once; now the token names the user."""
    create()
    before = world.dynamodb.items("model_table")
    answer = post("/create", CREATE | {"owner_name": "ada", "user_id": "ada"}, bearer("devi"))

    assert answer.status_code == 403
    assert "error" in answer.json
    assert world.dynamodb.items("model_table") == before


def test_a_withdrawn_model_is_a_conflict(create, world):
    """The name is taken; the sentence says so."""
    create()
    world.models.withdraw(world.models.get(MODEL), 0.0)
    answer = create()

    assert answer.status_code == 409
    assert "new name" in answer.json["error"]


def test_tables_that_do_not_answer_are_a_502(create, world):
    """Rendered as JSON with the key `error`."""
    world.dynamodb.throttle = 1.0
    answer = create()

    assert answer.status_code == 502
    assert answer.json == {"error": "DynamoDB refused a call: ThrottlingException."}


def test_cloudformation_that_does_not_answer_does_not_affect_a_request(create, world):
    """The web process never calls it."""
    world.stacks.away = True

    assert create().status_code == 202


def test_the_owner_retires_a_node(delete, world):
    """It goes down; the answer comes at once."""
    world.nodes.request(DATASET, world.clock(), "ada")
    answer = delete({"dataset_id": DATASET})

    assert answer.status_code == 202
    assert answer.json == {"status": f"The node of dataset {DATASET} is going down."}
    assert not world.nodes.get(NODE).should_run


def test_retiring_what_is_not_there_is_no_error(delete):
    """Asking twice is fine."""
    answer = delete({"dataset_id": DATASET})

    assert answer.status_code == 200
    assert answer.json == {"status": f"Dataset {DATASET} has no node."}


def test_a_node_with_unfinished_models_is_a_conflict_unless_forced(delete, world):
    """409 names the models; `force` takes it down all the same."""
    world.put(a_model())
    world.nodes.request(DATASET, world.clock(), "ada")
    refused = delete({"dataset_id": DATASET})
    wish = world.nodes.get(NODE).desired_state
    forced = delete({"dataset_id": DATASET, "force": True})

    assert (refused.status_code, forced.status_code) == (409, 202)
    assert MODEL in refused.json["error"]
    assert wish is RUNNING
    assert not world.nodes.get(NODE).should_run


@pytest.mark.parametrize("username", ["ada", "mallory"])
def test_only_the_owner_retires(delete, world, username):
    """403 for anybody else."""
    world.nodes.request(DATASET, world.clock(), "ada")
    answer = delete({"dataset_id": DATASET, "force": True}, username)

    assert answer.status_code == 403
    assert world.nodes.get(NODE).should_run


def test_the_owner_withdraws_a_model(delete, world):
    """200 and a sentence."""
    world.put(a_model())
    answer = delete({"model_id": MODEL}, "ada")

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is withdrawn."}
    assert not world.models.get(MODEL).is_active


def test_nobody_else_withdraws_it(delete, world):
    """Not the dataset's owner either."""
    world.put(a_model())

    assert delete({"model_id": MODEL}).status_code == 403
    assert world.models.get(MODEL).is_active


def test_a_spent_quota_is_429_with_retry_after(create, world):
    """The library stops at `error`; whoever reads the status knows when to come back."""
    counter = {"node_id": "quota:all", "awake": QUOTA.in_all}
    world.dynamodb.put_item(TableName="node_table", Item=counter)
    answer = create()

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "60"
    assert answer.json == {"error": "No more than 5 nodes may be awake, and all together have as many."}
