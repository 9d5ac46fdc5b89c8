"""An upload is kept whole or not at all."""

import math

import pytest

from pygrid_node.errors import InvalidRequest
from pygrid_node.server_config import ServerConfig
from pygrid_node.uploads import read_upload

COUNT = "needs to be a whole number of at least 1"
AMOUNT = "needs to be a positive number"
WRONG = {
    "model is no text": ({"model": 7}, "'model' is required"),
    "model is not hex": ({"model": "zz"}, "Non-hexadecimal digit found"),
    "model is empty": ({"model": ""}, "The model can't be read: the state holds no tensors"),
    "no plans": ({"plans": None}, "'plans' is required"),
    "no training plan": ({"plans": {}}, "'training_plan' is required"),
    "plan is garbage": ({"plans": {"training_plan": "ffff"}}, "Plan is not valid"),
    "averaging plan is garbage": ({"averaging_plan": "ffff"}, "averaging_plan: Plan is not valid"),
    "protocols": ({"protocols": {"a": "b"}}, "Protocols are not supported by this node."),
    "name is empty": ({"client_config__name": ""}, "'name' is required"),
    "version is a number": ({"client_config__version": 1}, "'version' is required"),
    "no max_diffs": ({"server_config__max_diffs": None}, "'max_diffs' is required"),
    "max_diffs is 0": ({"server_config__max_diffs": 0}, f"'max_diffs' {COUNT}"),
    "num_cycles is 1.5": ({"server_config__num_cycles": 1.5}, f"'num_cycles' {COUNT}"),
    "max_diffs is huge": ({"server_config__max_diffs": 2**70}, f"'max_diffs' {COUNT}"),
    "cycle_length is text": ({"server_config__cycle_length": "1"}, f"'cycle_length' {AMOUNT}"),
    "cycle_length is NaN": ({"server_config__cycle_length": math.nan}, f"'cycle_length' {AMOUNT}"),
    "authentication by a service": (
        {"server_config__authentication": {"endpoint": "http://x"}},
        "'authentication' needs a 'secret' or a 'pub_key'",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_upload_is_refused_with_a_sentence(recorded, changes, sentence):
    """Everything is checked before anything is kept."""
    with pytest.raises(InvalidRequest) as refusal:
        read_upload(recorded(**changes)["data"])

    assert str(refusal.value) == sentence


def test_a_number_may_come_as_a_float():
    """JavaScript has no whole numbers."""
    config = ServerConfig.parse({"max_diffs": 3.0, "num_cycles": 2, "cycle_length": 600})

    assert (config.max_diffs, config.requires_speed_test) == (3, False)


@pytest.mark.moto
def test_a_refused_upload_leaves_the_name_free(node, recorded):
    """artificienlib tries once more on its own; only after a success is the name taken."""
    answers = [
        node.upload(recorded(model="ffff")),
        node.upload(recorded(averaging_plan=None)),
        node.upload(recorded()),
        node.upload(recorded()),
    ]

    assert ["error" in answer for answer in answers] == [True, True, False, True]
    assert answers[3] == {"error": "FL Process already exists."}


@pytest.mark.moto
def test_a_fault_of_the_node_is_an_error_without_details(node, recorded):
    """Half of a surrogate pair is a string to JSON, and none to a database; no trace goes out."""
    answer = node.upload(recorded(client_config__name="\ud800"))

    assert answer == {"error": "Internal error of the node."}
    assert node.http("GET", "/model-centric/retrieve-model", params={"name": "x"}).status_code == 404


@pytest.mark.moto
def test_without_a_version_the_newest_upload_is_meant(node, recorded):
    """Versions are words; the last one that came is the newest."""
    for version in ("0.2", "0.1"):
        node.upload(recorded(client_config__version=version))
    worker = node.worker("fixture-linear")
    answer = node.ask("cycle-request", worker.request | {"version": None})

    assert worker.accepted["version"] == "0.1"
    assert answer["version"] == "0.1"
