"""Rate limits per address, per caller and per model."""

import pytest
from flask import Flask

from orchestration import api
from orchestration.api.limits import RateLimits
from tests.builders import MODEL, a_model
from tests.web import API_KEY, bearer, services_on

GENEROUS = {"per_address": "1000/minute", "per_caller": "1000/minute", "losses_per_model": "1000/minute"}


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


def test_health_check_is_not_limited(client_with):
    """A load balancer calls every few seconds from one address."""
    client = client_with(per_address="1/minute")

    assert {client.get("/").status_code for _ in range(5)} == {200}


def test_unauthenticated_request_does_not_count_for_a_caller(client_with):
    """It counts for its address only."""
    client = client_with(per_caller="1/minute")
    statuses(client, 3, "/get_datasets", {"user_id": "ada"}, {"Authorization": "Bearer nonsense"})

    assert statuses(client, 1, "/get_datasets", {"user_id": "ada"}, bearer()) == [200]
