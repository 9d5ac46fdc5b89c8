"""Rate limits per address, per caller and per model."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from orchestration import api
from orchestration.api.limits import RateLimits
from orchestration.domain.credentials import hash_of
from orchestration.domain.node import NodeStatus
from tests.builders import DATASET, MODEL, a_model, a_node
from tests.web import API_KEY, NODE_SECRET, basic, bearer, services_on

RATES = ("per_address", "per_caller", "per_node", "losses_per_model")
GENEROUS = dict.fromkeys(RATES, "1000/minute")
UPLOAD = {"model_id": MODEL, "version": "1"}
PROGRESS = {"model_id": MODEL, "percent_complete": 10}


@pytest.fixture
def client_with(world):
    world.put(a_model())

    def make(**rates):
        app = Flask("limited", static_folder=None)
        limits = RateLimits(**GENEROUS | {"storage": "memory://"} | rates)
        api.register(app, services_on(world, limits))
        return app.test_client()

    return make


def statuses(client, times, path, body, headers=None, address="10.0.0.1"):
    environ = {"REMOTE_ADDR": address}
    return [
        client.post(path, json=body, headers=headers, environ_overrides=environ).status_code
        for _ in range(times)
    ]


def test_limited_address_gets_retry_after(client_with):
    """The response is a 429 in JSON, with Retry-After in seconds."""
    client = client_with(per_address="2/minute")
    allowed = statuses(client, 2, "/info", {"dataset_id": "x"}, API_KEY)
    answer = client.post("/info", json={}, headers=API_KEY, environ_overrides={"REMOTE_ADDR": "10.0.0.1"})

    assert 429 not in allowed
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "2 per 1 minute" in answer.json["error"]


def test_limit_of_an_address_does_not_affect_others(client_with):
    """Each address has its own limit."""
    client = client_with(per_address="1/minute")
    statuses(client, 2, "/info", {"dataset_id": "x"}, API_KEY)

    assert 429 not in statuses(client, 1, "/info", {"dataset_id": "x"}, API_KEY, address="10.0.0.2")


def test_unknown_path_is_not_limited(client_with):
    """The answer takes no call of another system, and it does not use up the limit of the routes."""
    client = client_with(per_address="1/minute")

    assert statuses(client, 2, "/nope", {}) == [404, 404]
    assert 429 not in statuses(client, 1, "/info", {"dataset_id": "x"}, API_KEY)


def test_caller_is_limited_across_addresses(client_with):
    """A stolen token has one limit, whatever addresses it is used from."""
    client = client_with(per_caller="2/minute")
    body = {"user_id": "ada"}
    seen = [
        statuses(client, 1, "/get_datasets", body, bearer(), f"10.0.0.{number}")[0] for number in range(3)
    ]

    assert seen == [200, 200, 429]
    assert statuses(client, 1, "/generate_key", {"user_id": "devi"}, bearer("devi")) == [200]


def test_reports_per_model_are_limited(client_with, world):
    """The limit covers all addresses; another model has its own."""
    world.put(a_model(model_id="other"))
    client = client_with(losses_per_model="2/minute")
    seen = [
        statuses(client, 1, "/model_loss", {"model_id": MODEL, "loss": 1}, address=f"10.0.0.{number}")[0]
        for number in range(3)
    ]

    assert seen == [200, 200, 429]
    assert statuses(client, 1, "/model_loss", {"model_id": "other", "loss": 1}) == [200]


@pytest.fixture
def switching():
    """Switch between threads every few microseconds instead of every 5 ms."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("switching")
def test_callers_at_once_have_a_limit_each(client_with):
    """Threads serve many callers at once; no request counts for another caller."""
    client = client_with(per_caller="40/minute")

    callers = [(bearer(name), f"10.0.1.{name}") for name in "12345678"]

    def call(caller):
        return statuses(client, 40, "/get_datasets", {"user_id": "x"}, *caller)

    with ThreadPoolExecutor(8) as threads:
        seen = {status for answers in threads.map(call, callers) for status in answers}

    assert seen == {403}


