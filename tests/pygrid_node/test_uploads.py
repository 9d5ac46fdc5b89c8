"""Uploads and diffs are checked before anything is stored."""

import base64
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pygrid_node.entities import ParameterSpec
from pygrid_node.errors import InvalidRequest
from pygrid_node.long_strings import LongString
from pygrid_node.uploads import UploadLimits, check_diff, decode_diff, read_upload
from pygrid_wire import decode_state, decode_tensors, encode_state
from pygrid_wire import syft_pb2 as pb

DATA = Path(__file__).parents[1] / "data" / "pygrid" / "linear"


def nested(depth):
    """Lists within lists."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


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
    "a learning rate that is NaN": (
        {"client_config__lr": math.nan},
        "'lr' needs to be a number that fits into a float32",
    ),
    "a number in client_config that no browser reads": (
        {"client_config__more": math.nan},
        "'client_config' holds a number that is not finite",
    ),
    "name is too long": ({"client_config__name": "a" * 513}, "'name' needs to have at most 512 characters"),
    "version is too long": (
        {"client_config__version": "1" * 129},
        "'version' needs to have at most 128 characters",
    ),
    "client_config is too long": (
        {"client_config__more": ["x" * 1000] * 66},
        "'client_config' needs to have at most 65536 bytes as JSON",
    ),
    "client_config of characters that JSON escapes": (
        {"client_config__more": "\U0001f600" * 6000},
        "'client_config' needs to have at most 65536 bytes as JSON",
    ),
    "client_config is nested too deeply": (
        {"client_config__more": nested(2000)},
        "'client_config' needs to have at most 65536 bytes as JSON",
    ),
    "client_config has a string that is still in its frame": (
        {"client_config__diff": LongString(None, 0, 70_000)},
        "'client_config' needs to have at most 65536 bytes as JSON",
    ),
    "server_config is too long": (
        {"server_config__more": "x" * 66_000},
        "'server_config' needs to have at most 65536 bytes as JSON",
    ),
    "server_config holds what is not JSON": (
        {"server_config__more": math.inf},
        "'server_config' holds a number that is not finite",
    ),
    "secret is too long": (
        {"server_config__authentication": {"secret": "s" * 4097}},
        "'secret' needs to have at most 4096 characters",
    ),
    "num_cycles is a million and one": (
        {"server_config__num_cycles": 1_000_001},
        "'num_cycles' needs to be at most 1000000",
    ),
    "too many plans": (
        {"plans": {f"plan {number}": "" for number in range(10)} | {"training_plan": ""}},
        "'plans' holds 11 plans, more than 10",
    ),
    "name of a plan is too long": (
        {"plans": {"training_plan": "", "p" * 129: ""}},
        "The name of a plan needs to have at most 128 characters",
    ),
    "plan is too large": (
        {"plans": {"training_plan": "00" * (2**21 + 1)}},
        "'training_plan' has more than 2097152 bytes",
    ),
    "averaging plan is too large": (
        {"averaging_plan": "00" * (2**19 + 1)},
        "'averaging_plan' has more than 524288 bytes",
    ),
    "model of too many tensors": (
        {"model": encode_state([np.zeros(0)] * 10_001).hex()},
        "The model has 10001 tensors, more than 10000.",
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


def without_torchscript(upload):
    """The data of an upload whose plan has no TorchScript."""
    plan = pb.Plan.FromString(bytes.fromhex(upload["data"]["plans"]["training_plan"]))
    plan.ClearField("torchscript")
    return upload["data"] | {"plans": {"training_plan": plan.SerializeToString().hex()}}


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool"])
def test_phones_train_float32_only(recorded, dtype):
    """iOS writes its numbers as float32 beside those that it has downloaded, whatever the dtype is."""
    arrays = [np.zeros((1, 3), np.float32), np.zeros(1, dtype)]
    upload = recorded(model=encode_state(arrays).hex(), averaging_plan="")
    with pytest.raises(InvalidRequest) as refusal:
        read_upload(upload["data"])

    assert str(refusal.value) == (
        f"Parameter 1 of the model is {dtype}[1]; phones, for which the plan has TorchScript,"
        " train float32 only."
    )
    assert read_upload(without_torchscript(upload)).parameters[1] == ParameterSpec(dtype, (1,))


def zeros(count):
    """A state of so many zeros, int64: each has one byte."""
    return encode_state([np.zeros(count, np.int64)])


def padded(count):
    """A state of so many zeros, uint8: each has ten bytes instead of one."""
    numbers = field(16, (b"\x80" * 9 + b"\0") * count)
    contents = pb.TensorData(dtype="uint8", shape=pb.Shape(dims=[count])).SerializeToString() + numbers
    return field(2, field(1, field(2, contents)))


def field(number, contents):
    """A field of bytes, as protobuf writes it."""
    head = bytearray()
    for value in (number << 3 | 2, len(contents)):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7
        head.append(value)
    return bytes(head) + contents


def test_large_upload_of_small_numbers_is_refused_before_it_is_decoded(recorded):
    """38 MB would be 304 MB of memory, and 15 MB up to 150 MB as a later checkpoint."""
    upload = recorded(model=zeros(38_000_000).hex(), averaging_plan="")["data"]
    tracemalloc.start()
    with pytest.raises(
        InvalidRequest, match="the tensors take 304000000 bytes when decoded, more than 134217728"
    ):
        read_upload(upload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 45_000_000  # the bytes that the hexadecimal digits stand for, and a little
    with pytest.raises(InvalidRequest, match="Checkpoints of this model may have 150000000 bytes, more than"):
        read_upload(recorded(model=zeros(15_000_000).hex(), averaging_plan="")["data"])


def test_number_that_does_not_fit_its_dtype_is_refused(recorded):
    """Nothing is kept of the decoded numbers."""
    message = pb.State.FromString(encode_state([np.zeros(2, np.int8)]))
    message.tensors[0].torch_tensor.contents_data.contents_int8[1] = 128
    body = message.SerializeToString()
    with pytest.raises(InvalidRequest, match="The model can't be read: a number does not fit the dtype"):
        read_upload(recorded(model=body.hex(), averaging_plan="")["data"])
    with pytest.raises(InvalidRequest, match="The diff can't be read: a number does not fit the dtype"):
        check_diff(body, [ParameterSpec("int8", (2,))])


LIMITS = UploadLimits(model=4000, averaging=8000)


@pytest.mark.parametrize(
    ("dtype", "count"), [("float32", 980), ("float64", 490), ("float16", 980), ("int64", 390), ("bool", 1000)]
)
def test_model_may_have_as_many_numbers_as_the_limits_say(recorded, dtype, count):
    """In hexadecimal it fills half of a message; a whole number of a checkpoint may have 10 bytes."""

    def upload(numbers):
        model = encode_state([np.zeros(numbers, dtype)]).hex()
        return without_torchscript(recorded(model=model, averaging_plan=""))

    assert read_upload(upload(count), limits=LIMITS).parameters == (ParameterSpec(dtype, (count,)),)
    with pytest.raises(InvalidRequest):
        read_upload(upload(count + 30), limits=LIMITS)


def test_averaging_plan_is_refused_if_its_arrays_do_not_fit(recorded):
    """The sentence names the setting. artificienlib's own plan fits whenever the mean does."""
    upload = recorded()["data"]
    parameters = read_upload(upload).parameters
    mean = sum(math.prod(parameter.shape) for parameter in parameters) * 8

    assert read_upload(upload, limits=UploadLimits(averaging=mean + 100))
    with pytest.raises(InvalidRequest, match=f"this node has {mean - 1} .its setting MAX_AVERAGING_BYTES"):
        read_upload(upload, limits=UploadLimits(averaging=mean - 1))


