import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygrid_wire import MalformedState, Tensor, decode_state, decode_tensors, encode_state, encode_tensors
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.state import read_state

DATA = Path(__file__).parents[1] / "data" / "pygrid"
RECORDED = ["linear", "mlp", "linear-noavg"]
DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]


def state(**fields):
    """A state of one tensor; `fields` are those of its contents."""
    message = pb.State()
    message.tensors.add().torch_tensor.contents_data.CopyFrom(pb.TensorData(**fields))
    return message


def floats(*numbers, dims):
    packed = np.array(numbers, "<f4").tobytes()
    return state(dtype="float32", contents_float32=[packed], shape=pb.Shape(dims=dims))


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("checkpoint", [1, 2, 3])
def test_recorded_checkpoints_are_read_as_recorded(name, checkpoint):
    """Every number is the float32 that PyGrid wrote."""
    expected = json.loads((DATA / name / "expected.json").read_text())
    body = (DATA / name / f"model.checkpoint-{checkpoint}.bin").read_bytes()

    arrays = decode_state(body)

    wanted = expected[f"checkpoint_{checkpoint}"]
    assert [list(array.shape) for array in arrays] == expected["parameter_shapes"]
    assert all(np.array_equal(array, np.float32(want)) for array, want in zip(arrays, wanted, strict=True))


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("worker", range(1, 7))
def test_recorded_diffs_survive_being_written_again(name, worker):
    """Decode, encode, decode gives the same numbers; ids are random, so bytes are not compared."""
    expected = json.loads((DATA / name / "expected.json").read_text())["workers"][worker - 1]["diff"]
    arrays = decode_state((DATA / name / f"diff-{worker}.bin").read_bytes())
    again = decode_state(encode_state(arrays))

    for array, copy, want in zip(arrays, again, expected, strict=True):
        assert array.dtype == copy.dtype == np.float32
        assert np.array_equal(array, copy)
        assert np.array_equal(array, np.float32(want))


def test_state_is_written_in_the_form_that_clients_read():
    """Contents as data, not pickle, marked for every framework; a placeholder with the shape for each."""
    message = pb.State.FromString(encode_state([np.ones((2, 3), np.float32), np.float32(1).reshape(())]))

    assert [list(each.expected_shape.dims) for each in message.placeholders] == [[2, 3], []]
    assert {each.torch_tensor.serializer for each in message.tensors} == {pb.TorchTensor.SERIALIZER_ALL}
    assert {each.torch_tensor.WhichOneof("contents") for each in message.tensors} == {"contents_data"}
    assert len({each.id.id_int for each in message.placeholders}) == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_every_dtype_with_a_field_comes_back_as_it_was(dtype, shape):
    """Shape, dtype and numbers stay the same, also of a scalar and of an empty tensor."""
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    [again] = decode_state(encode_state([array]))

    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert np.array_equal(again, array)


def test_bfloat16_is_calculated_as_float32_and_rounded_when_it_changes():
    """1 + 2^-8 lies between two bfloat16; half-way goes to the even one."""
    [tensor] = decode_tensors(encode_tensors([Tensor("bfloat16", np.ones(3, np.float32))]))
    changed = tensor.with_values(np.array([1 + 2**-8, 1 + 3 * 2**-8, np.inf]))

    assert (tensor.dtype, tensor.values.dtype) == ("bfloat16", np.float32)
    assert changed.values.tolist() == [1.0, 1 + 2**-6, np.inf]


def test_whole_numbers_are_rounded_when_they_change():
    """A step of 0.6 changes an integer by one."""
    assert Tensor("int32", np.array([1])).with_values(np.array([1.6])).values.tolist() == [2]


def test_parameter_is_read_like_a_tensor():
    """A state may hold `torch_param` instead of `torch_tensor`."""
    message = pb.State()
    message.tensors.add().torch_param.tensor.CopyFrom(floats(1, dims=[1]).tensors[0].torch_tensor)

    assert decode_state(message.SerializeToString())[0].tolist() == [1]


