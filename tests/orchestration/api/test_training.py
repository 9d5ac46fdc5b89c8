"""POST /model_loss, /model_progress and /model_upload: exact responses."""

import pytest

from tests.builders import MODEL, a_model, a_node
from tests.fakes import Rivals
from tests.web import NODE_SECRET, basic, bearer, services_on


@pytest.fixture(autouse=True)
def _model(world):
    world.put(a_model())


@pytest.fixture
def loss(post):
    return lambda **changes: post("/model_loss", {"model_id": MODEL, "loss": 0.5, "acc": -1} | changes)


@pytest.fixture
def progress(post, node):
    def send(percent, headers=None, **more):
        body = {"model_id": MODEL, "percent_complete": percent} | more
        return post("/model_progress", body, headers or basic(node.node_id))

    return send


def test_loss_needs_no_credential(loss, world):
    """The pod sends none."""
    answer = loss()

    assert answer.status_code == 200
    assert answer.json == {"status": f"Loss of model {MODEL} is recorded."}
    assert world.models.get(MODEL).totals.loss == 0.5


@pytest.mark.parametrize("value", [1e-45, 99.5, 0, 7, 0.30000001192092896])
def test_finite_numbers_are_accepted(loss, value):
    """Whole numbers are valid, because JSON doesn't distinguish them from floats."""
    assert loss(loss=value, acc=value).status_code == 200


def test_late_report_is_not_counted(loss, world):
    """The response is a 200, because the device did nothing wrong."""
    world.models.withdraw(world.models.get(MODEL), world.clock.now)
    answer = loss()

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is complete; the report is not counted."}


def test_report_long_after_the_end_is_refused(loss, world):
    """No device trains the model any more."""
    world.models.withdraw(world.models.get(MODEL), world.clock.now)
    world.clock.tick(601)

    assert loss().status_code == 409


def test_progress_without_cycle_is_accepted(progress, world):
    """The original node sends only `percent_complete` and `model_id`."""
    answer = progress(10)

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is 10 % complete."}
    assert world.models.get(MODEL).percent_complete == 10


def test_number_of_cycles_is_recorded(progress, world):
    """A node of this repository sends it; the original one doesn't."""
    before = world.models.get(MODEL).cycles
    progress(10, cycle=1, cycles=10)

    assert (before, world.models.get(MODEL).cycles) == (None, 10)
    assert progress(20, cycle=2, cycles=0).status_code == 400


def test_skipped_cycle_is_in_the_audit_log_of_the_model(progress, world, node):
    """The node says why; the cycle counts like any other."""
    answer = progress(10, cycle=1, skipped="averaging its reports failed 3 times.")
    progress(20, cycle=2)
    [entry] = [entry for _, entry in world.audit.of(f"model:{MODEL}")]

    assert answer.json == {"status": f"Model {MODEL} is 10 % complete."}
    assert (entry.actor, entry.action) == (node.node_id, "model.cycle_skipped")
    assert entry.result == "averaging its reports failed 3 times."


@pytest.mark.parametrize("skipped", ["x" * 513, 3, ["why"]])
def test_reason_of_a_skipped_cycle_is_a_short_text(progress, world, skipped):
    """The audit log stores it."""
    assert progress(10, cycle=1, skipped=skipped).status_code == 400
    assert list(world.audit.of(f"model:{MODEL}")) == []


def test_model_of_another_node_gets_no_audit_entry(progress, world):
    """A node reports its own models."""
    world.put(a_model(model_id="other", dataset_id="steps"))

    assert progress(10, model_id="other", cycle=1, skipped="why").status_code == 403
    assert list(world.audit.of("model:other")) == []


