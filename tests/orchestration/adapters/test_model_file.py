"""The safetensors file of a trained model, which is decoded while it is read."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save

from orchestration.adapters.model_file import StreamedFile, pkl_file, safetensors_file, state_file
from orchestration.domain.errors import UnusableModel
from pygrid_wire import Tensor, encode_state, encode_tensors
from pygrid_wire import syft_pb2 as pb
from tests.builders import MODEL, a_model

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0.5], np.float64), np.array(7, np.int64)]
STATE = encode_state(ARRAYS)
DTYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


def written(state, model):
    file = safetensors_file(state, model)
    content = file.read()
    assert len(content) == file.size
    return content


@pytest.mark.parametrize("state", [STATE, bytes(range(256)) * 3000, b"\xff" * 600_001], ids=len)
def test_pkl_is_a_row_of_pickles_as_torch_saves_bytes(state):
    """`torch.load` reads magic number, version, sizes, object and keys of storages, in this order."""
    file = pkl_file(memoryview(state))
    content = file.read()
    reader = io.BytesIO(content)
    magic, version, system, loaded, storages = (pickle.load(reader) for _ in range(5))  # noqa: S301 - our own

    assert len(content) == file.size == reader.tell()
    assert (magic, version) == (0x1950A86A20F9469CFC6C, 1001)
    assert system["little_endian"] is True
    assert (loaded, storages) == (state, [])
    assert pickle.dumps(state, protocol=2)[2:14] in content


def test_parameters_keep_their_order_shape_and_type(tmp_path):
    """They are named `param_000`, `param_001`, ..."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(written(STATE, a_model(version="3")))
    with safe_open(path, framework="np") as file:
        named = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        about = file.metadata()

    assert sorted(named) == ["param_000", "param_001", "param_002"]
    assert about == {"model_id": MODEL, "version": "3"}
    for (_, array), expected in zip(sorted(named.items()), ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES), min_size=1, max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_file_is_the_one_that_the_library_writes(tensors, model_id, version):
    """The library puts the two entries of the metadata in any order."""
    arrays = [np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype) for dtype, shape in tensors]
    named = {f"param_{position:03}": array for position, array in enumerate(arrays)}
    content = written(encode_state(arrays), a_model(model_id=model_id, version=version))
    metadata = {"model_id": model_id, "version": version}
    for _ in range(100):
        if content == save(named, metadata):
            return
    raise AssertionError(content)


def test_bfloat16_is_stored_as_float32():
    """NumPy has no bfloat16."""
    values = np.array([1, -2, 0.5], np.float32)
    content = written(encode_tensors([Tensor("bfloat16", values)]), a_model())

    assert content.endswith(values.tobytes())
    assert b'"dtype":"F32"' in content


@pytest.mark.parametrize("state", [b"", b"not a state", STATE[:-3]])
def test_other_content_than_a_state_is_refused(state):
    """None of it is stored."""
    with pytest.raises(UnusableModel, match="can't be read"):
        safetensors_file(state, a_model())


def test_number_that_does_not_fit_is_found_before_anything_is_stored():
    """The last of many numbers."""
    numbers = [1] * 100_000 + [256]
    state = pb.State()
    data = state.tensors.add().torch_tensor.contents_data
    data.CopyFrom(pb.TensorData(dtype="uint8", contents_uint8=numbers, shape=pb.Shape(dims=[len(numbers)])))

    with pytest.raises(UnusableModel, match="does not fit the dtype uint8"):
        safetensors_file(state.SerializeToString(), a_model())


@pytest.mark.parametrize("dtype", ["int64", "int8", "float16", "float32", "bool"])
def test_file_is_read_without_a_second_copy_of_the_model(dtype):
    """Neither the decoded numbers nor the file are in memory as a whole."""
    state = encode_state([np.ones(4 << 20, dtype)])
    tracemalloc.start()
    file = safetensors_file(state, a_model())
    while file.read(1 << 20):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 8 << 20


PIECES = [memoryview(piece) for piece in (b"abc", b"", b"defgh", b"i", b"jklmnopq")]
WHOLE = b"".join(PIECES)
STEPS = st.one_of(
    st.tuples(st.just("read"), st.integers(1, 20), st.just(0)),
    st.tuples(st.just("seek"), st.integers(0, 20), st.just(io.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(0, 5), st.just(io.SEEK_CUR)),
    st.tuples(st.just("seek"), st.integers(-len(WHOLE), 3), st.just(io.SEEK_END)),
)


@given(st.lists(STEPS))
def test_streamed_file_behaves_like_a_file(steps):
    """A read may return less than a file in memory would, but never nothing before the end."""
    file, model = StreamedFile(len(WHOLE), lambda: PIECES), io.BytesIO(WHOLE)
    for step, number, whence in steps:
        if step == "read":
            position = model.tell()
            part = file.read(number)
            assert model.read(len(part)) == part
            assert part or position >= len(WHOLE)
        else:
            assert file.seek(number, whence) == model.seek(number, whence)
        assert file.tell() == model.tell()

    assert file.readable()
    assert file.seekable()


@pytest.mark.parametrize("kind", [bytes, memoryview])
def test_state_file_is_a_view(kind):
    """A copy would double the memory of a retrieval."""
    file = state_file(kind(STATE))

    assert (file.size, file.read()) == (len(STATE), STATE)