def test_packed_field_may_come_in_pieces():
    """Protobuf allows a packed field to be split anywhere between two numbers."""
    pieces = [np.array([number], "<f4").tobytes() for number in (1, 2)]
    message = state(dtype="float32", contents_float32=pieces, shape=pb.Shape(dims=[2]))

    assert decode_state(message.SerializeToString())[0].tolist() == [1, 2]


def with_pickle():
    message = pb.State()
    message.tensors.add().torch_tensor.contents_bin = b"\x80\x02."
    return message


def with_placeholders(count):
    message = floats(1, dims=[1])
    for _ in range(count):
        message.placeholders.add()
    return message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage not protobuf", id="garbage"),
        pytest.param(floats(1, dims=[1]).SerializeToString() + b"\x00", id="trailing-zero"),
        pytest.param(floats(1, dims=[1]).SerializeToString() + b"\x1a\x01x", id="trailing-field"),
        pytest.param(floats(1, dims=[1]).SerializeToString()[:-1], id="cut-off"),
        pytest.param(floats(1, 2, dims=[3]).SerializeToString(), id="too-few-numbers"),
        pytest.param(floats(1, 2, dims=[]).SerializeToString(), id="too-many-for-a-scalar"),
        pytest.param(floats(1, dims=[-1, -1]).SerializeToString(), id="negative-dimensions"),
        pytest.param(floats(dims=[2**31 - 1] * 4).SerializeToString(), id="huge-shape"),
        pytest.param(state(dtype="complex64").SerializeToString(), id="unknown-dtype"),
        pytest.param(state(dtype="float32", is_quantized=True).SerializeToString(), id="quantized"),
        pytest.param(
            state(dtype="float32", contents_float32=[b"abc"]).SerializeToString(), id="part-of-a-float"
        ),
        pytest.param(
            state(dtype="uint8", contents_uint8=[300], shape=pb.Shape(dims=[1])).SerializeToString(),
            id="too-big-for-the-dtype",
        ),
        pytest.param(with_pickle().SerializeToString(), id="pickle"),
        pytest.param(pb.State(tensors=[pb.StateTensor()]).SerializeToString(), id="no-contents"),
        pytest.param(with_placeholders(2).SerializeToString(), id="placeholders-without-tensors"),
    ],
)
def test_unusable_state_is_refused(body):
    """Any bytes give a state or `MalformedState`."""
    with pytest.raises(MalformedState):
        decode_state(body)


def test_floats_that_are_not_packed_are_refused():
    """No client of proto3 writes them; read as unknown fields, they must not pass for an empty tensor."""
    contents = state(dtype="float32", shape=pb.Shape(dims=[0])).tensors[0].torch_tensor.contents_data
    unpacked = b"\xb5\x01" + np.float32(1).tobytes()  # field 22, 4 bytes
    message = pb.State()
    message.tensors.add().torch_tensor.contents_data.ParseFromString(contents.SerializeToString() + unpacked)

    with pytest.raises(MalformedState, match="unknown"):
        decode_state(message.SerializeToString())


def test_array_without_a_field_is_not_written():
    """The format has no field for complex numbers."""
    with pytest.raises(MalformedState, match="complex64"):
        encode_state([np.ones(1, np.complex64)])


def test_names_of_syft_stay_free():
    """syft's own generated classes may be loaded in the same process: no name of theirs is registered."""
    assert pb.DESCRIPTOR.package == "pygrid_wire"


LARGE = np.arange(5000, dtype=np.float32).reshape(50, 100)
CUT_OR_NOT = ["float16", "float32", "float64", "int64", "bool"]


def by_protobuf_alone(body):
    return read_state(pb.State.FromString(bytes(body)))


def assert_same(left, right):
    assert [tensor.dtype for tensor in left] == [tensor.dtype for tensor in right]
    for one, other in zip(left, right, strict=True):
        assert np.array_equal(one.values, other.values)
        assert one.shape == other.shape


