"""An upload is kept whole or not at all."""

import math

import pytest

from pygrid_node.errors import InvalidRequest
from pygrid_node.server_config import MOST, ServerConfig
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
    "max_diffs is 0": ({"server_config__max_diffs": 0}, f"'max_diffs' {COUNT}"),
    "num_cycles is 1.5": ({"server_config__num_cycles": 1.5}, f"'num_cycles' {COUNT}"),
    "max_diffs is huge": ({"server_config__max_diffs": 2**70}, f"'max_diffs' {COUNT}"),
    "max_workers is 0": ({"server_config__max_workers": 0}, f"'max_workers' {COUNT}"),
    "min_workers is negative": ({"server_config__min_workers": -1}, f"'min_workers' {AMOUNT}"),
    "min_workers is true": ({"server_config__min_workers": True}, f"'min_workers' {AMOUNT}"),
    "more workers at least than at most": (
        {"server_config__min_workers": 6},
        "'min_workers' needs to be at most 'max_workers'",
    ),
    "more diffs at least than at most": (
        {"server_config__min_diffs": 4},
        "'min_diffs' needs to be at most 'max_diffs' and 'max_workers'",
    ),
    "min_diffs is half a diff": (
        {"server_config__min_diffs": 0.5},
        "'min_diffs' needs to be a whole number of at least 0",
    ),
    "workers rest for a text": (
        {"server_config__do_not_reuse_workers_until_cycle": "never"},
        f"'do_not_reuse_workers_until_cycle' {AMOUNT}",
    ),
    "pool_selection is unknown": (
        {"server_config__pool_selection": "best"},
        "'pool_selection' needs to be one of random, iterate",
    ),
    "cycle_length is longer than any life": (
        {"server_config__cycle_length": 1e300},
        "'cycle_length' needs to be at most 2147483647 seconds",
    ),
    "a plan for all diffs, of which there may be any number": (
        {"server_config__iterative_plan": False, "server_config__max_diffs": None},
        "'max_diffs' is required: the averaging plan takes all diffs at once",
    ),
    "a plan for all diffs, of which there may be less": (
        {"server_config__iterative_plan": False, "server_config__min_diffs": 2},
        "'min_diffs' needs to be 'max_diffs': the averaging plan takes all diffs at once",
    ),
    "cycle_length is text": ({"server_config__cycle_length": "1"}, f"'cycle_length' {AMOUNT}"),
    "cycle_length is NaN": ({"server_config__cycle_length": math.nan}, f"'cycle_length' {AMOUNT}"),
    "a learning rate that no browser reads": (
        {"client_config__lr": math.nan},
        "'client_config' holds a number that is not finite",
    ),
    "authentication by a service": (
        {"server_config__authentication": {"endpoint": "http://x"}},
        "'authentication' needs a 'secret' or a 'pub_key'",
    ),
    "authentication by a service besides": (
        {"server_config__authentication": {"secret": "s", "endpoint": "http://x"}},
        "'authentication' by an 'endpoint' is not supported by this node",
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


LIMITS = ["min_workers", "max_workers", "min_diffs", "max_diffs"]


@pytest.mark.parametrize(
    ("limits", "wanted", "needed"),
    [
        ((1, 5, None, 3), 3, 1),  # as recorded
        ((5, 5, None, 1), 1, 1),  # artificienlib's: every diff ends a cycle, however many workers it asks for
        ((4, 5, None, 5), 5, 4),
        ((4, 5, 2, 5), 5, 2),
        ((4, 5, 0, 5), 5, 1),
        ((1, 5, None, 9), 5, 1),  # nobody is left who could report a sixth
        ((None, None, None, 3), 3, 1),
        ((2, 4, None, None), 4, 2),
        ((None, None, None, None), MOST, 1),  # until its time is over
    ],
)
def test_limits_say_how_many_diffs_a_cycle_wants_and_needs(limits, wanted, needed):
    """`wanted` end a cycle at once, `needed` when its time is over."""
    given = {"num_cycles": 1, "cycle_length": 1} | dict(zip(LIMITS, limits, strict=True))
    config = ServerConfig.parse(given)

    assert (config.wanted, config.needed, config.max_workers) == (wanted, needed, limits[1])


def test_a_plan_for_all_diffs_is_never_run_with_less():
    """It has inputs for `max_diffs` of them; the time alone ends no cycle."""
    given = {"num_cycles": 1, "cycle_length": 1, "max_diffs": 3}
    config = ServerConfig.parse(given).with_all_diffs()

    assert (config.wanted, config.needed, config.diffs_at_once) == (3, 3, 3)
    assert ServerConfig.parse(given | {"iterative_plan": True}).diffs_at_once is None


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
    assert node.retrieve(params={"name": "x"}).status_code == 404


@pytest.mark.moto
def test_without_a_version_the_newest_upload_is_meant(node, recorded):
    """Versions are words; the last one that came is the newest."""
    for version in ("0.2", "0.1"):
        node.upload(recorded(client_config__version=version))
    worker = node.worker("fixture-linear")
    answer = node.ask("cycle-request", worker.request | {"version": None})

    assert worker.accepted["version"] == "0.1"
    assert answer["version"] == "0.1"
