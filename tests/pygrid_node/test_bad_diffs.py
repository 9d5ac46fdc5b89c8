"""What is no good diff is refused, harms nobody, and can be followed by a good one."""

import re
from pathlib import Path

import numpy as np
import pytest

from pygrid_wire import decode_state, encode_state
from pygrid_wire import syft_pb2 as pb

pytestmark = pytest.mark.moto

DATA = Path(__file__).parents[1] / "data" / "pygrid" / "linear"
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
    """A worker in a cycle that one diff ends."""
    node.upload(recorded(server_config__max_diffs=1, server_config__num_cycles=1))
    return node.worker("fixture-linear")


def test_a_bad_diff_is_refused_and_the_cycle_ends_with_a_good_one(node, worker, master):
    """The worker keeps its place and may report again; the checkpoint is the good diff's alone."""
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


def test_a_worker_that_reports_twice_counts_once(node, recorded):
    """Of three diffs wanted, two reports of one worker are one."""
    node.upload(recorded())
    worker = node.worker("fixture-linear")
    for _ in range(5):
        assert worker.report(GOOD) == {"status": "success"}

    assert node.worker("fixture-linear").accepted["status"] == "accepted"
    assert not node.checkpoint("fixture-linear", 2).ok


def test_a_sum_that_overflows_leaves_the_model_as_it_was(node, recorded):
    """Finite diffs can still lead out of float32; the cycle ends, the model stays usable."""
    node.upload(recorded(server_config__max_diffs=1, server_config__num_cycles=2))
    huge = np.full((1, 3), -3e38, np.float32)
    node.worker("fixture-linear").report(encode_state([huge, BIAS]))
    node.worker("fixture-linear").report(encode_state([huge, BIAS]))
    while not node.checkpoint("fixture-linear", 3).ok:
        pass

    second, third = (decode_state(node.checkpoint("fixture-linear", number).content) for number in (2, 3))
    assert all(np.array_equal(old, new) for old, new in zip(second, third, strict=True))
