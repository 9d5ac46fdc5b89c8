"""Audit entries of API requests."""

import pytest

from orchestration.domain.ports import AuditEntry
from tests.builders import DATASET, MODEL, a_model
from tests.processes import reconcile
from tests.web import bearer


@pytest.fixture
def recorded(post, world):
    """Return a function that sends a request and returns the audit entries of a subject."""
    world.put(a_model())

    def send(path, body, username="ada", subject=f"model:{MODEL}"):
        post(path, body, bearer(username))
        return [entry for _, entry in world.audit.of(subject)]

    return send


@pytest.mark.parametrize(
    ("path", "body", "username", "action", "subject"),
    [
        ("/delete", {"model_id": MODEL}, "ada", "model.withdraw", f"model:{MODEL}"),
        ("/delete", {"dataset_id": DATASET}, "devi", "node.retire", f"dataset:{DATASET}"),
        ("/generate_key", {"user_id": "devi"}, "devi", "key.generate", "user:devi"),
        (
            "/generate_key",
            {"user_id": "devi", "revoke": True},
            "devi",
            "key.revoke and generate",
            "user:devi",
        ),
    ],
)
def test_action_is_recorded_with_its_actor(recorded, path, body, username, action, subject):
    """The actor is the token's username, not a name in the body."""
    assert recorded(path, body, username, subject) == [AuditEntry(username, action, subject, "ok")]


@pytest.mark.parametrize("stored", ["Net-1-Ada", "net-1-ada"])
@pytest.mark.parametrize("sent", ["Net-1-Ada", "net-1-ada", "NET-1-ADA"])
def test_letter_case_does_not_evade_the_audit_log(recorded, world, stored, sent):
    """Entries about a model are found by every spelling of its id, also where no model was found."""
    world.remove("model_table", MODEL)
    world.put(a_model(model_id=stored))
    recorded("/delete", {"model_id": sent}, "mallory")
    found = [[entry for _, entry in world.audit.of(f"model:{name}")] for name in (stored, sent, "nEt-1-aDa")]

    assert [entry.actor for entry in found[0]] == ["mallory"]
    assert found[1:] == [found[0]] * 2


def test_refusal_is_recorded_with_its_reason(recorded):
    """Operators look for refused requests."""
    entries = recorded("/delete", {"model_id": MODEL}, "mallory")

    assert entries == [
        AuditEntry("mallory", "model.withdraw", f"model:{MODEL}", "403 This model belongs to another user.")
    ]


def test_polling_is_not_recorded(recorded, world):
    """The library calls /create every 30 seconds; only the launch is recorded, once."""
    body = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age", "bmi"], "labels": ["progression"]}
    for _ in range(3):
        recorded("/create", body)
    reconcile(world, passes=4)
    recorded("/create", body)

    assert world.told() == [
        ("ada", "node.launch", f"dataset:{DATASET}"),
        ("service", "node.ready", f"dataset:{DATASET}"),
    ]


def test_unauthenticated_request_is_not_recorded(post, world):
    """A request with an invalid token has no actor."""
    post("/delete", {"model_id": MODEL}, {"Authorization": "Bearer nonsense"})

    assert world.dynamodb.items("audit_table") == []
