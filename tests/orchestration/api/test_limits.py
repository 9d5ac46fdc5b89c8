"""How often anybody may call."""

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


def test_an_address_that_calls_too_often_is_told_when_to_come_back(client_with):
    """429 as JSON, with Retry-After in seconds."""
    client = client_with(per_address="2/minute")
    allowed = statuses(client, 2, "/info", {"dataset_id": "x"}, API_KEY)
    answer = client.post("/info", json={}, headers=API_KEY, environ_overrides={"REMOTE_ADDR": "10.0.0.1"})

    assert 429 not in allowed
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert "2 per 1 minute" in answer.json["error"]


def test_another_address_is_not_its_fault(client_with):
    """One caller's flood doesn't cut off the others."""
    client = client_with(per_address="1/minute")
    statuses(client, 2, "/info", {"dataset_id": "x"}, API_KEY)

    assert 429 not in statuses(client, 1, "/info", {"dataset_id": "x"}, API_KEY, address="10.0.0.2")


def test_unknown_paths_count_as_well(client_with):
    """Guessing is calling."""
    client = client_with(per_address="1/minute")

    assert statuses(client, 2, "/nope", {})[-1] in (404, 429)


def test_a_caller_is_limited_wherever_they_call_from(client_with):
    """A stolen token can't be used from a thousand addresses."""
    client = client_with(per_caller="2/minute")
    body = {"user_id": "ada"}
    seen = [
        statuses(client, 1, "/get_datasets", body, bearer(), f"10.0.0.{number}")[0] for number in range(3)
    ]

    assert seen == [200, 200, 429]
    assert statuses(client, 1, "/generate_key", {"user_id": "devi"}, bearer("devi")) == [200]


def test_reports_for_one_model_are_limited(client_with, world):
    """From however many addresses; another model's reports go on."""
    world.put(a_model(model_id="other"))
    client = client_with(losses_per_model="2/minute")
    seen = [
        statuses(client, 1, "/model_loss", {"model_id": MODEL, "loss": 1}, address=f"10.0.0.{number}")[0]
        for number in range(3)
    ]

    assert seen == [200, 200, 429]
    assert statuses(client, 1, "/model_loss", {"model_id": "other", "loss": 1}) == [200]


def test_the_load_balancer_may_always_ask(client_with):
    """It asks every few seconds, from one address."""
    client = client_with(per_address="1/minute")

    assert {client.get("/").status_code for _ in range(5)} == {200}


def test_nobody_is_counted_for_what_was_refused_as_nobody(client_with):
    """A wrong token counts for its address, not for the caller it names."""
    client = client_with(per_caller="1/minute")
    statuses(client, 3, "/get_datasets", {"user_id": "ada"}, {"Authorization": "Bearer nonsense"})

    assert statuses(client, 1, "/get_datasets", {"user_id": "ada"}, bearer()) == [200]
