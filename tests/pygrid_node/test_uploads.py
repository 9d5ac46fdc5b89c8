"""Uploads and diffs are checked before anything is stored."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from pygrid_node.errors import InvalidRequest
from pygrid_node.uploads import read_upload
from pygrid_wire import decode_state, encode_state
from pygrid_wire import syft_pb2 as pb

DATA = Path(__file__).parents[1] / "data" / "pygrid" / "linear"

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
    "min_workers above max_workers": (
        {"server_config__min_workers": 6},
        "'min_workers' needs to be at most 'max_workers'",
    ),
    "min_diffs above max_diffs": (
        {"server_config__min_diffs": 4},
        "'min_diffs' needs to be at most 'max_diffs' and 'max_workers'",
    ),
    "min_diffs is half a diff": (
        {"server_config__min_diffs": 0.5},
        "'min_diffs' needs to be a whole number of at least 0",
    ),
    "do_not_reuse_workers_until_cycle is text": (
        {"server_config__do_not_reuse_workers_until_cycle": "never"},
        f"'do_not_reuse_workers_until_cycle' {AMOUNT}",
    ),
    "pool_selection is unknown": (
        {"server_config__pool_selection": "best"},
        "'pool_selection' needs to be one of random, iterate",
    ),
    "cycle_length is too large": (
        {"server_config__cycle_length": 1e300},
        "'cycle_length' needs to be at most 2147483647 seconds",
    ),
    "a plan for all diffs without max_diffs": (
        {"server_config__iterative_plan": False, "server_config__max_diffs": None},
        "'max_diffs' is required: the averaging plan takes all diffs at once",
    ),
    "a plan for all diffs with min_diffs below max_diffs": (
        {"server_config__iterative_plan": False, "server_config__min_diffs": 2},
        "'min_diffs' needs to be 'max_diffs': the averaging plan takes all diffs at once",
    ),
    "cycle_length is text": ({"server_config__cycle_length": "1"}, f"'cycle_length' {AMOUNT}"),
    "cycle_length is NaN": ({"server_config__cycle_length": math.nan}, f"'cycle_length' {AMOUNT}"),
    "a learning rate that no browser reads": (
        {"client_config__lr": math.nan},
        "'client_config' holds a number that is not finite",
    ),
    "authentication by an endpoint": (
        {"server_config__authentication": {"endpoint": "http://x"}},
        "'authentication' needs a 'secret' or a 'pub_key'",
    ),
    "authentication by a secret and an endpoint": (
        {"server_config__authentication": {"secret": "s", "endpoint": "http://x"}},
        "'authentication' by an 'endpoint' is not supported by this node",
    ),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_wrong_upload_is_refused_with_a_sentence(recorded, changes, sentence):
    """The sentence names the field."""
    with pytest.raises(InvalidRequest) as refusal:
        read_upload(recorded(**changes)["data"])

    assert str(refusal.value) == sentence


@pytest.mark.moto
def test_refused_upload_leaves_the_name_free(node, recorded):
    """artificienlib tries once more automatically; only a success takes the name."""
    answers = [
        node.upload(recorded(model="ffff")),
        node.upload(recorded(averaging_plan=None)),
        node.upload(recorded()),
        node.upload(recorded()),
    ]

    assert ["error" in answer for answer in answers] == [True, True, False, True]
    assert answers[3] == {"error": "FL Process already exists."}


@pytest.mark.moto
def test_without_a_version_the_newest_upload_is_used(node, recorded):
    """Versions are texts; the newest upload is the one that arrived last."""
    for version in ("0.2", "0.1"):
        node.upload(recorded(client_config__version=version))
    worker = node.worker("fixture-linear")
    answer = node.ask("cycle-request", worker.request | {"version": None})

    assert worker.accepted["version"] == "0.1"
    assert answer["version"] == "0.1"


GOOD = (DATA / "diff-1.bin").read_bytes()
WEIGHT, BIAS = decode_state(GOOD)
PICKLE = pb.State(tensors=[pb.StateTensor(torch_tensor=pb.TorchTensor(contents_bin=b"\x80\x02."))] * 2)

BAD = {
    "not base64": ("%%%", "base64"),
    "base64 with junk in it": ("Cg8a\nBwjC", "base64"),
    "not ASCII": ("é", "base64"),
    "empty": (b"", "no tensors"),
    "garbage": (b"garbage not protobuf", "not a state"),
    "cut off": (GOOD[:-1], "can't be read"),
    "a pickle": (PICKLE.SerializeToString(), "pickle"),
    "a tensor less": (encode_state([WEIGHT]), "1 tensors"),
    "another shape": (encode_state([WEIGHT.T, BIAS]), r"float32\[3, 1\] instead of float32\[1, 3\]"),
    "another dtype": (encode_state([WEIGHT.astype("f8"), BIAS]), "float64"),
    "not a number": (encode_state([WEIGHT * np.nan, BIAS]), "finite"),
    "infinite": (encode_state([WEIGHT, BIAS * 0 - np.float32(np.inf)]), "finite"),
}


@pytest.fixture
def worker(node, recorded):
    """A worker in a cycle that ends with one diff."""
    node.upload(recorded(server_config__max_diffs=1, server_config__num_cycles=1))
    return node.worker("fixture-linear")


@pytest.mark.moto
def test_invalid_diff_is_refused_and_the_cycle_ends_with_a_valid_one(node, worker, orchestrator):
    """The worker may report again, and the checkpoint contains the valid diff only."""
    for what, (diff, complaint) in BAD.items():
        answer = worker.report(diff)
        assert re.search(complaint, answer["error"]), what
    assert not node.checkpoint("fixture-linear", 2).ok

    assert worker.report(GOOD) == {"status": "success"}
    assert worker.report(GOOD) == {"status": "success"}
    while not node.checkpoint("fixture-linear", 2).ok:
        pass
    old, new = (decode_state(node.checkpoint("fixture-linear", number).content)[0] for number in (1, 2))
    assert np.array_equal(new, (old.astype("f8") - WEIGHT).astype("f4"))


@pytest.mark.moto
def test_worker_that_reports_twice_counts_once(node, recorded):
    """Its later reports are answered with success and change nothing."""
    node.upload(recorded())
    worker = node.worker("fixture-linear")
    for _ in range(5):
        assert worker.report(GOOD) == {"status": "success"}

    assert node.worker("fixture-linear").accepted["status"] == "accepted"
    assert not node.checkpoint("fixture-linear", 2).ok


@pytest.mark.moto
def test_sum_that_overflows_leaves_the_model_unchanged(node, recorded):
    """Finite diffs can overflow float32; the cycle ends and the model stays usable."""
    node.upload(recorded(server_config__max_diffs=1, server_config__num_cycles=2))
    huge = np.full((1, 3), -3e38, np.float32)
    node.worker("fixture-linear").report(encode_state([huge, BIAS]))
    node.worker("fixture-linear").report(encode_state([huge, BIAS]))
    while not node.checkpoint("fixture-linear", 3).ok:
        pass

    second, third = (decode_state(node.checkpoint("fixture-linear", number).content) for number in (2, 3))
    assert all(np.array_equal(old, new) for old, new in zip(second, third, strict=True))
