"""Who did what, and what they were refused."""

import pytest

from orchestration.domain.ports import AuditEntry
from tests.builders import DATASET, MODEL, a_model
from tests.processes import reconcile
from tests.web import bearer


@pytest.fixture
def told(post, world):
    """Send it; return what is noted."""
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
def test_what_is_done_is_noted_with_who_did_it(told, path, body, username, action, subject):
    """With the token's name, never the body's."""
    assert told(path, body, username, subject) == [AuditEntry(username, action, subject, "ok")]


def test_what_was_refused_is_noted_with_the_reason(told):
    """A stranger at somebody's model is what an operator looks for."""
    entries = told("/delete", {"model_id": MODEL}, "mallory")

    assert entries == [
        AuditEntry("mallory", "model.withdraw", f"model:{MODEL}", "403 This model belongs to somebody else.")
    ]


def test_polling_is_not_noted(told, world):
    """The library asks every 30 seconds; what it leads to is noted once."""
    body = {"dataset_id": DATASET, "model_id": MODEL, "features": ["age"], "labels": ["y"]}
    for _ in range(3):
        told("/create", body)
    reconcile(world, passes=4)
    told("/create", body)

    assert world.told() == [
        ("ada", "node.launch", f"dataset:{DATASET}"),
        ("service", "node.ready", f"dataset:{DATASET}"),
    ]


def test_who_is_nobody_leaves_no_entry(post, world):
    """A wrong token names nobody."""
    post("/delete", {"model_id": MODEL}, {"Authorization": "Bearer nonsense"})

    assert world.dynamodb.items("audit_table") == []