@pytest.fixture
def nodes(world):
    """Two running nodes, and their credentials."""
    made = [a_node(dataset_id, **UP) for dataset_id in (DATASET, "Steps")]
    for node in made:
        world.put(node)
    return [basic(node.node_id) for node in made]


UP = {"status": NodeStatus.READY, "generation": 1, "address": "n.test", "secret_hash": hash_of(NODE_SECRET)}


def test_uploads_do_not_use_up_the_limit_of_progress(client_with, nodes):
    """Anybody may upload to a node, and each upload is a request of the node, from the node's address."""
    client = client_with(per_node="3/minute", per_address="3/minute")
    uploads = statuses(client, 5, "/model_upload", {"model_id": "junk", "version": "1"}, nodes[0])

    assert uploads == [404, 404, 404, 429, 429]
    assert statuses(client, 4, "/model_progress", PROGRESS, nodes[0]) == [200, 200, 200, 429]


def test_node_does_not_use_up_the_limit_of_another(client_with, nodes):
    """Both may call from one address."""
    client = client_with(per_node="3/minute", per_address="3/minute")
    statuses(client, 9, "/model_upload", UPLOAD, nodes[0])
    statuses(client, 9, "/model_progress", PROGRESS, nodes[0])

    assert 429 not in statuses(client, 3, "/model_upload", UPLOAD, nodes[1])
    assert 429 not in statuses(client, 3, "/model_progress", PROGRESS, nodes[1])


def test_wrong_credential_does_not_use_up_the_limit_of_a_node(client_with, nodes):
    """Everybody knows a node's id. The limit of the address counts failed authentications only."""
    client = client_with(per_node="3/minute", per_address="3/minute")
    wrong = basic(a_node().node_id, "guessed")
    statuses(client, 3, "/model_progress", PROGRESS, nodes[0], address="10.0.0.2")
    seen = statuses(client, 5, "/model_progress", PROGRESS, wrong)

    assert seen == [401, 401, 401, 429, 429]
    assert statuses(client, 1, "/model_progress", PROGRESS, nodes[1], address="10.0.0.2") == [403]
    assert statuses(client, 3, "/model_upload", UPLOAD, wrong) == [401, 401, 401]


def test_limited_node_gets_retry_after(client_with, nodes):
    """The node tries again later."""
    client = client_with(per_node="1/minute")
    statuses(client, 1, "/model_progress", PROGRESS, nodes[0])
    answer = client.post("/model_progress", json=PROGRESS, headers=nodes[0])

    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "1 per 1 minute" in answer.json["error"]


def test_several_rates_are_all_counted(client_with):
    """The syntax is that of the library `limits`."""
    client = client_with(per_caller="100/hour; 2/minute")

    assert statuses(client, 3, "/get_datasets", {"user_id": "ada"}, bearer()) == [200, 200, 429]


@pytest.mark.parametrize("model_id", ["Net-1-Ada", "ÅNGSTRÖM-1-ada", "unknown"])
def test_letter_case_does_not_evade_the_limit_of_a_model(client_with, world, model_id):
    """A model is found by every spelling of its id, so all of them count together."""
    world.put(a_model(model_id=model_id.lower()))
    client = client_with(losses_per_model="3/minute")
    spellings = [model_id, model_id.lower(), model_id.upper(), model_id.title()]
    seen = [statuses(client, 1, "/model_loss", {"model_id": name, "loss": 1})[0] for name in spellings]

    assert 429 not in seen[:3]
    assert seen[3] == 429


def test_health_check_is_not_limited(client_with):
    """A load balancer calls every few seconds from one address."""
    client = client_with(per_address="1/minute")

    assert {client.get("/").status_code for _ in range(5)} == {200}


def test_unauthenticated_request_does_not_count_for_a_caller(client_with):
    """It counts for its address only."""
    client = client_with(per_caller="1/minute")
    statuses(client, 3, "/get_datasets", {"user_id": "ada"}, {"Authorization": "Bearer nonsense"})

    assert statuses(client, 1, "/get_datasets", {"user_id": "ada"}, bearer()) == [200]
