"""Blobs come out as they went in, whatever their size, and are packed where that pays."""

import itertools

import numpy as np
import pytest

from pygrid_node.storage import blobs
from pygrid_node.storage.blobs import PART, Blob, Gone, pack, pack_plan, unpack_plan

RANDOM = np.random.default_rng(7)
WEIGHTS = RANDOM.normal(0, 0.05, PART).astype(np.float32).tobytes()  # four parts
NOISE = RANDOM.bytes(4 * PART)


def kept(packed):
    """The blob that a database would give back."""
    parts = dict(enumerate(packed.others, start=1))
    return Blob(packed.first, parts.get)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 65537, PART - 1, PART, PART + 1, 2 * PART, 4 * PART])
@pytest.mark.parametrize("source", [WEIGHTS, NOISE], ids=["weights", "noise"])
def test_a_blob_comes_back(source, size):
    """Whole, in parts, and again."""
    blob = kept(pack([source[:size]]))

    assert (blob.size, blob.read(), b"".join(blob)) == (size, source[:size], source[:size])
    assert bytes(blob.read()) == source[:size]


@pytest.mark.parametrize("sizes", [[1] * 10, [PART] * 3, [PART - 1, 2, PART], [3 * PART + 5, 7]])
def test_a_blob_may_come_in_any_pieces(sizes):
    """Its parts have all the same size but for the last."""
    ends = np.cumsum([0, *sizes])
    packed = pack(memoryview(NOISE)[start:end] for start, end in itertools.pairwise(ends))

    assert kept(packed).read() == NOISE[: ends[-1]]
    assert [len(part) for part in kept(packed)][:-1] == [PART] * len(packed.others)


def test_weights_are_packed():
    """To less than nine tenths, and zeros to nothing."""
    packed = pack([WEIGHTS])
    size = len(packed.first) + sum(map(len, packed.others))

    assert size < 0.9 * len(WEIGHTS)
    assert len(pack([bytes(PART)]).first) < 1000


def test_what_cant_be_packed_is_tried_once(monkeypatch):
    """The other parts of such a blob cost nothing but a copy."""
    tried = []
    shuffle = blobs._shuffle
    monkeypatch.setattr(blobs, "_shuffle", lambda part: tried.append(len(part)) or shuffle(part))
    packed = pack([NOISE])

    assert tried == [PART]
    assert len(packed.first) + sum(map(len, packed.others)) < len(NOISE) + 64


@pytest.mark.parametrize("body", [b"", b"\x0a\x02ab", WEIGHTS])
def test_a_row_of_an_older_version_is_read_as_it_is(body):
    """Nothing was packed then."""
    blob = Blob(body, lambda _: None)

    assert (blob.size, blob.read(), b"".join(blob)) == (len(body), body, body)
    assert unpack_plan(body) == body


@pytest.mark.parametrize("body", [b"", b"\x0a\x02ab", b"operation" * 40_000, NOISE])
def test_a_plan_is_one_part(body):
    """However large."""
    assert unpack_plan(pack_plan(body)) == body


def test_a_plan_is_packed():
    """It is half text."""
    assert len(pack_plan(b"operation" * 1000)) < 200


def test_a_blob_that_is_deleted_while_it_is_read_is_an_error():
    """Never a short one."""
    blob = Blob(pack([WEIGHTS]).first, lambda _: None)
    with pytest.raises(Gone):
        blob.read()
