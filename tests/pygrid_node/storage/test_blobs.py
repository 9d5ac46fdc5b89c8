"""Blobs of any size are read as they were stored, and are compressed if that saves a tenth."""

import numpy as np
import pytest
import zstandard

from pygrid_node.storage.blobs import PART, Blob, Deleted, pack, pack_plan, unpack_plan

RANDOM = np.random.default_rng(7)
WEIGHTS = RANDOM.normal(0, 0.05, PART).astype(np.float32).tobytes()  # four parts
NOISE = RANDOM.bytes(4 * PART)


def kept(packed):
    """Return the blob that a database returns."""
    parts = dict(enumerate(packed.others, start=1))
    return Blob(packed.first, parts.get)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 65537, PART - 1, PART, PART + 1, 2 * PART, 4 * PART])
@pytest.mark.parametrize("source", [WEIGHTS, NOISE], ids=["weights", "noise"])
def test_blob_is_read_as_it_was_stored(source, size):
    """It can be read as a whole, part by part, and repeatedly."""
    blob = kept(pack(source[:size]))

    assert (blob.size, blob.read(), b"".join(blob)) == (size, source[:size], source[:size])
    assert bytes(blob.read()) == source[:size]


def test_weights_are_compressed():
    """They shrink to less than nine tenths; zeros almost vanish."""
    packed = pack(WEIGHTS)
    size = len(packed.first) + sum(map(len, packed.others))

    assert size < 0.9 * len(WEIGHTS)
    assert len(pack(bytes(PART)).first) < 1000


def test_noise_is_stored_as_it_is():
    """Compressed, it would be no smaller."""
    packed = pack(NOISE)

    assert len(packed.first) + sum(map(len, packed.others)) < len(NOISE) + 64


def test_shuffled_blob_of_an_earlier_version_is_read():
    """Databases hold `\\2` and zstd of the first bytes of all numbers, of the second ones, and so on."""
    numbers = np.arange(6, dtype="<f4")
    lanes = numbers.view(np.uint8).reshape(-1, 4).T.tobytes()
    part = b"\2" + zstandard.ZstdCompressor().compress(lanes + b"end")
    first = b"\0" + (27).to_bytes(8) + part

    assert Blob(first, lambda _: None).read() == numbers.tobytes() + b"end"


@pytest.mark.parametrize("body", [b"", b"\x0a\x02ab", WEIGHTS])
def test_row_of_the_first_version_is_read_as_it_is(body):
    """The first version packed nothing."""
    blob = Blob(body, lambda _: None)

    assert (blob.size, blob.read(), b"".join(blob)) == (len(body), body, body)
    assert unpack_plan(body) == body


@pytest.mark.parametrize("body", [b"", b"\x0a\x02ab", b"operation" * 40_000, NOISE])
def test_plan_is_one_part(body):
    """Plans of any size are stored in one row."""
    assert unpack_plan(pack_plan(body)) == body


def test_plan_is_compressed():
    """Half of it is text."""
    assert len(pack_plan(b"operation" * 1000)) < 200


def test_blob_that_is_deleted_while_it_is_read_is_an_error():
    """It is never returned incomplete."""
    blob = Blob(pack(WEIGHTS).first, lambda _: None)
    with pytest.raises(Deleted):
        blob.read()
