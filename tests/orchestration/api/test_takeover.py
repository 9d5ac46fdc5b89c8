"""Attacks on a model through the node that hosts it: other spellings, models that do not train."""

import pytest

from tests.builders import MODEL, a_model, a_submission
from tests.web import basic

SPELLING = MODEL.upper()
"""The service finds a model by its id in lower case too, so an attacker can upload under 2**n names."""


@pytest.fixture
def says(post, node):
    """Send what a node sends, and return the answer."""
    return lambda route, **body: post(route, body, basic(node.node_id))


def test_progress_of_another_spelling_does_not_complete_the_model(says, world):
    """An attacker uploads under another spelling with `max_diffs` 1 and reports one diff."""
    world.put(a_model())
    answer = says("/model_progress", model_id=SPELLING, percent_complete=100, cycle=1)

    assert answer.status_code == 404
    assert world.models.get(MODEL) == a_model()


def test_other_spelling_may_not_be_uploaded(says, world):
    """Each spelling would be storage that nobody pays for."""
    world.put(a_model())

    assert says("/model_upload", model_id=SPELLING, version="1").status_code == 404
    assert says("/model_upload", model_id=MODEL, version="1").status_code == 200


def test_model_is_known_by_the_name_that_create_was_called_with(says, world):
    """The library may spell the name differently at `/create`; the node hosts the model under that name."""
    world.put(a_model(hosted_as=SPELLING))

    assert says("/model_upload", model_id=SPELLING, version="1").status_code == 200
    assert says("/model_upload", model_id=MODEL, version="1").status_code == 404
    assert says("/model_progress", model_id=MODEL, percent_complete=100).status_code == 404
    assert says("/model_progress", model_id=SPELLING, percent_complete=10).status_code == 200
    assert world.models.get(MODEL).percent_complete == 10


@pytest.mark.parametrize(
    "model",
    [
        a_submission(),
        a_model(is_active=False),
        a_model(is_active=False, percent_complete=100, retrieval_due=True),
    ],
    ids=["not accepted by /create", "withdrawn", "complete"],
)
def test_model_that_does_not_train_may_not_be_uploaded(says, world, model):
    """Its name must not become storage, nor replace what the owner trained."""
    world.put(model)
    answer = says("/model_upload", model_id=MODEL, version="1")

    assert answer.status_code == 409
    assert "error" in answer.json
