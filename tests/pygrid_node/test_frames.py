"""Large frames reach the node whole, small ones as ever, however the bytes come in."""

import os

import aiohttp
import pytest
from aiohttp._websocket.helpers import websocket_mask

from pygrid_node.transport.frames import LARGE, Intake, MessageTooLarge

LIMIT = 3 * LARGE
BIG = os.urandom(LARGE + 3)


class Reader:
    """Notes what aiohttp's parser would be given."""

    def __init__(self):
        self.data = b""
        self.ended = False

    def feed_data(self, data):
        assert type(data) is bytes
        self.data += data
        return False, b""

    def feed_eof(self):
        self.ended = True


def client_frame(payload, opcode=2, fin=0x80):
    """As a client sends it: with a mask."""
    mask, masked = os.urandom(4), bytearray(payload)
    websocket_mask(mask, masked)
    size = len(payload)
    if size < 126:
        head = bytes([fin | opcode, 0x80 | size])
    elif size < 2**16:
        head = bytes([fin | opcode, 0x80 | 126]) + size.to_bytes(2)
    else:
        head = bytes([fin | opcode, 0x80 | 127]) + size.to_bytes(8)
    return head + mask + bytes(masked)


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def intake(reader):
    return Intake(reader, LIMIT)


@pytest.mark.parametrize("size", [1, 7, 1000, 65_537, 10**9])
def test_small_frames_pass_as_they_are(reader, intake, size):
    """Byte for byte, control frames and parts of a message among them."""
    stream = b"".join(
        [
            client_frame(b""),
            client_frame(b"x" * 125, opcode=1),
            client_frame(b"ping", opcode=9),
            client_frame(b"y" * 300),
            client_frame(b"z" * 70_000, fin=0),
            client_frame(b"z" * (LARGE + 1), opcode=0),
        ]
    )
    if size == 1:
        stream = stream[:70_000]
    for start in range(0, len(stream), size):
        assert intake.feed_data(stream[start : start + size]) == (False, b"")

    assert reader.data == stream


@pytest.mark.parametrize("size", [13, 1000, 262_144, 10**9])
def test_a_large_frame_is_put_together(reader, intake, size):
    """A short frame that names it stands in its place; what comes around it passes."""
    before, after = client_frame(b"before"), client_frame(b"after")
    stream = before + client_frame(BIG) + after
    for start in range(0, len(stream), size):
        intake.feed_data(stream[start : start + size])
    stand_in = reader.data[len(before) : -len(after)]

    assert reader.data.startswith(before)
    assert reader.data.endswith(after)
    assert len(stand_in) < 126
    assert intake.taken(stand_in[2:]) == BIG
    assert intake.taken(stand_in[2:]) == stand_in[2:]


def test_large_frames_are_told_apart(reader, intake):
    """A client need not wait for an answer before it sends the next one."""
    bodies = [BIG, BIG[::-1]]
    for body in bodies:
        intake.feed_data(client_frame(body))
    size = len(reader.data) // 2

    assert [intake.taken(reader.data[start + 2 : start + size]) for start in (0, size)] == bodies


def test_a_frame_above_the_limit_is_read_over(reader, intake):
    """It is not kept; one of exactly the limit is."""
    for body in (bytes(LIMIT + 1), bytes(LIMIT)):
        intake.feed_data(client_frame(body))
    size = len(reader.data) // 2

    with pytest.raises(MessageTooLarge, match=str(LIMIT)):
        intake.taken(reader.data[2:size])
    assert len(intake.taken(reader.data[size + 2 :])) == LIMIT


def test_what_a_client_says_is_never_taken_for_a_large_frame(intake):
    """The names can't be guessed."""
    assert intake.taken(b"0-1") == b"0-1"


def test_the_end_is_handed_on(reader, intake):
    """A connection that breaks in the middle of a large frame ends like any other."""
    intake.feed_data(client_frame(BIG)[:-1])
    intake.feed_eof()

    assert (reader.data, reader.ended) == (b"", True)


@pytest.mark.moto
def test_messages_of_all_sizes_are_answered_in_order(node):
    """On one connection, sent before the first answer is read."""
    kinds = [size * "k" for size in (1, 200, 70_000, LARGE, 2 * LARGE + 1)]

    async def ask():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{node.address}/", max_msg_size=0) as socket,
        ):
            for kind in kinds:
                await socket.send_json({"type": kind})
            return [(await socket.receive_json(timeout=20))["error"] for _ in kinds]

    assert node.run(ask()) == [repr(kind) for kind in kinds]
