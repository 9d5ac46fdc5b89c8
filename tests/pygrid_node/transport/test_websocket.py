"""WebSocket: pings, order, limits, and clients that disconnect."""

import json
import math
from pathlib import Path

import aiohttp
import pytest

from pygrid_node.transport.messages import AUTHENTICATE, HOST_TRAINING, REPORT

pytestmark = pytest.mark.moto

MISC = json.loads((Path(__file__).parents[2] / "data" / "pygrid" / "misc.json").read_text())


@pytest.mark.parametrize("entry", MISC["ws"], ids=lambda entry: entry["sent"]["type"])
def test_pings_are_answered_as_recorded(node, entry):
    """Clients keep their connection alive with pings, and read the node's id."""
    assert node.frames(entry["sent"]) == [entry["received"]]


def test_fragmented_message_above_the_limit_closes_its_connection(start_node):
    """The close code is 1009; each of the frames is short enough."""
    node = start_node(max_message_bytes=1000)

    async def send():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{node.address}/") as socket:
            # The first frame of a text, and two continuations.
            for head in (b"\x01", b"\x00", b"\x00"):
                frame = head + b"\xfe" + (600).to_bytes(2) + bytes(4) + b"x" * 600
                socket._response.connection.transport.write(frame)
            return (await socket.receive()).data

    assert node.run(send()) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert node.frames({"type": "socket-ping"}) == [{"alive": "True"}]


def test_message_is_answered_in_order_on_one_connection(node):
    """A client matches answers to messages by their order alone."""
    kinds = ["socket-ping", "nope", "get-id", "socket-ping"]
    answers = node.frames(*({"type": kind} for kind in kinds), "[]", "[" * 100_000)

    assert [next(iter(answer)) for answer in answers[:4]] == ["alive", "error", "id", "alive"]
    assert answers[4] == {"error": "A JSON object is expected"}
    assert "error" in answers[5]


def test_client_may_disconnect_before_its_answer(node):
    """The answer is dropped."""

    async def leave():
        async with aiohttp.ClientSession() as session:
            for _ in range(20):
                socket = await session.ws_connect(f"ws://{node.address}/")
                await socket.send_str('{"type": "model-centric/authenticate", "data": {}}')
                socket.get_extra_info("socket").shutdown(2)
                await socket.close()

    node.run(leave())

    assert node.frames({"type": "socket-ping"}) == [{"alive": "True"}]


@pytest.mark.parametrize("declared", [1001, 2**40])
def test_frame_above_the_limit_closes_its_connection_before_it_is_read(start_node, declared):
    """The close code is 1009, as soon as the frame's header has arrived; other clients are served."""
    node = start_node(max_message_bytes=1000)

    async def send():
        async with aiohttp.ClientSession() as session, session.ws_connect(f"ws://{node.address}/") as socket:
            await socket.send_str("x" * 1000)
            longest = await socket.receive_json()
            socket._response.connection.transport.write(b"\x81\xff" + declared.to_bytes(8) + bytes(4))
            return longest, (await socket.receive()).data

    longest, code = node.run(send())

    assert "Expecting value" in longest["error"]
    assert code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert node.frames({"type": "socket-ping"}) == [{"alive": "True"}]


def test_messages_of_all_sizes_are_answered_in_order(node):
    """They are sent over one connection before the first answer is read."""
    sizes = (1, 200, 60_000, 70_000, 2**20, 2**21 + 1)
    frames = [{"type": HOST_TRAINING, "data": {"model": "f" * size}} for size in sizes]

    async def ask():
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://{node.address}/", max_msg_size=0) as socket,
        ):
            for number, frame in enumerate(frames):
                await socket.send_json(frame)
                await socket.send_json({"type": str(number)})
            return [await socket.receive_json(timeout=20) for _ in range(2 * len(frames))]

    answers = node.run(ask())

    assert answers[::2] == [{"type": HOST_TRAINING, "data": {"error": "'client_config' is required"}}] * 6
    assert answers[1::2] == [{"error": repr(str(number))} for number in range(6)]


@pytest.mark.parametrize("kind", [["get-id"], {"type": "get-id"}, 5, None, True])
def test_type_that_is_no_text_is_unknown(node, kind):
    """The connection stays open."""
    answers = node.frames({"type": kind}, {"type": "socket-ping"})

    assert answers == [{"error": repr(kind)}, {"alive": "True"}]


@pytest.mark.parametrize("request_id", ["7", "é" * 128, 7, -1.5, 0, ""])
def test_request_id_is_echoed(node, request_id):
    """Newer clients find the message of an answer by it."""
    echoed = {"alive": "True", "request_id": request_id}

    assert node.frames({"type": "socket-ping", "request_id": request_id}) == [echoed]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ({"type": "socket-ping"}, {"alive": "True"}),
        ({"type": "nope"}, {"error": "'nope'"}),
        ({}, {"error": "'type'"}),
        ({"type": HOST_TRAINING}, {"error": "'data'"}),
        ({"type": REPORT, "data": {}}, {"type": REPORT, "data": {"error": "Worker ID not found!"}}),
    ],
    ids=["ping", "unknown", "no type", "no data", "refused"],
)
def test_request_id_is_echoed_with_every_answer(node, message, answer):
    """Also with an error."""
    assert node.frames(message | {"request_id": "7"}) == [answer | {"request_id": "7"}]


def test_request_id_is_echoed_with_a_success(node, recorded):
    """It stands beside `data`."""
    frames = node.frames(
        recorded() | {"request_id": "first"},
        {"type": AUTHENTICATE, "data": {"model_name": "fixture-linear"}, "request_id": 2},
    )

    assert frames[0] == {"type": HOST_TRAINING, "data": {"status": "success"}, "request_id": "first"}
    assert (frames[1]["request_id"], frames[1]["data"]["status"]) == (2, "success")


@pytest.mark.parametrize(
    "request_id", ["x" * 129, 10**128, math.nan, math.inf, True, None, ["7"], {"id": 7}, "x" * 60_000]
)
def test_other_values_are_not_echoed(node, request_id):
    """A client decides neither how large an answer is, nor whether it is JSON."""
    assert node.frames({"type": "socket-ping", "request_id": request_id}) == [{"alive": "True"}]