@given(st.lists(st.tuples(st.sampled_from(CUT_OR_NOT), st.integers(0, 3000)), min_size=1, max_size=4))
def test_every_state_is_read_as_protobuf_reads_it(tensors):
    """Large and small, of every dtype, in any order."""
    body = encode_state([np.arange(size).astype(dtype) for dtype, size in tensors])

    assert_same(decode_tensors(body), by_protobuf_alone(body))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_large_tensors_are_views_of_the_body(kind):
    """A received model is not copied."""
    body = kind(encode_state([LARGE, LARGE[0, :3]]))
    large, small = decode_tensors(body)

    assert np.shares_memory(large.values, np.frombuffer(body, np.uint8))
    assert np.array_equal(large.values, LARGE)
    assert np.array_equal(small.values, LARGE[0, :3])


def test_large_parameter_is_a_view_of_the_body():
    """torch's parameters have another form than its tensors."""
    state = pb.State.FromString(encode_state([LARGE]))
    tensor = pb.TorchTensor()
    tensor.CopyFrom(state.tensors[0].torch_tensor)
    state.tensors[0].torch_param.tensor.CopyFrom(tensor)
    body = state.SerializeToString()
    [found] = decode_tensors(body)

    assert np.shares_memory(found.values, np.frombuffer(body, np.uint8))
    assert np.array_equal(found.values, LARGE)


def test_numbers_in_two_pieces_are_put_together():
    """Protobuf allows it; such numbers are not cut out."""
    state = pb.State.FromString(encode_state([LARGE]))
    contents = state.tensors[0].torch_tensor.contents_data.contents_float32
    whole = contents[0]
    contents[:] = [whole[:8000], whole[8000:]]
    body = state.SerializeToString()
    [found] = decode_tensors(body)

    assert not np.shares_memory(found.values, np.frombuffer(body, np.uint8))
    assert np.array_equal(found.values, LARGE)


def test_numbers_of_another_dtype_are_none():
    """The state declares float64 and holds float32."""
    state = pb.State.FromString(encode_state([LARGE]))
    state.tensors[0].torch_tensor.contents_data.dtype = "float64"

    with pytest.raises(MalformedState, match=r"a tensor of float64 holds numbers in contents_float32$"):
        decode_tensors(state.SerializeToString())


@pytest.mark.parametrize("size", [0, 3, 5000], ids=lambda size: f"{size} numbers")
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("other", ["uint8", "float64", "qint8", "bfloat16"])
def test_tensor_with_numbers_in_two_fields_is_refused(size, dtype, other):
    """SwiftSyft writes float32 numbers and leaves those that it has downloaded, whatever the dtype is."""
    state = pb.State.FromString(encode_state([np.zeros(size, dtype)]))
    contents = state.tensors[0].torch_tensor.contents_data
    more = pb.TensorData(**{f"contents_{other}": [b"\0" * 80] if "float" in other else [0] * 80})
    contents.MergeFrom(more)
    body = state.SerializeToString()

    with pytest.raises(MalformedState, match=f"a tensor of {dtype} holds numbers in .*contents_{other}"):
        decode_tensors(body)


def test_pickle_beside_numbers_is_refused():
    """The last of two alternatives counts, as it does for protobuf."""
    body = pb.State.FromString(encode_state([LARGE])).tensors[0].torch_tensor.SerializeToString()
    tensor = body + pb.TorchTensor(contents_bin=b"pickle").SerializeToString()
    state = pb.State()
    state.tensors.add().torch_tensor.id.id_int = 1
    torch = b"\x0a" + _varint(len(tensor)) + tensor
    with pytest.raises(MalformedState, match="pickle"):
        decode_tensors(b"\x12" + _varint(len(torch)) + torch)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:-1],
        lambda body: body[: len(body) // 2],
        lambda _: b"\xff" * 20_000,
        lambda _: b"\x13" * 20_000,
        lambda body: b"\x12\xff\xff\xff\xff\x0f" + body,
        lambda body: body + b"\x09\x01",
        lambda body: body + b"\x0d\x01",
    ],
    ids=["cut by one", "half", "endless number", "groups", "length beyond the end", "half a 64", "half a 32"],
)
def test_other_bytes_than_a_state_are_refused(spoil):
    """Protobuf decides."""
    with pytest.raises(MalformedState):
        decode_tensors(spoil(encode_state([LARGE])))