def test_repeated_progress_of_a_cycle_changes_nothing(progress, world):
    """The response is a 200, so that the node's outbox drops the message."""
    first, again = progress(10, cycle=1), progress(10, cycle=1)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json == {"status": f"Nothing new about model {MODEL}."}
    assert len(world.models.get(MODEL).history) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"version": "2"}, 404),
        ({"model_id": "unknown"}, 404),
        ({"model_id": "other"}, 403),
        ({"model_id": ""}, 400),
        ({"version": 1}, 400),
    ],
    ids=lambda value: str(value),
)
def test_progress_of_0_percent_checks_the_model(progress, world, changes, status):
    """A node sends it before it stores an upload; nothing is changed."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    answer = progress(0, **({"version": "1"} | changes))

    assert answer.status_code == status
    assert world.models.get(MODEL) == a_model()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 200),
        ({"version": "2"}, 404),
        ({"model_id": "unknown"}, 404),
        ({"model_id": "other"}, 403),
        ({"model_id": ""}, 400),
        ({"version": None}, 400),
        ({"address": "127.0.0"}, 400),
        ({"address": ""}, 400),
        ({"address": "x" * 100_000}, 400),
        ({"address": 7}, 400),
        ({"token": 7}, 400),
        ({"result": "lost"}, 400),
        ({"result": "stored", "model_id": "unknown"}, 404),
        ({"result": "exists", "version": "2"}, 404),
        ({"result": "stored", "model_id": "other"}, 403),
    ],
    ids=lambda value: str(value)[:40],
)
def test_upload_checks_the_model(post, node, world, changes, status):
    """The model must be of the node's dataset, in the submitted version; nothing is changed."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    body = {"model_id": MODEL, "version": "1", "address": "127.0.0.1"}
    answer = post("/model_upload", body | changes, basic(node.node_id))

    assert answer.status_code == status
    assert ("status" if status == 200 else "error") in answer.json
    assert world.models.get(MODEL) == a_model()


@pytest.mark.parametrize("percent", [150, -5, 101, 10.5, "10", True, None])
def test_invalid_percentage_is_refused(progress, world, percent):
    """A percentage is a whole number from 0 to 100."""
    answer = progress(percent)

    assert answer.status_code == 400
    assert "percent_complete" in answer.json["error"]
    assert world.models.get(MODEL) == a_model()


def test_percentage_never_decreases(progress, world):
    """Lower values are ignored."""
    progress(50)
    progress(40)

    assert world.models.get(MODEL).percent_complete == 50


def test_last_progress_does_not_call_the_node(progress, world):
    """A call to a silent node blocked the former service for 32 s."""
    world.server.silent = True
    answer = progress(100)

    assert answer.status_code == 200
    assert world.models.get(MODEL).retrieval_due
    assert world.server.asked_for == []


INVALID_CREDENTIALS = {
    "none": {},
    "a user": bearer(),
    "another secret": basic(a_node().node_id, "guess"),
    "no secret": basic(a_node().node_id, ""),
    "no name": basic(""),
    "another node": basic(a_node("other").node_id),
    "an API key": {"api_key": "0123456789-sign-up-key"},
    "broken base64": {"Authorization": "Basic !!!"},
    "broken UTF-8": {"Authorization": "Basic /////w=="},
    "no colon": {"Authorization": "Basic bm9jb2xvbg=="},
    "digest": {"Authorization": f'Digest username="{a_node().node_id}", password="{NODE_SECRET}"'},
}


@pytest.mark.parametrize("headers", INVALID_CREDENTIALS.values(), ids=INVALID_CREDENTIALS)
def test_progress_requires_the_credential_of_the_node(progress, world, headers):
    """The former service accepted any sender, and stored an error message as the model."""
    answer = progress(100, headers=headers or {"X": "y"})

    assert answer.status_code == 401
    assert "error" in answer.json
    assert world.models.get(MODEL) == a_model()


def test_progress_of_another_datasets_model_is_forbidden(progress, world):
    """A node reports only models of its own dataset."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    answer = progress(100, model_id="other")

    assert answer.status_code == 403
    assert world.models.get("other").percent_complete == 0


def test_contention_is_a_503(post, shared_app, world, node):
    """The node sends the message again."""
    services_on(world.through(Rivals(world, 100))).bind(shared_app)
    body = {"model_id": MODEL, "percent_complete": 90}

    assert post("/model_progress", body, basic(node.node_id)).status_code == 503
