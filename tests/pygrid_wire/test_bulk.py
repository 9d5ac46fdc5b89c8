"""Numbers cut out of a state give what protobuf would have read, and are not copied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygrid_wire import MalformedState, decode_tensors, encode_state
from pygrid_wire import syft_pb2 as pb
from pygrid_wire.bulk import cut_numbers
from pygrid_wire.state import read_state

LARGE = np.arange(5000, dtype=np.float32).reshape(50, 100)
DTYPES = ["float16", "float32", "float64", "int64", "bool"]


def by_protobuf_alone(body):
    return read_state(pb.State.FromString(bytes(body)))


def assert_same(left, right):
    assert [tensor.dtype for tensor in left] == [tensor.dtype for tensor in right]
    for one, other in zip(left, right, strict=True):
        assert np.array_equal(one.values, other.values)
        assert one.shape == other.shape


@given(st.lists(st.tuples(st.sampled_from(DTYPES), st.integers(0, 3000)), min_size=1, max_size=4))
def test_every_state_is_read_as_protobuf_reads_it(tensors):
    """Large and small, of every dtype, in any order."""
    body = encode_state([np.arange(size).astype(dtype) for dtype, size in tensors])

    assert_same(decode_tensors(body), by_protobuf_alone(body))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_large_tensors_are_views_of_the_body(kind):
    """The one copy of a model is the one that came in."""
    body = kind(encode_state([LARGE, LARGE[0, :3]]))
    large, small = decode_tensors(body)

    assert np.shares_memory(large.values, np.frombuffer(body, np.uint8))
    assert np.array_equal(large.values, LARGE)
    assert np.array_equal(small.values, LARGE[0, :3])


def test_a_parameter_is_read_like_a_tensor():
    """The other form in which torch's parameters come."""
    state = pb.State.FromString(encode_state([LARGE]))
    tensor = pb.TorchTensor()
    tensor.CopyFrom(state.tensors[0].torch_tensor)
    state.tensors[0].torch_param.tensor.CopyFrom(tensor)
    body = state.SerializeToString()
    [found] = decode_tensors(body)

    assert np.shares_memory(found.values, np.frombuffer(body, np.uint8))
    assert np.array_equal(found.values, LARGE)


def test_numbers_in_two_pieces_are_put_together():
    """Protobuf allows it; nothing is cut out then."""
    state = pb.State.FromString(encode_state([LARGE]))
    contents = state.tensors[0].torch_tensor.contents_data.contents_float32
    whole = contents[0]
    contents[:] = [whole[:8000], whole[8000:]]
    body = state.SerializeToString()

    assert cut_numbers(memoryview(body)) == (body, {})
    assert np.array_equal(decode_tensors(body)[0].values, LARGE)


def test_numbers_of_another_dtype_are_none():
    """A state that says float64 and holds float32."""
    state = pb.State.FromString(encode_state([LARGE]))
    state.tensors[0].torch_tensor.contents_data.dtype = "float64"

    with pytest.raises(MalformedState, match="0 numbers do not fill"):
        decode_tensors(state.SerializeToString())


def test_a_pickle_beside_numbers_is_refused():
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
def test_what_is_no_state_is_refused(spoil):
    """Protobuf has the last word."""
    with pytest.raises(MalformedState):
        decode_tensors(spoil(encode_state([LARGE])))


def test_fixed_size_fields_are_stepped_over_and_refused_as_unknown():
    """A state has none."""
    body = encode_state([LARGE])
    with pytest.raises(MalformedState, match="unknown"):
        decode_tensors(body + b"\x79" + b"8" * 8 + b"\x7d" + b"4" * 4)


def test_a_body_of_very_many_fields_is_left_to_protobuf():
    """Looking at each here would take minutes."""
    body = encode_state([LARGE]) + b"\x0a\x00" * 20_000

    assert cut_numbers(memoryview(body))[1] == {}


def _varint(value):
    return bytes([value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14])
