"""POST /model_loss, /model_progress and /model_upload, to the letter."""

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


def test_the_pod_needs_no_credential(loss, world):
    """It sends none, and can't be changed."""
    answer = loss()

    assert answer.status_code == 200
    assert answer.json == {"status": f"Loss of model {MODEL} is recorded."}
    assert world.models.get(MODEL).totals.loss == 0.5


@pytest.mark.parametrize("value", [1e-45, 3.4e38, 1.7e308, 0, 7, 0.30000001192092896])
def test_any_finite_number_is_taken(loss, value):
    """Whole numbers too: JSON doesn't tell them apart."""
    assert loss(loss=value, acc=value).status_code == 200


def test_a_late_report_is_answered_kindly(loss, world):
    """The phone did nothing wrong; nothing is counted."""
    world.models.withdraw(world.models.get(MODEL), world.clock.now)
    answer = loss()

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is complete; the report is not counted."}


def test_a_report_long_after_the_end_is_refused(loss, world):
    """Nobody trains it any more, so nobody has a loss of it."""
    world.models.withdraw(world.models.get(MODEL), world.clock.now)
    world.clock.tick(601)

    assert loss().status_code == 409


def test_the_original_nodes_word_is_taken(progress, world):
    """`{"percent_complete", "model_id"}`, without a number."""
    answer = progress(10)

    assert answer.status_code == 200
    assert answer.json == {"status": f"Model {MODEL} is 10 % complete."}
    assert world.models.get(MODEL).percent_complete == 10


def test_our_nodes_word_carries_its_cycle(progress, world):
    """Sent again it changes nothing, and is answered 200, so that the outbox lets go of it."""
    first, again = progress(10, cycle=1), progress(10, cycle=1)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json == {"status": f"Nothing new about model {MODEL}."}
    assert len(world.models.get(MODEL).history) == 1


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 200),
        ({"version": "2"}, 404),
        ({"model_id": "nobody's"}, 404),
        ({"model_id": "other"}, 403),
        ({"model_id": ""}, 400),
        ({"version": 1}, 400),
    ],
    ids=lambda value: str(value),
)
def test_a_node_may_ask_whether_a_model_is_known(progress, world, asked, status):
    """Before it keeps an upload, with 0 per cent: by the status it knows, and nothing is changed."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    answer = progress(0, **({"version": "1"} | asked))

    assert answer.status_code == status
    assert world.models.get(MODEL) == a_model()


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 200),
        ({"version": "2"}, 404),
        ({"model_id": "nobody's"}, 404),
        ({"model_id": "other"}, 403),
        ({"model_id": ""}, 400),
        ({"version": None}, 400),
    ],
    ids=lambda value: str(value),
)
def test_a_node_asks_whether_it_may_host_a_model(post, node, world, asked, status):
    """A model of its own dataset, in the version that was submitted; nothing is changed."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    answer = post("/model_upload", {"model_id": MODEL, "version": "1"} | asked, basic(node.node_id))

    assert answer.status_code == status
    assert ("status" if status == 200 else "error") in answer.json
    assert world.models.get(MODEL) == a_model()


@pytest.mark.parametrize("percent", [150, -5, 101, 10.5, "10", True, None])
def test_what_is_no_percentage_is_refused(progress, world, percent):
    """150 %, -5 % and worse were taken once."""
    answer = progress(percent)

    assert answer.status_code == 400
    assert "percent_complete" in answer.json["error"]
    assert world.models.get(MODEL) == a_model()


def test_it_never_goes_back(progress, world):
    """Backwards was possible once."""
    progress(50)
    progress(40)

    assert world.models.get(MODEL).percent_complete == 50


def test_at_100_it_answers_at_once(progress, world):
    """A silent node froze the whole service for 32 s once; nobody is asked anything here."""
    world.server.silent = True
    answer = progress(100)

    assert answer.status_code == 200
    assert world.models.get(MODEL).retrieval_due
    assert world.server.asked_for == []


STRANGERS = {
    "nobody": {},
    "a person": bearer(),
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


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS)
def test_a_forged_100_per_cent_is_refused(progress, world, headers):
    """Anything from anyone was taken once, and an error message stored as the model."""
    answer = progress(100, headers=headers or {"X": "y"})

    assert answer.status_code == 401
    assert "error" in answer.json
    assert world.models.get(MODEL) == a_model()


def test_a_node_speaks_for_its_own_models_only(progress, world):
    """403 for another dataset's."""
    world.put(a_model(model_id="other", dataset_id="steps"))
    answer = progress(100, model_id="other")

    assert answer.status_code == 403
    assert world.models.get("other").percent_complete == 0


def test_contention_is_said_so_that_the_node_sends_it_again(post, shared_app, world, node):
    """503, in JSON."""
    services_on(world.through(Rivals(world, 100))).bind(shared_app)
    body = {"model_id": MODEL, "percent_complete": 90}

    assert post("/model_progress", body, basic(node.node_id)).status_code == 503