def test_fixed_size_fields_are_stepped_over_and_refused_as_unknown():
    """A state has no such fields."""
    body = encode_state([LARGE])
    with pytest.raises(MalformedState, match="unknown"):
        decode_tensors(body + b"\x79" + b"8" * 8 + b"\x7d" + b"4" * 4)


def test_body_of_very_many_fields_is_left_to_protobuf():
    """Parsing each field in Python would take minutes."""
    body = encode_state([LARGE, *[np.float32(0)] * 12_000])
    first, *rest = decode_tensors(body)

    assert not np.shares_memory(first.values, np.frombuffer(body, np.uint8))
    assert len(rest) == 12_000


def _varint(value):
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14])


def of_packed(dtype, contents, dims, *, beside=b""):
    """A state of one tensor with these bytes in its packed field, large enough to be cut out."""
    field = pb.TensorData.DESCRIPTOR.fields_by_name[f"contents_{dtype}"].number
    data = pb.TensorData(dtype=dtype, shape=pb.Shape(dims=dims)).SerializeToString()
    body = data + beside + framed(field, contents)
    for number in (2, 1, 2):  # contents_data, torch_tensor, tensors
        body = framed(number, body)
    return framed(1, framed(5, b"x" * 4096)) + body  # a placeholder with a long description


def framed(number, contents):
    return varint(number << 3 | 2) + varint(len(contents)) + contents


def varint(value):
    value &= 2**64 - 1
    octets = []
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*octets, value])


WHOLE = ["uint8", "int8", "int16", "int32", "int64", "bool"]
NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, 127, 128, 255, 256, -1, -128, -129, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63)]
    ),
    st.integers(-(2**63), 2**64 - 1),
)


@given(st.sampled_from(WHOLE), st.lists(NUMBERS, min_size=64, max_size=100), st.integers(0, 3))
def test_packed_whole_numbers_are_read_as_protobuf_reads_them(dtype, numbers, spare):
    """Any 64 bits, of which protobuf may keep 32, also in more bytes than needed."""
    contents = b"".join(padded(varint(number), spare) for number in numbers)
    body = of_packed(dtype, contents, [len(numbers)])
    try:
        expected = by_protobuf_alone(body)
    except MalformedState:
        with pytest.raises(MalformedState, match="does not fit"):
            decode_tensors(body)
    else:
        assert_same(decode_tensors(body), expected)


def padded(octets, spare):
    spare = min(spare, 10 - len(octets))
    return octets if not spare else octets[:-1] + bytes([octets[-1] | 0x80, *[0x80] * (spare - 1), 0])


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("form", ["packed", "one by one"])
def test_many_whole_numbers_are_written_and_read_as_protobuf_does(dtype, form):
    """Numbers of every length lie across the borders of the chunks. A column is not contiguous."""
    limits = np.iinfo(dtype) if dtype != "bool" else np.iinfo("uint8")
    random = np.random.default_rng(1)
    numbers = random.integers(limits.min, limits.max, (300_000, 2), limits.dtype, endpoint=True)
    numbers >>= random.integers(0, limits.bits, numbers.shape, limits.dtype)
    column = numbers.astype(dtype)[:, 1]
    body = encode_state([column])
    written = getattr(pb.State.FromString(body).tensors[0].torch_tensor.contents_data, f"contents_{dtype}")

    assert np.array_equal(np.array(written, dtype), column)
    assert np.array_equal(decode_tensors(body)[0].values, column)