def test_bytes_that_no_tensor_needs_are_neither_stored_nor_handed_out(recorded):
    """A megabyte of varints that are longer than they need to be, and such a diff."""
    with pytest.raises(InvalidRequest, match="more bytes than its tensors take"):
        read_upload(recorded(model=padded(200_000).hex(), averaging_plan="")["data"])
    with pytest.raises(InvalidRequest, match="A diff of this model has at most 1048588 bytes"):
        decode_diff(base64.b64encode(padded(200_000)).decode(), [ParameterSpec("float32", (3,))])
    with pytest.raises(InvalidRequest, match="A diff of this model has at most 1048588 bytes"):
        decode_diff("A" * 4_000_000, [ParameterSpec("float32", (3,))])


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_diff_may_have_line_ends(line_end):
    """Android's encoder ends a line after 76 characters, and the last one too."""
    parameters = [ParameterSpec.of(tensor) for tensor in decode_tensors(GOOD)]
    lines = base64.encodebytes(GOOD).decode().replace("\n", line_end)

    assert lines.count(line_end) > 1
    assert decode_diff(lines, parameters) == GOOD


def test_diff_is_not_decoded_if_it_is_larger_than_the_model():
    """A diff of a small model is at most as large as the model; numbers are checked one chunk at a time."""
    model = [ParameterSpec("int64", (100_000,))]
    body = zeros(1_000_000)
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match=r"is int64\[1000000\] instead of int64\[100000\]"):
        check_diff(body, model)
    assert tracemalloc.get_traced_memory()[1] < 400_000
    check_diff(body, [ParameterSpec("int64", (1_000_000,))])
    assert tracemalloc.get_traced_memory()[1] < 6_000_000
    tracemalloc.stop()


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


def with_float64(state):
    """The state as iOS writes it: new numbers as float32, those that it has downloaded unchanged."""
    message = pb.State.FromString(state)
    message.tensors[0].torch_tensor.contents_data.contents_float64.append(WEIGHT.astype("f8").tobytes())
    return message.SerializeToString()


PICKLE = pb.State(tensors=[pb.StateTensor(torch_tensor=pb.TorchTensor(contents_bin=b"\x80\x02."))] * 2)

BAD = {
    "not base64": ("%%%", "base64"),
    "base64 with junk in it": ("Cg8a BwjC", "base64"),
    "base64 with a carriage return": ("Cg8a\rBwjC", "base64"),
    "not ASCII": ("é", "base64"),
    "empty": (b"", "no tensors"),
    "garbage": (b"garbage not protobuf", "not a state"),
    "cut off": (GOOD[:-1], "can't be read"),
    "a pickle": (PICKLE.SerializeToString(), "pickle"),
    "a tensor less": (encode_state([WEIGHT]), "1 tensors"),
    "another shape": (encode_state([WEIGHT.T, BIAS]), r"float32\[3, 1\] instead of float32\[1, 3\]"),
    "another dtype": (encode_state([WEIGHT.astype("f8"), BIAS]), "float64"),
    "numbers of two dtypes": (with_float64(GOOD), "holds numbers in contents_float32, contents_float64"),
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
