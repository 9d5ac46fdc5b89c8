"""POST /create while AWS fails: `error` in an answer ends the training, so a failure that may pass has none.

The calls are counted, not chosen: a request is sent once undisturbed, and then once for each of its calls.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestration.adapters.cognito import CognitoTokens
from orchestration.adapters.jws import KeySet, fetcher
from orchestration.domain.errors import Overtaken
from orchestration.domain.node import node_id_of
from tests.builders import (
    DATASET,
    MODEL,
    NOON,
    a_dataset,
    a_node,
    a_submission,
    a_user,
    submitted_item,
)
from tests.fakes import World
from tests.fakes.table import FAULTS, LASTING
from tests.processes import QUOTA, a_node_service, attend, reconcile, request_node
from tests.tokens import CLIENT, ISSUER
from tests.web import bearer, services_on

CREATE = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["progression"]}
NODE = node_id_of(DATASET)


def submitted(world: World) -> None:
    world.put(a_submission())


def launching(world: World) -> None:
    submitted(world)
    request_node(a_node_service(world))
    attend(world)


def ready(world: World) -> None:
    submitted(world)
    request_node(a_node_service(world))
    reconcile(world, passes=5)


def unpublished(world: World) -> None:
    """The node is ready, and the marketplace doesn't show its address for this model."""
    world.put(a_submission(model_id="other"))
    request_node(a_node_service(world), model_id="other")
    reconcile(world, passes=5)
    submitted(world)


def sent_again(world: World) -> None:
    ready(world)
    world.dynamodb.put_item(TableName="model_table", Item=submitted_item())


def long_ago(world: World) -> None:
    ready(world)
    world.put(replace(world.models.get(MODEL), progress_at=NOON - 7200, networks={}))


SITUATIONS = [submitted, launching, ready, unpublished, sent_again, long_ago]
USUAL = ("throttled", "conflict")
OTHERS = [fault for fault in FAULTS if fault not in USUAL and "cancelled" not in fault]


def a_world(prepare: Callable[[World], None] = submitted) -> World:
    world = World()
    world.put(a_dataset())
    world.put(a_node(device_at=NOON))
    world.put(a_user())
    prepare(world)
    return world


@pytest.fixture
def create_in(shared_app):
    def create(world: World):
        services_on(world).bind(shared_app)
        return shared_app.test_client().post("/create", json=CREATE, headers=bearer())

    return create


def calls_of(create, prepare) -> int:
    world = a_world(prepare)
    before = world.dynamodb.calls.total()
    assert "error" not in create(world).json
    return world.dynamodb.calls.total() - before


def faults_of(answer) -> list[str]:
    """Return what would end the training, or would make the library wait without a reason."""
    body = answer.json
    faults = ["error"] if "error" in body else []
    if body.get("status") == "ready":
        return faults + ["ready"] * (answer.status_code != 200 or not body["nodeURL"])
    return faults + ["deploying"] * (answer.status_code != 202 or not body.get("reason"))


@pytest.mark.usefixtures("no_logs")
@pytest.mark.parametrize("times", [1, LASTING], ids=["once", "lasting"])
@pytest.mark.parametrize(
    "fault", [*USUAL, *(pytest.param(fault, marks=pytest.mark.exhaustive) for fault in OTHERS)]
)
@pytest.mark.parametrize("prepare", SITUATIONS)
def test_failure_at_any_call_ends_no_training(create_in, prepare, fault, times):
    """When the failure is over, the next requests get the node, of which there is one."""
    points = range(1, calls_of(create_in, prepare) + 1)
    found = {}
    for point in points:
        world = a_world(prepare)
        with world.dynamodb.failing(fault, first=point, times=times):
            faults = faults_of(create_in(world))
        create_in(world)
        reconcile(world, passes=6)
        answer = create_in(world)
        faults += ["not ready"] if answer.json.get("nodeURL") != world.nodes.get(NODE).address else []
        faults += ["launched twice"] if len(world.stacks.launched) != 1 else []
        faults += ["lost"] if not world.models.get(MODEL).is_accepted else []
        found[point] = faults

    assert len(points) >= 5
    assert {point: faults for point, faults in found.items() if faults} == {}


def test_reason_says_what_failed(create_in):
    """The log keeps the cause, the audit log what was answered."""
    world = a_world()
    with world.dynamodb.failing("throttled", table="user_table"):
        answer = create_in(world)
    (entry,) = world.dynamodb.items("audit_table")

    assert answer.status_code == 202
    assert answer.json["status"] == "deploying"
    assert "DynamoDB refused a call: ThrottlingException." in answer.json["reason"]
    assert (entry["action"], entry["result"]) == (
        "node.request",
        "502 DynamoDB refused a call: ThrottlingException.",
    )


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"]
)
def test_mistake_of_the_deployment_is_an_error(create_in, code):
    """It doesn't pass: the data scientist would wait for ever."""
    world = a_world()
    world.dynamodb.throttling_code = code
    world.dynamodb.throttle = 1.0
    answer = create_in(world)

    assert answer.status_code == 502
    assert answer.json == {"error": f"DynamoDB refused a call: {code}."}


def test_lost_race_ends_no_training(shared_app, world):
    """Another process has changed the item."""

    class Overtaking:
        def request(self, *_arguments, **_named):
            raise Overtaken

    replace(services_on(world), nodes=Overtaking()).bind(shared_app)
    answer = shared_app.test_client().post("/create", json=CREATE, headers=bearer())

    assert answer.status_code == 202
    assert faults_of(answer) == []


def test_caller_is_still_refused_while_dynamodb_is_throttled(client, world):
    """Only what AWS fails at is postponed."""
    world.dynamodb.throttle = 1.0

    assert client.post("/create", json=CREATE).status_code == 401
    assert client.post("/create", json={"dataset_id": DATASET}, headers=bearer()).status_code == 400


def test_refusals_stay_errors_after_a_failure(create_in):
    """The quota of the data scientist is exhausted."""
    world = a_world()
    counter = {"node_id": "quota:all", "awake": QUOTA.in_all}
    world.dynamodb.put_item(TableName="node_table", Item=counter)
    with world.dynamodb.failing("throttled", first=5, times=1):
        create_in(world)

    assert create_in(world).status_code == 429
    assert not world.nodes.get(NODE).should_run


def test_key_set_that_cannot_be_fetched_ends_no_training(shared_app, world):
    """A web process that has just started has no keys to verify a token with."""
    tokens = CognitoTokens(
        KeySet(fetcher("http://127.0.0.1:1/jwks.json")), ISSUER, frozenset({CLIENT}), world.clock
    )
    replace(services_on(world), tokens=tokens).bind(shared_app)
    answer = shared_app.test_client().post("/create", json=CREATE, headers=bearer())

    assert answer.status_code == 202
    assert faults_of(answer) == []
    assert not world.nodes.get(NODE).should_run