@pytest.mark.parametrize(
    "contents",
    [b"\x01" * 99 + b"\x80", b"\x80" * 100, b"\x01" * 80 + b"\xff" * 10 + b"\x01" * 20],
    ids=["cut off", "endless", "more than 64 bits"],
)
@pytest.mark.parametrize("count", [99, 100])
def test_other_bytes_than_packed_numbers_are_refused(contents, count):
    """As protobuf refuses them."""
    with pytest.raises(MalformedState):
        decode_tensors(of_packed("int64", contents, [count]))


MANY = 4 << 20
ONE_BYTE_EACH = encode_state([np.zeros(MANY, np.int64)])


def hidden_in_a_placeholder(body):
    tensor = pb.TensorData(dtype="int64", contents_int64=[0] * MANY).SerializeToString()
    return framed(1, framed(1, framed(2, tensor))) + body


REFUSED = {
    "whole numbers": (ONE_BYTE_EACH, f"{8 * MANY} bytes"),
    "small shape": (of_packed("int64", bytes(MANY), [1]), f"{MANY} numbers do not fill"),
    "large shape": (of_packed("int64", bytes(100), [MANY]), "100 numbers do not fill"),
    "shape too large for an array": (of_packed("int64", bytes(100), [2**31 - 1] * 64), "no array"),
    "very many dimensions": (of_packed("int64", bytes(100), [2**31 - 1] * 100_000), "no array"),
    "another field": (of_packed("float32", bytes(400), [100], beside=framed(20, bytes(MANY))), "besides"),
    "two fields": (of_packed("int64", bytes(MANY), [2 * MANY], beside=framed(20, bytes(MANY))), "besides"),
    "one by one": (of_packed("int64", bytes(100), [MANY], beside=b"\xa0\x01\x00" * MANY), "besides"),
    "in a placeholder": (hidden_in_a_placeholder(encode_state([LARGE])), "besides"),
    "very many tensors": (encode_state([np.zeros(8)]) * 40_000, "besides"),
    "very many nothings": (framed(2, b"") * MANY, "besides"),
    "very many fields in each of many tensors": (framed(2, b"\x10\x00" * 5000) * 200, "besides"),
    "twice": (ONE_BYTE_EACH * 2, f"{16 * MANY} bytes"),
}


@pytest.mark.parametrize(("body", "reason"), REFUSED.values(), ids=REFUSED)
def test_state_larger_than_allowed_is_refused_before_anything_is_allocated(body, reason):
    """A number of 8 bytes has one byte on the wire, protobuf makes dozens of an empty message."""
    code = f"""
import sys
from pygrid_wire import MalformedState, decode_state, decode_tensors
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
body = sys.stdin.buffer.read()
before = peak()
for decode in (decode_tensors, decode_state):
    try:
        decode(body, {8 * MANY - 1})
    except MalformedState as error:
        print(error)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], input=body, capture_output=True, check=True)  # noqa: S603
    *reasons, grown = done.stdout.decode().splitlines()

    assert len(reasons) == 2
    assert all(reason in each for each in reasons)
    assert int(grown) < 60_000  # kB


def test_state_as_large_as_allowed_is_decoded():
    """The numbers of all tensors are added."""
    body = encode_state([np.ones(1000, np.int64), np.ones(1000, np.float16), np.ones(1000, np.bool_)])

    assert len(decode_state(body, 11_000)) == 3
    with pytest.raises(MalformedState, match="11000 bytes when decoded, more than 10999"):
        decode_state(body, 10_999)


@pytest.mark.parametrize("dtype", ["int64", "float16", "bool", "bfloat16"])
def test_decoding_and_encoding_need_the_numbers_once(dtype):
    """Besides the wire form and the decoded one, a few megabytes."""
    tensor = Tensor(dtype, np.ones(MANY, "f4" if dtype == "bfloat16" else dtype))
    size = tensor.values.nbytes
    tracemalloc.start()
    body = encode_tensors([tensor])
    encoding = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    [again] = decode_tensors(body)
    decoding = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert np.array_equal(again.values, tensor.values)
    assert encoding < 1.13 * len(body) + (6 << 20)
    assert decoding < len(body) + size + (6 << 20)
