"""What a model is, from what is written of it."""

import pytest

from tests.builders import a_model, a_submission

TRAINING = {
    "accepted and unfinished": ({}, True),
    "withdrawn": ({"is_active": False}, False),
    "complete": ({"percent_complete": 100}, False),
    "never accepted": ({"features": (), "labels": ()}, False),
    "without features": ({"features": ()}, False),
    "without labels": ({"labels": ()}, False),
    "almost complete": ({"percent_complete": 99}, True),
}


@pytest.mark.parametrize(("changes", "trains"), TRAINING.values(), ids=TRAINING)
def test_a_model_trains_while_it_is_accepted_active_and_unfinished(changes, trains):
    """Only such a model is shown to phones, and holds its node awake."""
    assert a_model(**changes).is_training is trains


def test_an_item_that_a_failed_create_left_behind_is_not_accepted():
    """artificienlib writes it before it asks."""
    assert not a_submission().is_accepted


@pytest.mark.parametrize(("hosted_as", "name"), [(None, "net-1-ada"), ("Net-1-Ada", "Net-1-Ada")])
def test_the_node_knows_a_model_as_the_library_spelled_it(hosted_as, name):
    """Ids keep their letter case."""
    assert a_model(hosted_as=hosted_as).name_on_node == name
