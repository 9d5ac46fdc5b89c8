"""Properties that are derived from a model's fields."""

import pytest

from tests.builders import a_model, a_submission

TRAINING = {
    "accepted and incomplete": ({}, True),
    "withdrawn": ({"is_active": False}, False),
    "complete": ({"percent_complete": 100}, False),
    "never accepted": ({"features": (), "labels": ()}, False),
    "without features": ({"features": ()}, False),
    "without labels": ({"labels": ()}, False),
    "almost complete": ({"percent_complete": 99}, True),
}


@pytest.mark.parametrize(("changes", "trains"), TRAINING.values(), ids=TRAINING)
def test_model_trains_while_accepted_active_and_incomplete(changes, trains):
    """Only a training model is listed for devices and keeps its node running."""
    assert a_model(**changes).is_training is trains


def test_submission_is_not_accepted_before_create():
    """artificienlib writes the item before it calls `/create`."""
    assert not a_submission().is_accepted


@pytest.mark.parametrize(("hosted_as", "name"), [(None, "net-1-ada"), ("Net-1-Ada", "Net-1-Ada")])
def test_name_on_node_keeps_the_letter_case_of_the_upload(hosted_as, name):
    """The node stores a model under the id that `/create` was called with."""
    assert a_model(hosted_as=hosted_as).name_on_node == name
